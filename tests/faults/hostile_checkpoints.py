"""Checkpoints that nobody's training wrote."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

Make = Callable[[Path, Path, Path, Path], object]  # the file to make, a good run, a file of others, the file to own


class Case(NamedTuple):
    """How a file is made; `wrong`: it is whole and harmless, but its content is not; `resume`: only that would see."""

    make: Make
    wrong: bool = False
    resume: bool = False


class Evil:
    """Pickled, it is the call of a function."""

    def __init__(self, function: Callable, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def sign(path: Path) -> None:
    """A checksum file that fits."""
    path.with_name(path.name + ".sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def loaded(good: Path) -> dict[str, Any]:
    return torch.load(good / "last.pth", weights_only=True)


def evil(call: Callable[[Path], Evil], part: str, path: Path, good: Path, secret: Path, owned: Path) -> None:
    """A checkpoint in which a part calls a function."""
    torch.save(loaded(good) | {part: call(owned)}, path)
    sign(path)


def old_evil(path: Path, good: Path, secret: Path, owned: Path) -> None:
    content = loaded(good) | {"meta": Evil(os.system, f"touch {owned}")}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    sign(path)


def bare_evil(path: Path, good: Path, secret: Path, owned: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Evil(os.system, f"touch {owned}")}, protocol=2))
    sign(path)


def script(path: Path, good: Path, secret: Path, owned: Path) -> None:
    """A zip as torch's own, with code beside the data."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(Evil(os.system, f"touch {owned}")))
        archive.writestr("archive/code/__torch__.py", f"import os\nos.system('touch {owned}')\n")
        archive.writestr("archive/version", "3\n")
    sign(path)


def rezipped(change: Callable[[zipfile.ZipFile, str, bytes], object], path: Path, good: Path, *_: Path) -> None:
    """The entries of a good checkpoint, put into another zip."""
    with zipfile.ZipFile(good / "last.pth") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            change(target, entry.filename, source.read(entry))
    sign(path)


