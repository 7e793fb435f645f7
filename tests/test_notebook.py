"""The notebook of the documents runs in a real kernel, with the notebook's own bar."""

import pytest
from conftest import ROOT

nbformat, _ = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")

from tests import notebooks  # noqa: E402

NOTEBOOK = ROOT / "docs/notebook.ipynb"
TRAIN_AND_STOP = """
import os, signal, threading, time
from pathlib import Path
from configs import load
from trainer import fit

journal = Path("checkpoints/a/log.jsonl")

def stop():
    while not journal.exists() or journal.stat().st_size < 900:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

keys = {"log.visdom": False, "log.print_freq": 1, "log.pictures": False}
threading.Thread(target=stop).start()
cut = fit(load("default", keys, model="MLP"), run="a")
print(cut.stopped, cut.history[-1]["step"] > 0)
"""


def execute(notebook, folder):
    """Run every cell in the folder and return the outputs of each."""
    notebooks.execute(notebook, folder)
    return [cell.outputs for cell in notebooks.code(notebook)]


def shown(outputs) -> str:
    """What a person reads below a cell: the kernel cuts one print into several outputs wherever it flushes."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return execute(nbformat.read(NOTEBOOK, as_version=4), tmp_path_factory.mktemp("notebook"))


@pytest.mark.slow
def test_every_cell_does_what_it_says(outputs):
    _, mistakes, trained, metrics, drawn, mine, best = outputs
    assert "expected a number, got 'fast'" in shown(mistakes) and "did you mean 'MLP'?" in shown(mistakes)
    assert "checkpoints/python-MLP-" in shown(trained) and "best accuracy" in shown(trained)
    assert "{'accuracy': 0." in shown(metrics)
    assert any("image/png" in output.get("data", {}) for output in drawn)
    assert "checkpoints/python-Net-" in shown(mine)
    assert shown(best).startswith("MLP(")


@pytest.mark.slow
def test_the_bar_is_the_notebooks_own(outputs):
    kinds = {kind for output in outputs[2] for kind in output.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" in kinds or "epoch 1/3" in shown(outputs[2])
    assert "\r" not in shown(outputs[2]), "a terminal's bar would fill the page"


@pytest.mark.slow
def test_an_interrupt_saves_and_the_run_goes_on(tmp_path):
    """As the stop button sends it, while a cell trains."""
    cells = [TRAIN_AND_STOP, "done = fit(resume=cut.folder)\nprint(done.stopped, done.history[-1]['step'])"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    first, second = execute(notebook, tmp_path)
    assert "130 True" in shown(first) and "stopped after step" in shown(first)
    assert "0 240" in shown(second)
