"""Data files that nobody's camera took and no library wrote."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tests.faults.hostile_checkpoints import Evil

Make = Callable[[Path, Path, Path], object]  # the folder of the trial, a file of others, the file to own

POEMS = ["poetry", "--model.embedding=4", "--model.width=4", "--data.dataset.root=data", "--data.dataset.length=8"]
MNIST = ["--data.dataset=MNIST", "--data.dataset.root=data", "--model=MLP"]
CIFAR = ["--data.dataset=CIFAR10", "--data.dataset.root=data", "--model=MLP"]
PHOTOS = ["--data.dataset=DogCat", "--train-data-root=data", "--model=MLP", "--batch-size=2"]
DIGITS = ["digit_recognizer", "--data.dataset.root=data"]
WEIGHTS = ["--model=MLP", "--load-model-path=data/weights.pth"]


class Case(NamedTuple):
    """Flags, how the folder data is filled, the exit code; `later`: it is read while training, not before."""

    arguments: list[str]
    make: Make
    code: int = 3
    later: bool = False


# Arrays and poems


def arrays(inside: Path, **given: np.ndarray) -> Path:
    path = inside / "data" / "tang.npz"
    np.savez(path, **given)
    return path


def pickled_words(inside: Path, secret: Path, owned: Path) -> None:
    words = np.array([Evil(os.system, f"touch {owned}")], dtype=object)
    arrays(inside, data=np.zeros((2, 9), np.int64), ix2word=words)


def pickled_rows(inside: Path, secret: Path, owned: Path) -> None:
    rows = np.array([Evil(os.system, f"touch {owned}")], dtype=object)
    arrays(inside, data=rows, ix2word=np.array(["a", "b"]))


def cut(inside: Path, secret: Path, owned: Path) -> None:
    path = arrays(inside, data=np.zeros((2, 9), np.int64), ix2word=np.array(["a", "b"]))
    path.write_bytes(path.read_bytes()[:-50])


def flipped(inside: Path, secret: Path, owned: Path) -> None:
    path = arrays(inside, data=np.zeros((2, 9), np.int64), ix2word=np.array(["a", "b"]))
    content = bytearray(path.read_bytes())
    content[150] ^= 1
    path.write_bytes(content)


def header(text: str, inside: Path, secret: Path, owned: Path) -> None:
    """An array whose head is that text."""
    head = text.replace("OWNED", str(owned)).encode().ljust(118) + b"\n"
    entry = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head
    with zipfile.ZipFile(inside / "data" / "tang.npz", "w") as archive:
        archive.writestr("data.npy", entry)
        archive.writestr("ix2word.npy", entry)


def outwards(inside: Path, secret: Path, owned: Path) -> None:
    path = arrays(inside, words=np.zeros(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../../evil.npy", b"x")


def poem(content: bytes, inside: Path, secret: Path, owned: Path) -> None:
    (inside / "data" / "poet.tang.0.json").write_bytes(content)


def linked(name: str, inside: Path, secret: Path, owned: Path) -> None:
    (inside / "data" / name).symlink_to(secret)


def pipe(name: str, inside: Path, secret: Path, owned: Path) -> None:
    os.mkfifo(inside / "data" / name)


# Published sets


def idx(images: bytes, labels: bytes, inside: Path, secret: Path, owned: Path) -> None:
    for part in ("train", "t10k"):
        (inside / "data" / f"{part}-images-idx3-ubyte.gz").write_bytes(images)
        (inside / "data" / f"{part}-labels-idx1-ubyte.gz").write_bytes(labels)


def head(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def zeros(megabytes: int) -> bytes:
    """So many, in a thousandth of it: gzip goes on where a member ends."""
    return gzip.compress(bytes(1 << 20)) * megabytes


LABELS = gzip.compress(head(0x801, 4) + bytes(4))
IMAGES = gzip.compress(head(0x803, 4, 28, 28) + bytes(4 * 28 * 28))


def batches(inside: Path, secret: Path, owned: Path) -> None:
    """CIFAR's own files are pickles: these are others."""
    folder = inside / "data" / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps(Evil(os.system, f"touch {owned}")))


def archive(inside: Path, secret: Path, owned: Path) -> None:
    with tarfile.open(inside / "data" / "cifar-10-python.tar.gz", "w:gz") as target:
        for name in ("../../evil", "/tmp/../evil", "cifar-10-batches-py/../../../evil"):
            info = tarfile.TarInfo(name)
            info.size = 4
            target.addfile(info, io.BytesIO(b"evil"))


# Pictures, tables, weights


