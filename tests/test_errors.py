"""What goes wrong with data, devices and numbers is one sentence with the path and what to do, and an exit code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PLAIN, ROOT, TOY, dogcats, state

from utils.blame import REQUIRED

DOGCAT = ["train", "dogcat_small", "--run=a", "--model=LeNet", *PLAIN, "--num-workers=0"]
DOGCAT += ["--max-epoch=1", "--batch-size=4"]


def one_sentence(result, code: int, *parts: str) -> None:
    """The contract of every foreseen failure."""
    assert result.code == code, result.err
    assert "Traceback" not in result.err + result.out
    assert len(result.err.strip().splitlines()) == 1, result.err
    for part in parts:
        assert part in result.err, result.err


def test_missing_data_folder(run):
    one_sentence(run(*DOGCAT, "--train-data-root=nowhere"), 3, "nowhere", "--train-data-root=")
    assert not Path("checkpoints").exists(), "a run folder was made for a run that never began"


def test_empty_folder(run, tmp_path):
    (tmp_path / "photos").mkdir()
    one_sentence(run(*DOGCAT, "--train-data-root=photos"), 3, "photos", ".jpg")


def test_one_class_folder(run, tmp_path):
    for path in dogcats(tmp_path / "photos").glob("cat.*"):
        path.unlink()
    one_sentence(run(*DOGCAT, "--train-data-root=photos"), 3, "photos", "only dogs")


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_picture(run, tmp_path, workers):
    dogcats(tmp_path / "photos", 4)
    for path in (tmp_path / "photos").glob("dog.*"):
        path.write_bytes(path.read_bytes()[:200])
    given = run(*[a for a in DOGCAT if "workers" not in a], f"--num-workers={workers}", "--train-data-root=photos")
    one_sentence(given, 3, "photos/dog.", "replace")


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_different_sizes(run, tmp_path, workers):
    dogcats(tmp_path / "photos", 4)
    dogcats(tmp_path / "photos", 4, size=(50, 50), start=4)
    args = [arg for arg in DOGCAT if arg != "dogcat_small" and "workers" not in arg]
    given = run(*args, f"--num-workers={workers}", "--data.dataset=DogCat", "--train-data-root=photos")
    one_sentence(given, 3, "different sizes", "RandomResizedCrop")
    assert "lost" not in given.out


def test_class_folders_where_there_should_be_pictures(run, tmp_path):
    dogcats(tmp_path / "photos" / "cat", 2)
    one_sentence(run(*DOGCAT, "--train-data-root=photos"), 3, "no pictures in photos", "cat/", "ImageFolder")


def test_read_only_data_folder_is_enough(run, tmp_path):
    folder = dogcats(tmp_path / "photos", 6)
    folder.chmod(0o555)
    before = sorted(folder.iterdir())
    assert run(*DOGCAT, "--train-data-root=photos").code == 0
    assert sorted(folder.iterdir()) == before


def test_checkpoint_missing_or_foreign(run, tmp_path):
    one_sentence(run("val", "checkpoints/none"), 4, "checkpoints/none")
    (tmp_path / "text.pth").write_text("hello")
    one_sentence(run("test", "text.pth"), 4, "text.pth")
    one_sentence(run("val"), 2, "which checkpoint")


def test_checkpoint_of_another_model(run):
    assert run("train", "--run=a", *TOY, "--train.max_steps=1").code == 0
    args = ["--run=b", "--model=LeNet", *PLAIN, "--train.max_steps=1"]
    given = run("train", *args, "--load-model-path=checkpoints/a/last.pth")
    one_sentence(given, 4, "checkpoints/a/last.pth", "LeNet")
    one_sentence(run("val", "checkpoints/a", "--model=LeNet"), 2, "--model")


def test_checkpoints_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "checkpoints").write_text("a file in the way")
    one_sentence(run("train", "--run=a", *TOY), 5, "checkpoints/a")


def test_disk_full_while_training(start, tmp_path):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = start("train", "--run=a", *TOY, "--model.hidden=[3000]", preexec_fn=limit)
    _out, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    assert "Traceback" not in err
    assert "checkpoints/a/last.pth: cannot be written" in err and "MB free" in err


def test_loss_that_is_not_finite(run):
    args = [arg for arg in TOY if not arg.startswith(("--optim", "--lr"))]
    given = run("train", "--run=a", *args, "--optim=SGD", "--lr=1e18")
    one_sentence(given, 6, "step ", "lr 1e+18", "samples", "try a smaller --lr")
    assert all(t.isfinite().all() for t in state("a")["model"].values())


def test_out_of_memory(run):
    given = run("train", "--run=a", *TOY, "--model.hidden=[1000000000000]")
    one_sentence(given, 8, "batch size 32", "--batch-size=16")


def test_no_gpu(run):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    one_sentence(run("train", "--run=a", *TOY, "--use-gpu"), 2, "no GPU", "--use-gpu=false")


def test_spawned_workers_give_the_same_run(run, tmp_path):
    """macOS and Windows start workers afresh: everything that they are given must be picklable."""
    dogcats(tmp_path / "photos", 6)
    args = [*DOGCAT[1:2], *DOGCAT[3:], "--train-data-root=photos"]
    assert run("train", "--run=a", *args).code == 0
    script = tmp_path / "spawned.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "if __name__ == '__main__':\n"
        "    import multiprocessing; multiprocessing.set_start_method('spawn')\n"
        "    import main; sys.exit(main.main(sys.argv[1:]))\n"
    )
    args = [a for a in args if "workers" not in a]
    command = [sys.executable, str(script), "train", "--run=b", *args, "--num-workers=1"]
    given = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert given.returncode == 0, given.stderr
    import torch

    assert all(torch.equal(value, state("b")["model"][name]) for name, value in state("a")["model"].items())


def test_unknown_key_for_a_dataset_that_reads_no_folder(run):
    shutil.rmtree("checkpoints", ignore_errors=True)
    given = run("train", "default", "--run=a", *TOY, "--train.max_steps=1", "--train-data-root=somewhere")
    assert given.code == 0
    assert "Digits reads no folder" in given.out


def test_each_package_that_is_needed_is_named_when_it_is_missing():
    """The very first command of somebody who has not installed anything."""
    imported = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = {re.split("[>=; ]", line)[0].rpartition("/")[2] for line in lines if line and line[0] not in "#-"}
    assert {imported.get(name.lower(), name) for name in names} <= REQUIRED
