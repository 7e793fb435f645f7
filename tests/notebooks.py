"""The notebooks of docs/notebooks: python -m tests.notebooks [NAME …] runs them and stores what they print."""

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import nbclient
import nbformat

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/notebooks"
CHINESE = ".zh-CN"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb") if CHINESE not in path.name)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell in a kernel of its own, in the folder, and keep what it printed in the cell."""
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources=resources, record_timing=False, coalesce_streams=True
    )
    own = {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
        "DEEPTRAIN_LANG": "en",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    client.execute(env={**os.environ, **own})


def run(name: str, folder: Path) -> dict:
    """Run the code of a notebook in this process, and return the names that it defined."""
    names: dict = {"__name__": "__main__"}
    with _apart(folder):
        for cell in code(read(name)):
            exec(compile(cell.source, f"{name}.ipynb {cell.id}", "exec"), names)
    return names


@contextmanager
def _apart(folder: Path):
    """Leave the working folder, the path of modules and matplotlib's backend as they were."""
    here, path, backend = Path.cwd(), list(sys.path), matplotlib.get_backend()
    os.chdir(folder)
    matplotlib.use("agg")
    try:
        yield
    finally:
        os.chdir(here)
        sys.path[:] = path
        matplotlib.use(backend)


def store(name: str) -> None:
    """Run the English notebook, and keep its outputs in both languages."""
    english, chinese = read(name), read(name + CHINESE)
    with tempfile.TemporaryDirectory() as folder:
        execute(english, Path(folder))
    for cell, twin in zip(code(english), code(chinese), strict=True):
        twin.outputs, twin.execution_count = cell.outputs, cell.execution_count
    for notebook, language in ((english, ""), (chinese, CHINESE)):
        notebook.metadata.language_info = {"name": "python"}
        nbformat.validate(notebook)
        nbformat.write(notebook, FOLDER / f"{name}{language}.ipynb")


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        store(name)
