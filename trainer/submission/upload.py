"""The line that uploads a submission to Kaggle, ready to be pasted."""

import re
import shlex
import zipfile
from pathlib import Path

from configs.schema import Test

__all__ = ["competition_of", "upload_lines"]

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # a competition's name in its address
UNKNOWN = "COMPETITION"


def upload_lines(cfg: Test, target: Path, message: str) -> list[str]:
    """Return the command, and a line on the competition's name where it is not known."""
    name = cfg.competition or competition_of(cfg.sample)
    command = ["kaggle", "competitions", "submit", "-c", name or UNKNOWN, "-f", str(target), "-m", message]
    unknown = f"({UNKNOWN}: its name in kaggle.com/competitions/…; --test.competition=NAME puts it there)"
    return [f"to upload it: {shlex.join(command)}", *([] if name else [unknown])]


def competition_of(sample: str | None) -> str:
    """Return the name of the one archive beside the sample that holds it: Kaggle names that by the competition.

    Empty where there is none, or several.
    """
    if sample is None:
        return ""
    path = Path(sample)
    archives = [file for file in path.parent.glob("*.zip") if SLUG.fullmatch(file.stem)]
    names = [file.stem for file in archives if _holds(file, path)]
    return names[0] if len(names) == 1 else ""


def _holds(archive: Path, file: Path) -> bool:
    """Return whether an archive has a file of this name and size."""
    try:
        with zipfile.ZipFile(archive) as stream:
            size = file.stat().st_size
            return any(Path(one.filename).name == file.name and one.file_size == size for one in stream.infolist())
    except (OSError, zipfile.BadZipFile):
        return False
