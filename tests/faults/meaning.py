"""Data written in another way: the same figures, or it is told, or it is refused; never others in silence."""

import functools
import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.faults import campaign
from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Child, Hook
from tests.faults.meaning_data import ALTERED, KINDS, make
from tests.faults.runs import PLAIN, RUN
from tests.faults.runs import prepare as warm_up
from utils.sinks.journal import Journal

PATIENCE = 60  # s
NEAR = 0.4  # of a loss, which one cell or one picture moves by less
SHORT = ["--batch-size=16", "--max-epoch=2", "--train.max_steps=8", "--optim=Adam", "--lr=1e-2", "--run=a", *PLAIN]
PICTURES = ["image_folder", "--train-data-root=data", "--model=MLP", "--model.hidden=[8]", "--num-workers=0"]
PICTURES += ["--data.transform.train=[]", "--data.transform.eval=[]", "--schedule=null", *SHORT]
ARGUMENTS = {
    "table": [
        *["default", "--data.dataset=Tabular", "--data.dataset.root=data", "--data.dataset.target=y"],
        *["--data.dataset.id=id", "--data.dataset.columns={categories: [y]}", "--model=MLP", "--model.hidden=[8]"],
        *["--schedule=null", *SHORT],
    ],
    "folders": PICTURES,
    "pictures": PICTURES,
    "masks": [
        *["unet", "--data.dataset.root=data", "--data.transform.train=[]", "--data.transform.eval=[]", "--val-steps=4"],
        *["--model.width=2", "--model.depth=2", "--schedule=null", *SHORT[1:], "--batch-size=4"],
    ],
}


def trial(t: Trial) -> str:
    cases = [(kind, name) for kind in KINDS for name in ALTERED[kind]]
    kind, name = cases[t.seed % len(cases)]
    shutil.copytree(place(kind) / "data", t.folder / "data", symlinks=True)
    alteration = ALTERED[kind][name]
    alteration.alter(t.folder / "data", t.rng)
    child = run(t.folder, kind, [BROKEN[t.broken]] if t.broken else [])
    end = judged(t.folder, kind, child, alteration.ends, alteration.tells, name)
    return f"{end}: {kind}, {name}"


def judged(folder: Path, kind: str, child: Child, ends: str, tells: str, name: str) -> str:
    """The end it came to. Raises Violation for one that this alteration must not come to."""
    said = child.err().strip()
    require(child.code in (0, 2, 3), f"{kind}, {name}: exit code {child.code}: {said[-500:]}")
    if child.code:
        require("refused" in ends, f"{kind}, {name}: refused: {said[-500:]}")
        require(len(said.splitlines()) == 1 and "Traceback" not in said, f"{kind}, {name}: no sentence: {said[-500:]}")
        return "refused"
    told, known = (path / RUN / "data.txt" for path in (folder, place(kind)))
    told, known = told.read_text(), known.read_text()
    found, wanted = figures(folder), figures(place(kind))
    require(not tells or "told" in ends or re.search(tells, told), f"{kind}, {name}: '{tells}' is not in {told}")
    if "understood" in ends:
        lines = sorted(told.splitlines()), sorted(known.splitlines())
        require(lines[0] == lines[1], f"{kind}, {name}: understood otherwise: {told}")
        return "understood"
    if "same" in ends and found == wanted:
        return "same"
    require("told" in ends, f"{kind}, {name}: other figures: {difference(found, wanted)}")
    require(re.search(tells, told), f"{kind}, {name}: '{tells}' is not in {told}")
    require(abs(last(found) - last(wanted)) < NEAR, f"{kind}, {name}: far off: {last(found)}, not {last(wanted)}")
    return "told"


def run(folder: Path, kind: str, hooks: Sequence[Hook] = ()) -> Child:
    child = Child(folder, ["train", *ARGUMENTS[kind]], hooks)
    child.wait(PATIENCE)
    return child


def figures(folder: Path) -> list[dict]:
    """The rows of the journal without their times; classes go by their order, whatever they are called."""
    found = []
    for row in Journal.read(folder / RUN / "log.jsonl"):
        classes = {name: f"iou of class {i}" for i, name in enumerate(k for k in row if k.startswith("iou_"))}
        found.append({classes.get(name, name): value for name, value in row.items() if name != "time"})
    return found


def last(rows: list[dict]) -> float:
    """The loss of the last validation."""
    return next((row["loss"] for row in reversed(rows) if row["phase"] == "val"), math.nan)


def difference(found: list[dict], wanted: list[dict]) -> str:
    pairs = [(one, other) for one, other in zip(found, wanted, strict=False) if one != other]
    return json.dumps(pairs[0]) if pairs else f"{len(found)} rows, not {len(wanted)}"


def place(kind: str) -> Path:
    """The folder with the data that nobody altered, and with the run on them."""
    return campaign.SCRATCH / f"meaning-{kind}"


@functools.cache
def prepare() -> None:
    """Train once on each kind of data as it is."""
    import torchvision.transforms.v2  # noqa: F401

    import trainer.tasks.segmentation  # noqa: F401

    warm_up()
    for kind in KINDS:
        place(kind).mkdir(parents=True)
        make(kind, place(kind) / "data")
        child = run(place(kind), kind)
        require(child.code == 0, f"{kind}: exit code {child.code}: {child.err()[-600:]}")


# Broken on purpose


def gaps_are_categories() -> None:
    """One odd cell makes categories of a column of numbers."""
    from data import _cells, _columns

    def guess(path: str, name: str, cells: Sequence[tuple[int, str]], told: dict, kind: str = "") -> _cells.Reading:
        read = _cells.reader_of({})
        plain = all(_cells._is_number(read, text) and text.lower() not in _cells.GAP_WORDS for _, text in cells)
        return _cells.Reading("number" if plain else "category")

    _columns.guess = guess


def four_names() -> None:
    """The folders of splits are known by their exact names alone."""
    from data import _splits

    _splits.split_of = lambda name: name if name in ("train", "val", "test") else ""


def masks_are_pictures() -> None:
    """Masks are read as pictures of 8 bit are."""
    import numpy as np
    from PIL import Image

    from data import _masks

    _masks.read_values = lambda path, colours=False: np.asarray(Image.open(path).convert("L"))


def clipped() -> None:
    """Values of every format are taken for those of 8 bit."""
    from utils import images

    images._as_mode = lambda image, mode: image.convert(mode)


BROKEN: dict[str, Hook] = {
    "gaps make categories": gaps_are_categories,
    "splits known by exact names": four_names,
    "masks read as pictures": masks_are_pictures,
    "formats with other ranges clipped": clipped,
}

FAMILY = Family(
    "meaning",
    "data written in another way: cells, headers, separators, dates of a table; names of splits, stray files and links "
    "among folders; formats and depths of pictures and masks",
    "the same losses and the same validation to the last digit, or told in data.txt, or refused in one line",
    300,
    trial,
    tuple(BROKEN),
    prepare,
    {"same": 0.4},
)