def deflate(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    target.writestr(name, content, zipfile.ZIP_DEFLATED)


def bomb(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    """The first weights are 4 GB of zeros in 4 MB."""
    if not name.endswith("data/0"):
        target.writestr(name, content)
        return
    with target.open(zipfile.ZipInfo(name), "w", force_zip64=True) as plain:
        plain.write(content)
    info = zipfile.ZipInfo("last/data/zeros")
    info.compress_type = zipfile.ZIP_DEFLATED
    with target.open(info, "w", force_zip64=True) as stream:
        for _ in range(64):
            stream.write(bytes(1 << 22))


def outwards(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    target.writestr(name, content)
    target.writestr(f"../../../{Path(name).name}", content)
    target.writestr(f"/tmp/../{Path(name).name}", content)


def twice(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    import warnings

    target.writestr(name, content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.writestr(name, content[::-1])


def claims(path: Path, good: Path, secret: Path, owned: Path) -> None:
    """Weights that say they are 4 TB, in a file of some kilobytes."""
    content = loaded(good)
    torch.save(content | {"model": {"w": torch.zeros(7)}}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                for end in (b"tq", b"\x85q"):  # of the storage and of the tensor in it
                    assert b"K\x07" + end in data
                    data = data.replace(b"K\x07" + end, b"\x8a\x08" + struct.pack("<q", 1 << 40) + end, 1)
            target.writestr(entry.filename, data)
    sign(path)


def foreign(name: str, path: Path, good: Path, secret: Path, owned: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        if name:
            archive.writestr(name, "<xml/>")
    sign(path)


def content(data: bytes, path: Path, good: Path, secret: Path, owned: Path) -> None:
    path.write_bytes(data)
    sign(path)


def link(target: str, path: Path, good: Path, secret: Path, owned: Path) -> None:
    path.symlink_to(str(secret) if target == "secret" else target)


def pipe(path: Path, good: Path, secret: Path, owned: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, good: Path, secret: Path, owned: Path) -> None:
    path.mkdir()
    (path / "data.pkl").write_bytes(b"x")


def odd_sidecar(make: Make, path: Path, good: Path, secret: Path, owned: Path) -> None:
    """A damaged checkpoint beside a checksum file that is none."""
    path.write_bytes((good / "last.pth").read_bytes()[:-100])
    make(path.with_name(path.name + ".sha256"), good, secret, owned)


def changed(change: Callable[[dict[str, Any]], object], path: Path, good: Path, secret: Path, owned: Path) -> None:
    """A good state, changed."""
    state = loaded(good)
    change(state)
    torch.save(state, path)
    sign(path)


def deep(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


SYSTEM = partial(evil, lambda owned: Evil(os.system, f"touch {owned}"))
EVIL: dict[str, Callable[[Path], Evil]] = {
    "eval": lambda owned: Evil(eval, f"open({str(owned)!r}, 'w')"),
    "exec": lambda owned: Evil(exec, f"open({str(owned)!r}, 'w')"),
    "open": lambda owned: Evil(open, str(owned), "w"),
    "getattr": lambda owned: Evil(getattr, Evil(__import__, "os"), "system"),
    "import": lambda owned: Evil(__import__, "antigravity"),
    "torch.load": lambda owned: Evil(torch.hub.load, str(owned.parent), "owned"),
    "partial": lambda owned: Evil(partial, os.system, f"touch {owned}"),
    "remove": lambda owned: Evil(os.remove, str(owned.parent.parent / "secret")),
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)

MAKERS: dict[str, Case] = {
    f"{part} runs a command": Case(partial(SYSTEM, part)) for part in ("model", "config", "ranks")
}
MAKERS |= {f"{name} is called": Case(partial(evil, call, "meta")) for name, call in EVIL.items()}
MAKERS |= {
    "pickle of old": Case(old_evil),
    "bare pickle": Case(bare_evil),
    "script": Case(script),
    "deflated": Case(partial(rezipped, deflate)),
    "deflated bomb": Case(partial(rezipped, bomb)),
    "entries that lead out": Case(partial(rezipped, outwards)),
    "entries twice": Case(partial(rezipped, twice)),
    "weights of terabytes": Case(claims),
    "foreign zip": Case(partial(foreign, "word/document.xml")),
    "empty zip": Case(partial(foreign, "")),
    "empty": Case(partial(content, b"")),
    "text": Case(partial(content, b"hello")),
    "gzip": Case(partial(content, gzip.compress(b"x" * 1000))),
    "picture": Case(partial(content, PNG)),
    "link to a file of others": Case(partial(link, "secret")),
    "link to itself": Case(partial(link, "last.pth")),
    "endless": Case(partial(link, "/dev/zero")),
    "pipe": Case(pipe),
    "folder": Case(folder),
    "checksum is a pipe": Case(partial(odd_sidecar, pipe)),
    "checksum is endless": Case(partial(odd_sidecar, partial(link, "/dev/zero"))),
    "checksum is a folder": Case(partial(odd_sidecar, folder)),
}


def wrong(part: str, value: Any, resume: bool = False) -> Case:
    """A state whose part, or whose entry of a part, is another value."""

    def change(state: dict[str, Any]) -> None:
        section, _, key = part.partition(".")
        if key:
            state[section][key] = value
        else:
            state[section] = value
        state["ema"] = state["ema"] and state["model"]  # or its weights would be taken

    return Case(partial(changed, change), wrong=True, resume=resume)


MAKERS |= {
    "config nested deeply": wrong("config", deep(150)),
    "config of another version": wrong("config.nothere", 1),
    "config names a path": wrong("config.model", {"name": "../../evil"}),
    "config names a module": wrong("config.model", {"name": "os:system"}),
    "config is a list": wrong("config", [1, 2]),
    "meta is a text": wrong("meta", "classes"),
    "model is a list": wrong("model", [torch.zeros(2)]),
    "weights of another shape": wrong("model", {"layers.0.weight": torch.zeros(1 << 10, 3)}),
    "weights that are no tensors": wrong("model", {"layers.0.weight": "text"}),
    "format is a text": wrong("format", "1"),
    "step is a text": wrong("progress.step", "many", resume=True),
    "progress of another version": wrong("progress.nothere", 1, resume=True),
    "progress is empty": wrong("progress", {}, resume=True),
    "position beyond the epoch": wrong("progress.batch", 10**9, resume=True),
    "negative epoch": wrong("progress.epoch", -5, resume=True),
    "no random numbers": wrong("ranks", [{}], resume=True),
    "random numbers of another kind": wrong("ranks", [{"random": {"python": 1}, "window": {}}], resume=True),
    "optimizer of another network": wrong("update", {"model": {}}, resume=True),
    "no fingerprint": wrong("fingerprint", None, resume=True),
}
