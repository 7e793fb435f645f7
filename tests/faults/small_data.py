"""Data of a few kilobytes for the shipped configs, and the flags that make these configs small."""

import json
import struct
from pathlib import Path

import numpy as np

from tests.tiny_data import CIFAR, VERSES, make_tables, picture, write

PHOTO = "{name: Resize, size: [24, 24]}"
PHOTOS = [f"--data.transform.train=[{PHOTO}]", f"--data.transform.eval=[{PHOTO}]", "--batch-size=4"]
CAPTIONS = ["--model.encoder.variant=resnet18", "--model.encoder.weights=none", "--model.decoder.width=8"]
CAPTIONS += ["--model.decoder.feature_size=512", "--model.decoder.embedding=8"]
CASES: list[tuple[str, list[str]]] = [
    ("default", ["--model=MLP"]),
    ("default", ["--model=LeNet"]),
    ("default", ["--model=SequenceClassifier"]),
    ("default", ["--data.dataset=Digits", "--batch-size=8"]),
    ("linear_regression", []),
    ("two_layer", []),
    ("two_layer", ["--model=DynamicNet"]),
    ("titanic", ["--batch-size=8"]),
    ("house_prices", ["--batch-size=8"]),
    ("digit_recognizer", ["--batch-size=8"]),
    ("mnist", ["--batch-size=8"]),
    ("mnist_lstm", ["--batch-size=8", "--model.width=8"]),
    ("mnist_gan", ["--batch-size=8", "--model.generator.ngf=4", "--model.discriminator.ndf=4"]),
    ("anime_gan", ["--batch-size=4", "--model.generator.ngf=4", "--model.discriminator.ndf=4"]),
    ("poetry", ["--batch-size=4", "--model.embedding=8", "--model.width=8", "--data.dataset.length=8"]),
    ("unet", ["--data.transform.train=[]", "--data.transform.eval=[]", "--model.width=2"]),
    ("cifar10", ["--batch-size=4"]),
    ("image_folder", ["--model=MLP", "--num-workers=0", *PHOTOS]),
    ("dogcat_small", ["--model=SqueezeNet", "--num-workers=0", *PHOTOS]),
    ("csv_images", ["--batch-size=4"]),
    (
        "captions",
        [*PHOTOS, *CAPTIONS],
    ),
]


def make_small_data(data: Path) -> None:
    """Fill the folder with a little of everything that the cases read."""
    data.mkdir(parents=True)
    make_tables(data)
    _make_photos(data)
    _make_others(data)


def _make_photos(data: Path) -> None:
    for i in range(12):
        picture(data / f"photos/{'ab'[i % 2]}/{i}.png", (40, 40), i)
        picture(data / f"dogcat/train/{('cat', 'dog')[i % 2]}.{i}.png", (40, 40), i)
        picture(data / f"anime_faces/{i}.png", (96, 96), i)
        picture(data / f"csv_images/train/{i}.png", (32, 32), i)
        picture(data / f"captions_flickr/images/{i}.png", (32, 32), i)
    for folder in ("train", "test"):
        for i in range(10):
            picture(data / f"cifar10/{folder}/{CIFAR[i]}/{i:04}.png", (32, 32), i)
    write(data / "csv_images/trainLabels.csv", [f"{i}.png,{'ab'[i % 2]}" for i in range(12)])
    told = [f"{i}.png,a {word} dog runs" for i in range(12) for word in ("red", "small")]
    write(data / "captions_flickr/captions.txt", ["image,caption", *told])


def _make_others(data: Path) -> None:
    (data / "mnist").mkdir()
    for part, count in (("train", 40), ("t10k", 20)):
        pixels = np.random.default_rng(0).integers(0, 256, count * 784, dtype=np.uint8).tobytes()
        labels = struct.pack(">2i", 2049, count) + bytes(i % 10 for i in range(count))
        (data / f"mnist/{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels)
        (data / f"mnist/{part}-labels-idx1-ubyte").write_bytes(labels)
    for i in range(6):
        picture(data / f"segmentation_isbi/train/image/{i}.png", (40, 40), i, mode="L")
        picture(data / f"segmentation_isbi/train/label/{i}.png", (40, 40), i, mode="1")
    verses = [VERSES[i % 4] + VERSES[j % 4] for i in range(8) for j in range(5)]
    write(data / "poems/poet.tang.0.json", [json.dumps([{"paragraphs": [verse]} for verse in verses])])
