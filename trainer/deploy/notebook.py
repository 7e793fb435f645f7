"""The notebook of a bundle: three cells that unpack it, run its command, and show the submission."""

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["cells", "notebook"]

UNPACK = """\
# 1. Find the bundle in this kernel's input, and put it where it can be written.
import glob, os, shutil, subprocess, sys, zipfile

WORK = os.getcwd()
HOUSE = os.path.join(WORK, "bundle")
places = [WORK, "/kaggle/input"]
found = [path for place in places for path in glob.glob(f"{place}/**/bundle.json", recursive=True)]
zips = [path for place in places for path in glob.glob(f"{place}/**/NAME", recursive=True)]
shutil.rmtree(HOUSE, ignore_errors=True)
found = [path for path in found if not path.startswith(HOUSE + os.sep)]
if zips:
    zipfile.ZipFile(zips[0]).extractall(HOUSE)
elif found:
    shutil.copytree(os.path.dirname(found[0]), HOUSE)
else:
    sys.exit("the bundle is not in the input: add NAME as a dataset")
wheels = glob.glob(f"{HOUSE}/wheels/*.whl")
if wheels:
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", *wheels], check=True)
sys.path.insert(0, f"{HOUSE}/deeptrain")  # for: from configs import load; from trainer import fit
"""
RUN = """\
# 2. Run the command. Data of the competition lie in /kaggle/input: name them in the last line.
def run(*words):
    program = [sys.executable, f"{HOUSE}/deeptrain/main.py", *words]
    with subprocess.Popen(program, cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        sys.exit(f"exit code {process.returncode}")


run(
WORDS)
"""
SHOW = """\
# 3. Show the result.
SHOWN
"""
SUBMISSION = """\
with open(f"{WORK}/submission.csv") as stream:
    lines = stream.read().splitlines()
print(f"submission.csv: {len(lines) - 1:,} rows", *lines[:6], sep="\\n")"""
FOLDER = """\
for path in sorted(glob.glob(f"{HOUSE}/checkpoints/*/*")):
    print(os.path.relpath(path, WORK))"""


def cells(name: str, words: Sequence[str]) -> list[str]:
    """Return the code of the three cells for a bundle of that name and a command with its flags."""
    test = words[0] == "test"
    listed = "".join(f"    {json.dumps(word, ensure_ascii=False)},\n" for word in words)
    if test and not any("result_file" in word.replace("-", "_") for word in words):
        listed += '    f"--result-file={WORK}/submission.csv",\n'
    hint = '    # "--test-data-root=/kaggle/input/COMPETITION/test",\n'
    return [
        UNPACK.replace("NAME", name),
        RUN.replace("WORDS", listed + hint),
        SHOW.replace("SHOWN", SUBMISSION if test else FOLDER),
    ]


def notebook(name: str, words: Sequence[str]) -> str:
    """Return the notebook as JSON, in nbformat 4."""
    made: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell{number}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": code.rstrip("\n").splitlines(keepends=True),
        }
        for number, code in enumerate(cells(name, words), 1)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1)
