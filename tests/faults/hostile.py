"""Files, names and texts made by someone who means harm: nothing in them is run, nothing is written elsewhere."""

import json
import re
import resource
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.faults import hostile_checkpoints, hostile_data
from tests.faults.campaign import Family, Trial, require
from tests.faults.children import HANG, Child, Hook, check_sentence, forked, reap
from tests.faults.runs import DIGITS, PLAIN, RUN, prepare, reference

MEMORY = 3 << 29  # B that reading a file of some kilobytes may take: 1.5 GiB
OWNED = "owned"  # the file that hostile code makes
SHORT = [*(argument for argument in DIGITS if "epoch" not in argument), "--max-epoch=1", "--train.save_steps=5"]

RUN_NAMES = [
    "../x",
    "..",
    ".",
    "a/../../x",
    "/tmp/x",
    "a\nb",
    "~/x",
    "$(touch owned)",
    "`id`",
    "a;b",
    "-rf",
    "a b",
    "C:x",
]
IDS = ["../../evil", "/tmp/../evil", "a/../../../evil", "..", "../masks-evil/x", "a\0b", "x" * 300, "con\n../../evil"]
TEXTS = [
    "<script>fetch('http://evil')</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "</div><script>alert(1)</script>",
    '"><script>alert(1)</script>',
    "'><img src=x>",
    "<body onload=alert(1)>",
    "<b>bold</b>",
    "&lt;script&gt;alert(1)&lt;/script&gt;<script>",
    "<scr<script>ipt>alert(1)</script>",
    "<!-- --><script>alert(1)</script>",
    "<style>@import 'evil'</style>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<input autofocus onfocus=alert(1)>",
    "\u003cscript\u003ealert(1)\u003c/script\u003e",
    "<br><script>",
    "<form action=http://evil><button>",
    "<" * 1000,
]


def cases() -> list[tuple[str, str | int]]:
    """Each file, text and name once."""
    found: list[tuple[str, str | int]] = [("checkpoint", name) for name in hostile_checkpoints.MAKERS]
    found += [("data", name) for name in hostile_data.MAKERS] + [("text", i) for i in range(len(TEXTS))]
    return found + [("run", i) for i in range(len(RUN_NAMES))] + [("id", i) for i in range(len(IDS))]


def trial(t: Trial) -> str:
    kind, which = cases()[t.seed % len(cases())]
    inside = t.folder / "inside"
    inside.mkdir()
    (t.folder / "secret").write_text("of others")
    broken = [BROKEN[t.broken]] if t.broken else []
    TRIALS[kind](t, inside, which, broken)
    require(not list(t.folder.rglob(OWNED)), "code from a file was run")
    others = sorted(path.name for path in t.folder.iterdir())
    require(others == ["inside", "secret"], f"written outside: {others}")
    require((t.folder / "secret").read_text() == "of others", "a file outside was changed")
    return f"{kind}: {which}" if isinstance(which, str) else kind


