"""Two ranks are one process with the same global batch, and accumulation is a larger batch: every config and task.

Dropout and noise are off, as each rank draws its own; BatchNorm is synchronised. Weights differ by rounding alone.
"""

import csv
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import rows, state
from PIL import Image
from same_ranks import ACCUMULATED, EVERY, TESTED
from several import corners
from test_configs import SHIPPED
from tiny_data import make_data, picture

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("same_ranks.py")
CLOSE = 1e-6
# In deep networks BatchNorms see one pixel of each picture: they make rounding some hundred times larger.
DEEP = {"default": 1e-3, "anime_gan": 1e-4, "unet": 1e-5}


def make_more(data: Path) -> None:
    """Pictures with several labels, broken pictures, masks in which not every pixel counts; a table without ties."""
    corners(data / "several")
    for i in range(40):
        picture(data / f"broken/{'ab'[i % 2]}/{i}.jpg", (40, 40), i)
    for i in (3, 7, 8, 21):
        (data / f"broken/{'ab'[i % 2]}/{i}.jpg").write_bytes(b"nothing")
    (data / "masks/label").mkdir(parents=True)
    for i in range(12):
        picture(data / f"masks/image/{i}.png", (32, 32), i, mode="L")
        mask = np.random.default_rng(i).choice(np.array([0, 1, 255], dtype=np.uint8), (8, 8))
        mask[: 4 * (i % 2)] = 255
        Image.fromarray(mask).resize((32, 32), 0).save(data / f"masks/label/{i}.png")
    for split in ("train", "test"):
        path = data / f"tabular/titanic/{split}.csv"
        with path.open(newline="") as file:
            head, *people = csv.reader(file)
        for i, row in enumerate(people):
            row[head.index("Age")] = f"{np.random.default_rng(i).uniform(1, 80):.2f}"
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *people])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every case, trained by one process and by two ranks, in three processes altogether."""
    place = tmp_path_factory.mktemp("same")
    make_data(place / "data")
    make_more(place / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        with (place / f"{rank}of{world}.log").open("w") as log:
            command = [sys.executable, str(SCRIPT), str(rank), str(world), port]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            started.append(subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=env))
    codes = [process.wait(900) for process in started]
    logs = {path.stem: path.read_text() for path in place.glob("*of*.log")}
    assert codes == [0, 0, 0], {name: text[-3000:] for name, text in logs.items()}
    return place


def furthest(one: dict, other: dict) -> float:
    """Return how far two networks are apart, over the size of their weights where that is above 1."""
    return max(float(((one[k] - other[k]).abs() / one[k].abs().clamp(min=1)).max()) for k in one)


def agree(one: list[dict], other: list[dict], rel: float) -> None:
    """See that two journals tell the same numbers at the same steps."""
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        numbers = {key: value for key, value in left.items() if isinstance(value, float)}
        assert {key: right[key] for key in numbers} == pytest.approx(numbers, rel=rel, abs=rel)


def test_every_shipped_config_is_among_them():
    assert {path.stem for path in SHIPPED} <= {*EVERY}


@pytest.mark.parametrize("name", EVERY)
def test_two_ranks_are_one_process(folder, name):
    one, two = (state(f"{name}-{world}", folder=folder) for world in (1, 2))
    close = DEEP.get(name, CLOSE)
    assert one["progress"]["step"] == two["progress"]["step"] > 1
    assert furthest(one["model"], two["model"]) < close
    assert one["ema"] is None or furthest(one["ema"], two["ema"]) < close
    agree(*(rows(f"{name}-{world}", folder, "val") for world in (1, 2)), rel=max(1e-5, 10 * close))
    begun, also = (rows(f"{name}-{world}", folder, "train") for world in (1, 2))
    if name in DEEP:
        agree(begun[:1], also[:1], rel=1e-6)
    assert begun[0] != {**begun[-1], "step": begun[0]["step"], "epoch": begun[0]["epoch"]}, "it learns"


@pytest.mark.parametrize("name", ACCUMULATED)
def test_accumulated_batches_are_a_larger_one(folder, name):
    one, parts = (state(f"{name}-{kind}", folder=folder) for kind in ("1", "parts"))
    assert parts["progress"]["step"] > one["progress"]["step"]
    assert furthest(one["model"], parts["model"]) < CLOSE
    assert one["ema"] is None or furthest(one["ema"], parts["ema"]) < CLOSE


@pytest.mark.parametrize("name", TESTED)
def test_predictions_are_those_of_one_process(folder, name):
    """In the same order, each sample once, the same numbers."""
    one, two = (list(csv.reader((folder / f"out/{name}-{world}.csv").open())) for world in (1, 2))
    assert [row[0] for row in one] == [row[0] for row in two] and len({row[0] for row in one}) == len(one)
    for left, right in zip(one, two, strict=True):
        for cell, other in zip(left[1:], right[1:], strict=True):
            number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell)
            assert cell == other or (number and float(other) == pytest.approx(float(cell), rel=1e-4, abs=1e-5))


@pytest.mark.parametrize("name", ["skipped", "replaced"])
def test_the_same_pictures_are_listed_as_broken(folder, name):
    one, two = (sorted((folder / f"checkpoints/{name}-{w}/bad_samples.csv").read_text().splitlines()) for w in (1, 2))
    assert one == two and len(one) == 1 + 4
