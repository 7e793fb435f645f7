"""data: look at all data of a config before they are trusted: broken files, copies, leaks, labels.

python main.py data [CONFIG] [--key=value …] [--out=FOLDER]

CONFIG and flags are those of train: replace train by data. Every file is read
once, on all cores. A look that was stopped goes on, and files that did not
change are not read again.

  --out=FOLDER  the folder of report.json, the contact sheets and the facts of
                files that spare a second reading (data-report)
  --quiet       print the findings only

It finds files that are unreadable, cut off, empty or odd; exact and near
copies, and those of training samples in validation and test (leaks); classes
that training or validation lacks, doubled ids, refused lines, odd masks; and in
tables rows of training in test, and columns that are constant or tell the
target. It prints mean, deviation and class weights as YAML. Leaks of less than
0.1 % of pictures, or 1 % of rows of a table, are a note. With a finding that
would spoil a run it ends with exit 3. The first samples alone are looked at by
check CONFIG --data.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands._arguments import one_word, split
from configs import COMPONENTS, Config, resolve
from configs.folders import config_of_folder
from utils.config.cli import Flag
from utils.errors import ConfigError, DataError, LinesError
from utils.terminal import show
from utils.words import count_of

if TYPE_CHECKING:
    from torch.utils.data import Dataset  # imported where it is used

__all__ = ["run"]

OPTIONS = ("config", "run", "quiet", "out", "debug")
OUT = "data-report"


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print the findings about the data, and write the report.

    Raises ConfigError for mistakes in the config, DataError if a finding would spoil a run, StorageError when the
    report cannot be written.
    """
    options, keys = split(flags, OPTIONS)
    name = one_word("data", words, options.get("config")) or config_of_folder(keys)[0]
    folder = _folder(options.get("out", OUT))
    cfg = resolve(name, keys, OPTIONS).config
    from data.looking.look import look
    from data.looking.progress import Progress
    from data.looking.report import lines_of, verdict, write_report
    from utils.files import storage_error

    quiet = options.get("quiet") == "true"
    asked = _asked(cfg, quiet)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error, 0) from error
    start = time.monotonic()
    found = look(asked, folder, Progress(None if quiet else show))
    if not quiet:
        counts = " + ".join(_counted(split, found, asked) for split in found.samples)
        read = f", {count_of(len(found.looks), 'file')}, {found.read:,} read now" if found.looks else ""
        show(f"looked at {counts or 'nothing'}{read}, in {time.monotonic() - start:.1f} s")
    for line in lines_of(found):
        show(line)
    files = write_report(found, folder)
    if not quiet:
        show(f"files in {folder}: {', '.join(files)}")
    if told := verdict(found):
        raise DataError(told)


def _folder(text: str) -> Path:
    """Return the folder of the report. Raises ConfigError for a file, and for a folder with other things in it."""
    from data.looking.files import CACHE
    from data.looking.report import REPORT

    folder = Path(text).expanduser()
    if not text or text == "true" or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"--out={text}: is no folder for the report; name one, as --out={OUT}")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in (CACHE, REPORT)):
        raise ConfigError(f"--out={text}: holds other things than a report; name a folder of its own")
    return folder


def _asked(cfg: Config, quiet: bool) -> Any:
    """Return the datasets of a config, with the errors of those that cannot be built, and print the first facts."""
    from data.looking.look import Asked
    from data.protocol import meta_of
    from trainer.build import build_dataset

    alike = dataclasses.replace(cfg.data.transform, train=cfg.data.transform.eval)  # or copies would differ
    cfg = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, cache=None, transform=alike))
    splits: dict[str, Dataset] = {}
    refused: dict[str, DataError] = {}
    meta: dict[str, Any] = {}
    wanted = ("train", "val", "test") if COMPONENTS["task"].get(cfg.task.name).metrics else ("train", "test")
    keys = cfg.data.dataset.args
    own_test = "root" not in keys and cfg.data.test_data_root not in (None, cfg.data.train_data_root)
    there = Path(cfg.data.test_data_root or "").expanduser().exists()  # a shipped config names one that may be absent
    for part in wanted:
        try:
            splits[part] = build_dataset(cfg, part, meta)
            if part == "train" and _begins_well(splits[part]):
                meta = meta_of(splits[part])
        except DataError as error:  # of the folder, of a text file, or of the first sample
            if part != "test" or (own_test and there) or isinstance(error, LinesError):
                refused[part] = error
            elif not quiet:
                show(f"test: none ({error})")
    if not quiet and all(map(_begins_well, splits.values())) and splits:
        from trainer.checks.data_facts import data_facts

        try:
            for line in data_facts(cfg.data.dataset.name, splits, cfg.data.transform):
                show(line)
        except DataError as error:  # such as a transform that fails
            refused["a sample"] = error
    root = keys.get("root") or cfg.data.train_data_root
    if "masks" in COMPONENTS["data"].signature(cfg.data.dataset.name).parameters:
        root = None  # masks are no pictures to look at
    return Asked(splits, refused, root, keys, own_test)


def _counted(split: str, found: Any, asked: Any) -> str:
    looked, whole = len(found.samples[split]), len(asked.splits.get(split, found.samples[split]))
    return f"{looked:,} {f'of {whole:,} ' if looked < whole else ''}{split}"


def _begins_well(dataset: "Dataset") -> bool:
    """Return whether the first picture can be read; otherwise each look at a sample would search all files."""
    from data.protocol import files_of
    from utils.images import read_image

    try:
        return all(read_image(path) is not None for path in files_of(dataset)[:1])
    except DataError:
        return False