def photo(name: str, content: bytes, inside: Path, secret: Path, owned: Path) -> None:
    """It lies among good ones."""
    from PIL import Image

    for i in range(6):
        for kind in ("cat", "dog"):
            Image.new("RGB", (8, 8), (i * 20, 0, 0)).save(inside / "data" / f"{kind}.{i}.jpg")
    for i in range(20):
        path = inside / "data" / f"{name}.{i}.jpg"
        path.unlink(missing_ok=True)
        if content == b"pipe":
            os.mkfifo(path)
        elif content == b"link":
            path.symlink_to(secret)
        else:
            path.write_bytes(content)


def huge_picture() -> bytes:
    """A PNG of some kilobytes that says it is 50,000 pixels wide and high."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )


def table(text: bytes, inside: Path, secret: Path, owned: Path) -> None:
    (inside / "data" / "train.csv").write_bytes(text)


def weights(inside: Path, secret: Path, owned: Path) -> None:
    torch.save({"layers.0.weight": Evil(os.system, f"touch {owned}")}, inside / "data" / "weights.pth")


def weights_of_others(inside: Path, secret: Path, owned: Path) -> None:
    (inside / "data" / "weights.pth").symlink_to(secret)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(owned) (w) file closefile\n%%EOF\n"
SHAPE = "{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776,), }"
CODE = "{'descr': '<i8', 'fortran_order': False, 'shape': (__import__('os').system('touch OWNED'),), }"

CASES = {
    "pickled words": Case(POEMS, pickled_words),
    "pickled rows": Case(POEMS, pickled_rows),
    "cut archive of arrays": Case(POEMS, cut),
    "flipped bit in an array": Case(POEMS, flipped),
    "array of terabytes": Case(POEMS, partial(header, SHAPE)),
    "code in an array's head": Case(POEMS, partial(header, CODE)),
    "array entries that lead out": Case(POEMS, outwards),
    "JSON nested deeply": Case(POEMS, partial(poem, b"[" * 100_000)),
    "JSON of another shape": Case(POEMS, partial(poem, json.dumps({"paragraphs": "x"}).encode())),
    "JSON that is binary": Case(POEMS, partial(poem, bytes(range(256)))),
    "JSON that is a pipe": Case(POEMS, partial(pipe, "poet.tang.0.json")),
    "JSON that is a link": Case(POEMS, partial(linked, "poet.tang.0.json")),
    "gzip bomb": Case(MNIST, partial(idx, gzip.compress(head(0x803, 4, 28, 28)) + zeros(2000), LABELS)),
    "gzip cut": Case(MNIST, partial(idx, IMAGES[:-20], LABELS)),
    "gzip damaged": Case(MNIST, partial(idx, IMAGES[:30] + b"\xff" + IMAGES[31:], LABELS)),
    "not gzip": Case(MNIST, partial(idx, b"hello", LABELS)),
    "another magic number": Case(MNIST, partial(idx, gzip.compress(head(0x901, 4, 28, 28)), LABELS)),
    "billions of images": Case(
        MNIST, partial(idx, gzip.compress(head(0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1)), LABELS)
    ),
    "more than the head says": Case(MNIST, partial(idx, IMAGES + zeros(1), LABELS)),
    "labels that are none": Case(MNIST, partial(idx, IMAGES, gzip.compress(head(0x801, 4) + b"\xff" * 4))),
    "idx pipe": Case(MNIST, partial(pipe, "train-labels-idx1-ubyte")),
    "CIFAR pickles": Case(CIFAR, batches),
    "CIFAR archive that leads out": Case(CIFAR, archive),
    "PostScript picture": Case(PHOTOS, partial(photo, "cat", EPS), later=True),
    "HTML picture": Case(PHOTOS, partial(photo, "cat", b"<svg onload=alert(1)>"), later=True),
    "huge picture": Case(PHOTOS, partial(photo, "dog", huge_picture()), later=True),
    "picture that is a pipe": Case(PHOTOS, partial(photo, "cat", b"pipe"), later=True),
    "picture that is a link": Case(PHOTOS, partial(photo, "dog", b"link"), later=True),
    "table with NUL bytes": Case(DIGITS, partial(table, b"label,p0\n1,\0\n")),
    "table with an open quote": Case(DIGITS, partial(table, b'label,p0\n1,"' + b"9" * 300_000)),
    "table of others": Case(DIGITS, partial(linked, "train.csv")),
    "weights that run a command": Case(WEIGHTS, weights, 4),
    "weights of others": Case(WEIGHTS, weights_of_others, 4),
}


def filled(make: Make, inside: Path, secret: Path, owned: Path) -> None:
    (inside / "data").mkdir()
    make(inside, secret, owned)


MAKERS = {name: case._replace(make=partial(filled, case.make)) for name, case in CASES.items()}