def spend_little() -> None:
    """In a child: memory for what is read, not for what it claims to be."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


# Checkpoints


def checkpoint(t: Trial, inside: Path, name: str, broken: list[Hook]) -> None:
    """Under every name it is refused; as the newest only, the one before it is used."""
    case = hostile_checkpoints.MAKERS[name]
    run, good = inside / RUN, reference(SHORT) / RUN
    shutil.copytree(good, run)
    alone = t.rng.random() < 0.5 and not case.wrong and name != "folder"  # which cannot be replaced
    for file in ["last.pth"] if alone else ["last.pth", "previous.pth", "best.pth"]:
        for path in (run / file, run / f"{file}.sha256"):
            path.unlink(missing_ok=True)
        case.make(run / file, good, t.folder / "secret", inside / OWNED)
    command = ["train", f"--resume={RUN}"] if alone or case.resume else [t.rng.choice(("val", "test")), str(RUN)]
    if command[0] == "train":
        command.append("--train.max_epoch=2")
    before = set(inside.rglob("*"))
    child = Child(inside, command, [spend_little, *broken])
    child.wait(HANG / 4)
    if alone:
        require(child.code == 0 and "passed over" in child.out(), f"no fall-back: {child.code} {child.err()[-500:]}")
    elif case.wrong:
        # Whole and signed, as this project might have written it: what resume can make sense of, it may.
        codes = (0, 2, 4) if case.resume else (2, 4)
        require(child.code in codes, f"exit code {child.code}, not {codes}: {child.err()[-500:]}")
        require("Traceback" not in child.err(), f"a traceback: {child.err()[-500:]}")
    else:
        check_sentence(child, 4, str(RUN))
        new = set(inside.rglob("*")) - before
        require(all(path.is_relative_to(run) for path in new), f"written: {new}")


# Data


def data(t: Trial, inside: Path, name: str, broken: list[Hook]) -> None:
    """It is refused in a sentence, before any run begins."""
    case = hostile_data.MAKERS[name]
    case.make(inside, t.folder / "secret", inside / OWNED)
    child = Child(inside, ["train", "--run=a", *case.arguments, *PLAIN, "--train.max_steps=2"], [spend_little, *broken])
    child.wait(HANG / 4)
    check_sentence(child, case.code)
    require(case.later or not (inside / "checkpoints").exists(), "a run began with it")


# Names


def run_name(t: Trial, inside: Path, which: int, broken: list[Hook]) -> None:
    child = Child(inside, ["train", *SHORT, f"--run={RUN_NAMES[which]}", "--train.max_steps=1"], broken)
    child.wait()
    require(not list(inside.iterdir()), f"made: {list(inside.rglob('*'))[:3]}")
    check_sentence(child, 2, "--run=", lines=len(RUN_NAMES[which].splitlines()))


def sample_id(t: Trial, inside: Path, which: int, broken: list[Hook]) -> None:
    """A prediction's picture goes by its sample's id, and stays below the folder of the table."""

    def write() -> None:
        import torch

        from trainer.submission.write import write_pictures
        from utils.errors import UserError

        for hook in broken:
            hook()
        target = inside / "run" / "submission.csv"
        target.parent.mkdir()
        try:
            write_pictures(target, {IDS[which]: {"mask": torch.zeros(4, 4, dtype=torch.uint8)}})
        except UserError:
            return

    require(reap(forked(write, inside / "words")) == 0, f"a traceback: {(inside / 'words').read_text()[-400:]}")
    written = [path for path in inside.rglob("*.png") if not path.resolve().is_relative_to(inside / "run")]
    require(not written, f"written outside the run folder: {written}")


# Texts


def text(t: Trial, inside: Path, which: int, broken: list[Hook]) -> None:
    """Sent to the dashboard as the name of a window and a curve, as a line, a label, a page: it stays text."""
    log = inside / "posts"

    def show() -> None:
        for hook in broken:
            hook()
        send(TEXTS[which], log)

    require(reap(forked(show, inside / "words")) == 0, f"it broke: {(inside / 'words').read_text()[-400:]}")
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    require(len(sent) > 4, f"only {len(sent)} messages were sent: nothing is tested")
    for message in sent:
        for place, value in strings(message):
            if place.rpartition(".")[2] not in ("win", "eid"):  # addresses, which nobody shows
                require("<" not in value.replace("<br>", ""), f"{place} is sent as {value[:200]!r}")


def send(words: str, log: Path) -> None:
    """In a child: fill a dashboard whose server is a thread that writes down what it gets."""
    import torch

    from utils.visualize import Visualizer

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with open(log, "a") as stream:
                stream.write(json.dumps(json.loads(body)) + "\n")
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    board = Visualizer(words, port=server.server_address[1])
    board.plot(words, 1.0)
    board.curve("loss", words, 1, 2.0)
    board.log(words, win=words)
    board.images(words, torch.zeros(1, 4, 4))
    board.heatmap("confusion", torch.eye(2), [words, "b"])
    board.text(words, win="page", opts={"title": words})
    board.close(20)


def strings(value: object, place: str = "") -> list[tuple[str, str]]:
    """Every text in a message, and where it stands."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in strings(item, f"{place}.{key}")]
    if isinstance(value, list):
        return [found for item in value for found in strings(item, place)]
    return [(place, value)] if isinstance(value, str) else []


TRIALS: dict[str, Callable[[Trial, Path, object, list[Hook]], None]] = {
    "checkpoint": checkpoint,
    "data": data,
    "run": run_name,
    "id": sample_id,
    "text": text,
}


# Broken on purpose


def pickles_run() -> None:
    """Checkpoints and weights are unpickled as they are."""
    import torch

    own = torch.load
    torch.load = lambda *args, **kwargs: own(*args, **{**kwargs, "weights_only": False})


def arrays_run() -> None:
    """Arrays of objects are unpickled."""
    import numpy

    own = numpy.load
    numpy.load = lambda *args, **kwargs: own(*args, **{**kwargs, "allow_pickle": True})


def any_zip() -> None:
    """Whatever has the right checksum is read."""
    from trainer.checkpointing import store as checkpoint

    checkpoint._damage = lambda path, content: ""


def any_name() -> None:
    """A run may be called anything."""
    from utils.runs import folder as run_folder

    run_folder.LEGAL = re.compile(r"(?s).*")


def not_escaped() -> None:
    """Texts go to the browser as they are."""
    import html

    html.escape = lambda words, quote=True: words


BROKEN = {
    "pickles unpickled": pickles_run,
    "arrays of objects unpickled": arrays_run,
    "compressed checkpoints read": any_zip,
    "any run name": any_name,
    "texts not escaped": not_escaped,
}

FAMILY = Family(
    "hostile",
    "hostile files: checkpoints (pickles that run code, bombs, odd entries, links, pipes), archives and other data, "
    "HTML sent to the dashboard, path tricks in names and ids",
    "nothing run, nothing written outside the run folder, one sentence each",
    lambda: len(cases()),
    trial,
    tuple(BROKEN),
    prepare,
)
