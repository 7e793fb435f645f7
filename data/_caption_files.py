"""Read (photo, caption) from the files of Flickr8k and Flickr30k, and from AI-Challenger's JSON."""

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data._csv import Faults, read_lines
from utils.errors import DataError
from utils.files import content

__all__ = ["annotations_path", "read_pairs"]

FLICKR = ("captions.txt", "captions.csv", "results.csv", "Flickr8k.token.txt", "results_20130124.token")
NUMBERED = re.compile(r"(.+)#\d+\t(.*)")  # photo.jpg#0 <tab> caption: Flickr's own files
# photo.jpg| 0| caption: results.csv of Flickr30k, which lacks the second | in one of its lines
PIPED = re.compile(r"\s*([^|]+?)\s*\|\s*\d+(?:\s*\|\s*|\s+)(.*)")
PIPED_HEADER = re.compile(r"\s*image\w*\s*\|.*\|\s*(comment|caption)\s*", re.IGNORECASE)


def annotations_path(root: str, annotations: str | None) -> str:
    """Return the path of the captions: the named file, the one of a usual name, or the one JSON in `root`.

    Raises DataError where there is none, or several.
    """
    if annotations:
        return os.path.join(root, annotations)
    there = [name for name in FLICKR if os.path.isfile(os.path.join(root, name))]
    there = there or sorted(name for name in os.listdir(root) if name.endswith(".json"))[:2]
    if len(there) != 1:
        why = f"there are {' and '.join(there)}" if there else f"looked for {', '.join(FLICKR)} and a JSON"
        raise DataError(f"which file in {root} holds the captions? ({why}); set --data.dataset.annotations=FILE")
    return os.path.join(root, there[0])


def read_pairs(path: str) -> Iterator[tuple[str, str]]:
    """Yield (photo, caption) of each entry. Raises DataError for a file that is missing or in another format."""
    return (_read_json if path.endswith(".json") else _read_flickr)(path)


def _read_flickr(path: str) -> Iterator[tuple[str, str]]:
    """Yield (photo, caption) of each row."""
    faults = Faults(path)
    lines = read_lines(path, faults)
    first = lines[0] if lines else ""
    if NUMBERED.match(first):
        return _matched(NUMBERED, "photo.jpg#number, a tab and a caption", lines, faults)
    if PIPED_HEADER.fullmatch(first.rstrip()) or PIPED.match(first):
        return _matched(PIPED, "photo.jpg| number| caption", lines, faults)
    return _rows(lines, faults)


def _matched(pattern: re.Pattern[str], form: str, lines: list[str], faults: Faults) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if match := pattern.match(line):
            yield match[1], match[2]
        elif line.strip() and not (number == 1 and PIPED_HEADER.fullmatch(line.rstrip())):
            faults.add(number, f"is not {form}; mend or remove the line")
    faults.check()


def _rows(lines: list[str], faults: Faults) -> Iterator[tuple[str, str]]:
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    header: list[str] = []
    try:
        for row in filter(None, reader):
            header = header or _header(row, faults)
            if len(row) != len(header):
                fault = f"has {len(row)} columns where the header has {len(header)}"
                faults.add(reader.line_num, f"{fault}; put a caption with commas in quotes")
            elif reader.line_num > 1:
                yield row[header.index("image")].strip(), row[header.index("caption")]
    except csv.Error as error:  # for example a quotation mark that is never closed
        faults.add(reader.line_num, f"is no CSV ({error}); mend or remove the row")
    faults.check()


def _header(row: list[str], faults: Faults) -> list[str]:
    words = [cell.strip().lower() for cell in row]
    if not {"image", "caption"} <= set(words):
        numbered = "photo.jpg#number, a tab and a caption, or photo.jpg| number| caption"
        faults.add(1, f"must be the header image,caption; or each line {numbered}")
        faults.check()
    return words


def _read_json(path: str) -> Iterator[tuple[str, str]]:
    try:
        entries = json.loads(content(Path(path)))
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); put it there or set its name") from error
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 are a ValueError too
        raise DataError(f"{path} is not JSON ({error}); replace it") from error
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise DataError(f'{path} is no list of {{"image_id": "photo.jpg", "caption": ["…", …]}}; replace it')
    return ((entry["image_id"], caption) for entry in entries for caption in entry["caption"])


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), str):
        return False
    captions = entry.get("caption")
    return isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
