"""A headless Chromium for tests of pages, driven through its DevTools."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request

PATIENCE = 30  # s, for what should take a few
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium():
    """The path of the browser, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page; `failures` are the addresses that could not be loaded, and what the page's scripts complained of."""

    def __init__(self, folder, size=(1280, 1000)):
        import websocket

        switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        switches += ["--remote-allow-origins=*", "--disable-dev-shm-usage", "--disable-background-networking"]
        window = f"--window-size={size[0]},{size[1]}"
        command = [find_chromium(), *switches, window, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.failures, self.requests, self.numbers = [], [], itertools.count(1)
        port = wait_until(lambda: (folder / "DevToolsActivePort").read_text().split()[0], OSError, IndexError)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = json.loads(direct.open(f"http://127.0.0.1:{port}/json", timeout=PATIENCE).read())
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.socket = websocket.create_connection(address, timeout=PATIENCE, http_no_proxy=["127.0.0.1"])
        for domain in ("Network", "Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """The answer to a command; events that come before it are looked at."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def open(self, address):
        self.call("Page.navigate", url=address)

    def evaluate(self, script):
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def wait_for(self, script, wanted=True):
        """Until the expression has the value; fails with what it has instead."""
        end = time.monotonic() + PATIENCE
        while (value := self.evaluate(script)) != wanted:
            assert time.monotonic() < end, f"{script} is {value}; {self.failures}"
            time.sleep(0.1)

    def screenshot(self, path):
        """A PNG of what is seen."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait()

    def _note(self, message):
        about = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            case "Network.responseReceived" if about["response"]["status"] >= 400:
                self.failures.append(f"{about['response']['status']} {about['response']['url']}")
            case "Network.loadingFailed" if not about.get("canceled"):
                self.failures.append(about["errorText"])
            case "Runtime.exceptionThrown":
                self.failures.append(about["exceptionDetails"].get("exception", {}).get("description", "exception"))
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                self.failures.append(about["entry"]["text"] + " " + about["entry"].get("url", ""))


def wait_until(find, *errors):
    """What `find` gives, once it does not raise one of these errors."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return find()
        except errors:
            assert time.monotonic() < end
            time.sleep(0.05)
