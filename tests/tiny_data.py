"""Tiny data for every shipped config, where its heading says that data lie."""

import json
import random
import struct
from pathlib import Path

import numpy as np

from configs import load
from tests.shards import digits


def make_data(data: Path) -> None:
    """Everything, below the folder data/."""
    data.mkdir(exist_ok=True)
    for make in (make_photos, make_others, make_tables):
        make(data)


def picture(path: Path, size: tuple[int, int] = (300, 280), seed: int = 0, **options: str) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).convert(options.get("mode", "RGB")).save(path)


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_photos(data: Path) -> None:
    """Dogs and cats as Kaggle gives them, photos in class folders and in shards, a painting, and labels in a CSV."""
    from conftest import dogcats  # only under pytest; the campaign takes the other functions

    dogcats(data / "dogcat/train", 20)
    for i in range(4):
        picture(data / f"dogcat/test/{i + 1}.jpg", (40, 32), i)
    write(data / "dogcat/sample_submission.csv", ["id,label", *(f"{i},0.5" for i in (3, 1, 2, 4))])
    for i in range(60):
        picture(data / f"photos/{'ab'[i % 2]}/{i}.jpg", (160, 140), i)
    digits(data / "shards", 2, 20)
    for i in range(16):
        picture(data / f"anime_faces/images/{i}.jpg", (96, 96), i)
        picture(data / f"csv_images/train/{i}.png", (32, 32), i)
        picture(data / f"captions_flickr/images/{i}.jpg", (180, 170), i)
    for i in range(12):
        picture(data / f"captchas/{i}.png", (80, 32), i)
        picture(data / f"captchas/test/{i}.png", (80, 32), i)
    write(data / "captchas/labels.csv", ["picture,text", *(f"{i}.png,{'ab7'[i % 3]}{i}" for i in range(12))])
    picture(data / "csv_images/test/0.png", (32, 32), 100)
    for folder, first in (("train", 0), ("test", 100)):
        for i in range(20):
            picture(data / f"cifar10/{folder}/{CIFAR[i % 10]}/{i:04}.jpg", (32, 32), first + i)
    for name in ("candy", "amber"):
        picture(data / f"{name}.jpg")
    write(data / "csv_images/trainLabels.csv", [f"{i}.png,{'ab'[i % 2]}" for i in range(16)])
    told = [f"{i}.jpg,a {word} dog runs on the grass" for i in range(16) for word in ("red", "small")]
    write(data / "captions_flickr/captions.txt", ["image,caption", *told])


CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WORDS = [
    "the",
    "king",
    "and",
    "queen",
    "speak",
    "of",
    "love",
    "to",
    "all",
    "who",
    "hear",
    "them",
    "in",
    "night",
    "or",
    "day",
]
VERSES = ["深度學習江流天地外，", "山色有無中郡邑浮前浦。", "波瀾動遠空春江花月夜，", "處處聞啼鳥花落知多少。"]


def make_others(data: Path) -> None:
    """MNIST's files, slices with masks, poems."""
    (data / "mnist").mkdir()
    for part, count in (("train", 80), ("t10k", 40)):
        pixels = np.random.default_rng(count).integers(0, 256, count * 784, dtype=np.uint8).tobytes()
        head = {"images-idx3": [2051, count, 28, 28], "labels-idx1": [2049, count]}
        body = {"images-idx3": pixels, "labels-idx1": bytes(i % 10 for i in range(count))}
        for kind, numbers in head.items():
            (data / f"mnist/{part}-{kind}-ubyte").write_bytes(struct.pack(f">{len(numbers)}i", *numbers) + body[kind])
    for i in range(6):
        picture(data / f"segmentation_isbi/train/image/{i}.png", (280, 280), i, mode="L")
        mask = data / f"segmentation_isbi/train/label/{i}.png"
        picture(mask, (280, 280), i, mode="1")
    picture(data / "segmentation_isbi/test/image/0.png", (280, 280), mode="L")
    poems = [{"paragraphs": random.Random(i).sample(VERSES, 4)} for i in range(400)]
    lines = [" ".join(random.Random(i).sample(WORDS, 6)) for i in range(400)]
    write(data / "shakespeare/input.txt", lines)
    write(data / "poems/poet.tang.0.json", [json.dumps(poems, ensure_ascii=False)])


def make_tables(data: Path) -> None:
    """Kaggle's tables with the columns that the configs name."""
    columns = load("house_prices").data.dataset.args["columns"]
    sums = [name for part in columns["derive"].values() for names in part.values() for name in names]
    houses = sorted({*columns["categories"], *columns["log"], *sums} - {*columns["derive"], "SalePrice"})
    table(data / "tabular/house_prices", "Id", houses, "SalePrice", "sample_submission")
    people = ["Pclass", "Name", "Sex", "Age", "SibSp", "Parch", "Ticket", "Fare", "Cabin", "Embarked"]
    table(data / "tabular/titanic", "PassengerId", people, "Survived", "gender_submission")
    table(data / "tabular/digit_recognizer", "", [f"pixel{i}" for i in range(784)], "label", "sample_submission")


def table(folder: Path, key: str, columns: list[str], target: str, sample: str) -> None:
    """train.csv, test.csv and the sample; forty rows of small numbers, and names where there are names."""

    def row(i: int, learned: bool) -> str:
        cells = [
            "Mr. A" if c == "Name" else "male" if c == "Sex" else str(1 + (i * 7 + n) % 9)
            for n, c in enumerate(columns)
        ]
        return ",".join([str(i)] * bool(key) + cells + [str(i % 2 if target != "SalePrice" else 100 + i)] * learned)

    head = [key] * bool(key) + columns
    write(folder / "train.csv", [",".join([*head, target]), *(row(i, True) for i in range(1, 41))])
    write(folder / "test.csv", [",".join(head), *(row(i, False) for i in range(1, 6))])
    write(
        folder / f"{sample}.csv", [f"{key or 'ImageId'},{target if key else 'Label'}", *(f"{i},0" for i in range(1, 6))]
    )
