"""Contact sheets of the worst: pairs of copies side by side, and the darkest, brightest and smallest pictures."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from data._broken import quiet
from data.looking.findings import Finding, Look, Sample, Twin
from data.looking.pictures import extremes
from utils.errors import PictureError
from utils.figures.gallery import Row, draw_gallery
from utils.images import read_image
from utils.words import count_of

__all__ = ["SHEETS", "draw_sheets"]

SHEETS = ("duplicates.png", "leaks.png", "two_labels.png", "extremes.png", "unreadable.png")
SIDE, FRAME = 160, 5  # pixels of a picture on a sheet, and of the frame that pairs have in common
PAIRS, SINGLE = 24, 8  # of a row
CELL = 1.45  # inches
WIDTH = 21  # letters below a picture
GREY = (225, 225, 225)
COLOURS = ((31, 119, 180), (255, 127, 14))  # of neighbouring pairs
OF = {"duplicates.png": ("duplicates", "near duplicates"), "leaks.png": ("leak",), "two_labels.png": ("two labels",)}
Memory = Mapping[tuple[str, str], Tensor]  # pictures that lie in memory, by split and name: uint8 [C, H, W]


def draw_sheets(folder: Path, findings: Sequence[Finding], looks: Mapping[str, Look], memory: Memory) -> list[str]:
    """Draw the sheets for which there is something to show, remove older ones, and return their names."""
    with quiet():
        return [name for name in SHEETS if _draw(name, folder, findings, looks, memory)]


def _draw(name: str, folder: Path, findings: Sequence[Finding], looks: Mapping[str, Look], memory: Memory) -> bool:
    """Draw a sheet; without anything to show, remove an older one."""
    if name in OF:
        title, rows = f"{name.split('.')[0].replace('_', ' ')}: pairs in frames of one colour", []
        for finding in findings:
            if finding.kind in OF[name] and (twins := [t for t in finding.twins if _shown(t, memory)]):
                pairs = count_of(finding.count, "pair") + (f", {PAIRS} of them" if len(twins) > PAIRS else "")
                rows.append(_pairs(f"{finding.where}, {finding.kind}: {pairs}", twins, memory))
    elif name == "extremes.png":
        title = "the darkest, the brightest and the smallest pictures"
        rows = [_singles(kind, paths, looks) for kind, paths in extremes(looks, SINGLE).items() if paths]
    else:
        title, rows = "files that cannot be read", _unreadable(findings, looks)
    if rows:
        draw_gallery(title, rows, folder / name, cell=CELL)
    else:
        (folder / name).unlink(missing_ok=True)
    return bool(rows)


def _shown(twin: Twin, memory: Memory) -> bool:
    return all(one.path or (one.split, one.name) in memory for one in (twin.one, twin.other))


def _pairs(title: str, twins: Sequence[Twin], memory: Memory) -> Row:
    pictures, captions = [], []
    for number, twin in enumerate(twins[:PAIRS]):
        colour = COLOURS[(number + number // 4) % 2]  # four pairs a line: no neighbour has the same
        for sample in (twin.one, twin.other):
            pictures.append(_framed(_of_sample(sample, memory), colour))
            label = "" if sample.label is None else f": {sample.label}"
            captions.append([f"{sample.split}{label}", *_two_lines(sample.name)])
    return Row(title, pictures, captions)


def _singles(kind: str, paths: Sequence[str], looks: Mapping[str, Look]) -> Row:
    pictures = [_framed(read_image(path), (255, 255, 255)) for path in paths]
    captions = []
    for path in paths:
        look = looks[path]
        light = f"{look.size[0]} x {look.size[1]}, light {sum(look.means) / 3:.2f}"
        captions.append([light, *_two_lines(path)])
    return Row(kind, pictures, captions)


def _unreadable(findings: Sequence[Finding], looks: Mapping[str, Look]) -> list[Row]:
    """Return a row for each reason, with as much of the pictures as can be read."""
    rows = []
    for finding in findings:
        if finding.kind.startswith("unreadable"):
            names = finding.names[:SINGLE]
            title = f"{finding.where}, {finding.kind.partition(': ')[2]}: {count_of(finding.count, 'file')}"
            sizes = [f"{os.path.getsize(name):,} bytes" if os.path.exists(name) else "gone" for name in names]
            lines = [[size, *_two_lines(name)] for name, size in zip(names, sizes, strict=True)]
            rows.append(Row(title, [_framed(_rest(name), GREY) for name in names], lines))
    return rows


def _two_lines(name: str) -> list[str]:
    """Return a file's folder and name, or a name in two parts."""
    folder, file = os.path.split(name)
    if folder and len(file) <= WIDTH:
        return [os.path.basename(folder), file]
    return [file[:WIDTH], file[WIDTH : 2 * WIDTH]] if len(file) > WIDTH else [file]


def _rest(path: str) -> Image.Image:
    """Return the part of a picture that can be read, or an empty one."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        return read_image(path)
    except PictureError:
        return Image.new("RGB", (SIDE, SIDE), GREY)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _of_sample(sample: Sample, memory: Memory) -> Image.Image:
    if not sample.path:
        pixels = memory[sample.split, sample.name].cpu().numpy()
        return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).convert("RGB")
    try:
        return read_image(sample.path)
    except PictureError:  # it is gone by now
        return Image.new("RGB", (SIDE, SIDE), GREY)


def _framed(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Return a picture in the middle of a white square, in a frame."""
    inner = SIDE - 2 * FRAME
    way = Image.Resampling.NEAREST if max(image.size) < inner / 2 else Image.Resampling.BICUBIC
    square = ImageOps.pad(image, (inner, inner), way, color="white")
    return np.asarray(ImageOps.expand(square, FRAME, colour)).transpose(2, 0, 1)
