"""Small data of four kinds, and what is done to them: as much as their meaning allows."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.faults.meaning_pictures import MASKS, PICTURES

__all__ = ["ALTERED", "KINDS", "Alteration", "make"]

Alter = Callable[[Path, Random], object]  # the folder data/ of the trial


class Alteration(NamedTuple):
    """What is done; which ends are right: same, told, refused; what data.txt must tell where figures differ."""

    alter: Alter
    ends: str
    tells: str = ""


def make(kind: str, data: Path) -> None:
    """Fill the folder with the data of this kind, without any alteration."""
    {"table": _make_table, "folders": _make_folders, "pictures": _make_folders, "masks": _make_masks}[kind](data)


KINDS = ("table", "folders", "pictures", "masks")

# Tables

HEADER = ["id", "area", "price", "zone", "built", "y"]


def _make_table(data: Path) -> None:
    rng, rows = random.Random(0), []
    for i in range(150):
        y = rng.random() < 0.5
        built = f"{rng.randint(1950, 2020)}-{rng.randint(1, 12):02}-{rng.randint(13, 28)}"
        area, price = rng.randint(1200, 9000) + 500 * y, rng.randint(100, 999) / 10
        rows.append([i + 1, area, price, rng.choice("uvw"), built, int(y)])
    data.mkdir()
    write(data, [HEADER, *([str(cell) for cell in row] for row in rows)])


def read(data: Path) -> list[list[str]]:
    """Return the cells of the table, the header first."""
    return [line.split(",") for line in (data / "train.csv").read_text().splitlines()]


def write(data: Path, rows: list[list[str]], sign: str = ",", end: str = "\n", before: str = "") -> None:
    lines = [sign.join(f'"{cell}"' if sign in cell else cell for cell in row) for row in rows]
    (data / "train.csv").write_bytes((before + end.join(lines) + end).encode())


def cell(words: list[str], columns: list[int]) -> Alter:
    """Return the alteration of one cell: one of the words, in which {} stands for the cell itself."""

    def alter(data: Path, rng: Random) -> None:
        rows = read(data)
        row, column = rows[rng.randrange(1, len(rows))], rng.choice(columns)
        row[column] = rng.choice(words).replace("{}", row[column])
        write(data, rows)

    return alter


def column(number: int, change: Callable[[str], str], sign: str = ",") -> Alter:
    """Return the alteration of each cell in a column, in a file with this separator."""

    def alter(data: Path, rng: Random) -> None:
        head, *rows = read(data)
        write(data, [head, *([*row[:number], change(row[number]), *row[number + 1 :]] for row in rows)], sign)

    return alter


def header(change: Callable[[str], str]) -> Alter:
    def alter(data: Path, rng: Random) -> None:
        head, *rows = read(data)
        write(data, [[change(name) for name in head], *rows])

    return alter


def order(data: Path, rng: Random) -> None:
    chosen = rng.sample(range(len(HEADER)), len(HEADER))
    write(data, [[row[i] for i in chosen] for row in read(data)])


def separator(data: Path, rng: Random) -> None:
    sign = rng.choice(";\t|")
    write(data, read(data), sign, before=f"sep={sign}\n" if rng.random() < 0.3 else "")


def ends(data: Path, rng: Random) -> None:
    path = data / "train.csv"
    write(data, read(data), end="\r\n", before=rng.choice(["", "\n\n"]))
    path.write_bytes(path.read_bytes() + rng.choice([b"", b"\r\n\r\n", b",,,,,\r\n"]))


def recoded(encoding: str) -> Alter:
    def alter(data: Path, rng: Random) -> None:
        path = data / "train.csv"
        path.write_text(path.read_text(), encoding=encoding)

    return alter


def doubled(data: Path, rng: Random) -> None:
    rows = read(data)
    write(data, [*rows, rng.choice(rows[1:])])


def cut(data: Path, rng: Random) -> None:
    rows = read(data)
    rows[rng.randrange(1, len(rows))].pop()
    write(data, rows)


def day_first(sign: str) -> Callable[[str], str]:
    return lambda text: sign.join(reversed(text.split("-")))


EITHER = "same refused"
GAPS = ["?", "inf", "-inf", "NaN", "n/a", "", "NULL", "#N/A", "-", "none", "missing", "<NA>"]
FEATURES = {"area": "flat", "price": "cost", "zone": "quarter", "built": "when"}
TABLES = {
    "a gap": Alteration(cell(GAPS, [1, 2]), "told", r"\b1 gap\b"),
    "odd text among numbers": Alteration(cell(["abc", "12 m", "~{}", "0x1F", "{}*"], [1, 2]), "told refused", "1 gap"),
    "a number with thousands": Alteration(cell(["1,234.5", "1.234,5", "1 234"], [1, 2]), "told refused", "1 gap"),
    "a gap among categories": Alteration(cell(["?", "NaN", ""], [3]), "told", "4 categories|1 unknown text"),
    "a gap in a date": Alteration(cell(["?", "NaN", ""], [4]), "told refused", r"\b1 gap\b"),
    "a cell written otherwise": Alteration(cell([" {} ", '"{}"', "+{}", "{}e0", "0{}"], [1, 2]), "same"),
    "spaces around": Alteration(cell([" {} ", '"{}"', "{}  "], [0, 3, 4, 5]), "same"),
    "a target that is none": Alteration(cell(["", "?", "NaN", "inf", "null"], [5]), "refused"),
    "thousands": Alteration(column(1, lambda text: f'"{int(text):,}"'), "same refused"),
    "thousands in a European file": Alteration(column(1, lambda t: f"{int(t):,}".replace(",", "."), ";"), EITHER),
    "decimal comma": Alteration(column(2, lambda text: text.replace(".", ","), ";"), "same refused"),
    "quoted numbers": Alteration(column(2, lambda text: f'"{text}"'), "same"),
    "another name": Alteration(header(lambda name: FEATURES.get(name, name)), "same"),
    "upper case": Alteration(header(lambda name: name.upper() if name in FEATURES else name), "same"),
    "upper case of all": Alteration(header(str.upper), "refused"),
    "quoted header": Alteration(header(lambda name: f'"{name}"'), "same"),
    "spaces in the header": Alteration(header(lambda name: f" {name} "), "same"),
    "a name twice": Alteration(header(lambda name: "area" if name == "price" else name), "refused"),
    "columns in another order": Alteration(order, "understood"),
    "another separator": Alteration(separator, "same"),
    "other ends of lines": Alteration(ends, "same"),
    "a byte order mark": Alteration(recoded("utf-8-sig"), "same"),
    "another encoding": Alteration(recoded("utf-16"), "refused same"),
    "dates with points": Alteration(column(4, day_first(".")), "same refused"),
    "dates with slashes": Alteration(column(4, day_first("/")), "same refused"),
    "a row twice": Alteration(doubled, "refused"),
    "a row cut": Alteration(cut, "refused"),
    "a title above": Alteration(lambda data, rng: write(data, [["my houses"], *read(data)]), "refused"),
}

# Folders


def _make_folders(data: Path) -> None:
    for split, count in (("train", 45), ("val", 12)):
        for name, level in (("ant", 60), ("bee", 130)):
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng([count, level, i]).integers(0, 90, (8, 8), dtype=np.uint8) + level
                Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(data / split / name / f"{i:02}.png")


TRAIN = ["train", "Train", "TRAIN", "training", "Training", "seg_train", "train_set", "trainset", "train_data", "trn"]
VAL = ["val", "VAL", "Valid", "validation", "Validation", "dev", "seg_val", "val_set", "evaluation", "valid_data"]


def renamed(data: Path, rng: Random) -> None:
    for old, names in (("train", TRAIN), ("val", VAL)):
        new = rng.choice(names)
        (data / old).rename(data / "for a moment")
        (data / "for a moment").rename(data / new)
        if rng.random() < 0.2:  # seg_train/seg_train
            (data / new).rename(data / "for a moment")
            (data / new).mkdir()
            (data / "for a moment").rename(data / new / new)


def stray(names: list[str]) -> Alter:
    """Return the alteration by a file in a class folder that is no picture."""

    def alter(data: Path, rng: Random) -> None:
        path = rng.choice([data / "train" / "ant", data / "val" / "bee"]) / rng.choice(names)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(rng.randbytes(50))

    return alter


def junk_above(data: Path, rng: Random) -> None:
    for folder in ("__MACOSX/train/ant", "train/__MACOSX/ant"):
        if rng.random() < 0.7:
            (data / folder).mkdir(parents=True)
            (data / folder / "._00.png").write_bytes(rng.randbytes(50))
    (data / rng.choice(["notes.txt", ".DS_Store", "labels.csv", "Thumbs.db"])).write_text("x")


def gif(data: Path, rng: Random) -> None:
    Image.new("P", (8, 8), 3).save(data / "train" / rng.choice(["ant", "bee"]) / "imageNotFound.gif")


def empty(*places: str) -> Alter:
    return lambda data, rng: (data / rng.choice(places)).mkdir()


def linked(data: Path, rng: Random) -> None:
    old = rng.choice(sorted(path for path in data.rglob("*") if path.is_dir() or rng.random() < 0.05))
    new = data.parent / "elsewhere"
    shutil.move(old, new)
    old.symlink_to(new)


def dangling(data: Path, rng: Random) -> None:
    (data / "train" / "ant" / rng.choice(["99.png", "99"])).symlink_to("nowhere")


def suffixes(data: Path, rng: Random) -> None:
    for path in sorted(data.rglob("*.png")):
        if rng.random() < 0.5:
            path.rename(path.with_suffix(".PNG"))


def classes(data: Path, rng: Random) -> None:
    for path in sorted(data.glob("*/*")):
        path.rename(path.with_name(path.name.upper()))


FOLDERS = {
    "splits of other names": Alteration(renamed, "same"),
    "a file that is no picture": Alteration(stray(["notes.txt", "a.csv", "b.json", "README"]), "same", "left out: 1,"),
    "junk of systems": Alteration(stray(["Thumbs.db", ".DS_Store", "desktop.ini", "._00.png"]), "same"),
    "junk above": Alteration(junk_above, "same"),
    "a stray gif": Alteration(gif, "told", "odd: 1, with the suffix .gif"),
    "an empty folder beside": Alteration(empty("other", "Empty", "tmp"), "same", "left out|a folder beside"),
    "an empty class": Alteration(empty("train/cow"), "refused"),
    "a class without training": Alteration(empty("val/cow"), "refused"),
    "a link": Alteration(linked, "same"),
    "a link to nothing": Alteration(dangling, "refused told same", "a link to nothing"),
    "suffixes in capitals": Alteration(suffixes, "same"),
    "classes in capitals": Alteration(classes, "same"),
}


# Masks


def _make_masks(data: Path) -> None:
    for name in ("image", "label"):
        (data / "train" / name).mkdir(parents=True)
    for i in range(10):
        rng = np.random.default_rng(i)
        mask = np.kron(rng.permutation(16).reshape(4, 4) % 3, np.ones((4, 4))).astype(np.uint8)
        picture = (mask * 80 + rng.integers(0, 60, mask.shape)).astype(np.uint8)
        Image.fromarray(picture).save(data / "train" / "image" / f"{i}.png")
        Image.fromarray(mask).save(data / "train" / "label" / f"{i}.png")


ALTERED: dict[str, dict[str, Alteration]] = {
    "table": TABLES,
    "folders": FOLDERS,
    "pictures": {name: Alteration(*rest) for name, rest in PICTURES.items()},
    "masks": {name: Alteration(*rest) for name, rest in MASKS.items()},
}
