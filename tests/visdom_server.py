"""Servers for the Visualizer's tests: visdom's own, in a process on loopback and without its downloads, and an odd one.

python visdom_server.py PORT FOLDER      FOLDER holds the saved environments
"""

import base64
import contextlib
import http.server
import io
import json
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
from PIL import Image

PATIENCE = 15  # s, for what should take a fraction of one


def wait_for(condition):
    """Whether it comes true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.03)
    return False


class Server:
    """visdom's server, to be started and killed again and again at one port."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None

    def start(self):
        command = [sys.executable, __file__, str(self.port), str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert wait_for(lambda: self.post("env_state", {}) is not None)
        return self

    def kill(self):
        """End it, and lose all it knew."""
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def post(self, path, message):
        """The server's answer, None without one."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", json.dumps(message).encode())
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=5) as answer:
                return json.loads(answer.read())
        except OSError:
            return None

    def windows(self, env):
        return self.post("win_data", {"win": None, "eid": env}) or {}

    def traces(self, env, window):
        """{name: (x, y)} of a window of curves, empty if there is none."""
        data = self.windows(env).get(window, {"content": {"data": []}})["content"]["data"]
        return {trace["name"]: (trace["x"], trace["y"]) for trace in data}

    def picture(self, env, window):
        """The uint8 [H, W, 3] of a window."""
        encoded = self.windows(env)[window]["content"]["src"].removeprefix("data:image/png;base64,")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


class _Odd(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        body = self.server.text.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def odd_server(port=0):
    """A server in a thread that answers every POST with its `status` and `text`, and remembers the paths."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Odd)
    server.daemon_threads = True
    server.paths, server.status, server.text = [], 200, "[]"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def main():
    sys.modules["torch"] = None  # visdom's client half imports it where it can; the server has no use for it
    from visdom.server import run_server

    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    run_server.start_server(port=int(sys.argv[1]), base_url="", env_path=sys.argv[2], bind_local=True)


if __name__ == "__main__":
    main()
