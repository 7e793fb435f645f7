"""Tar shards of small grey digits, and the same pictures in class folders, for tests."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["digits", "png", "write_shard"]

Sample = tuple[str, Mapping[str, bytes]]  # a key, and the content of each file by its ending


def write_shard(path: Path, samples: Sequence[Sample], form: int = tarfile.USTAR_FORMAT) -> Path:
    """Write a shard as the webdataset package does: a sample's files one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for key, files in samples:
            for ending, content in files.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def png(label: int, number: int, side: int = 8) -> bytes:
    """A grey picture that is brighter the higher its label."""
    noise = np.random.default_rng(number).integers(0, 40, (side, side))
    content = io.BytesIO()
    Image.fromarray((noise + 20 * label).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def digits(folder: Path, shards: int = 3, samples: int = 20, val: int = 1) -> Path:
    """Shards train-000000.tar, … and val-000000.tar, …, of pictures, labels and JSON."""
    for number in range(shards + val):
        split, place = ("train", number) if number < shards else ("val", number - shards)
        first = number * samples
        content = [
            (
                f"{i:06}",
                {"png": png(i % 4, i), "cls": b"%d" % (i % 4), "json": json.dumps({"name": f"c{i % 4}"}).encode()},
            )
            for i in range(first, first + samples)
        ]
        write_shard(folder / f"{split}-{place:06}.tar", content)
    return folder
