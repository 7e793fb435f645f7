"""What a user may run into with data, network and machine: a sentence and an exit code, and never a traceback."""

import csv
from pathlib import Path

import pytest
import torch
from conftest import PLAIN, TOY, dogcats, rows, state

from configs import load
from data.digits import Digits
from trainer.messages import explain_torch_errors
from utils.errors import ConfigError, MemoryShortage


def said(given, code: int, words: str) -> bool:
    return given.code == code and words in given.err and "Traceback" not in given.err + given.out


def table(folder, labels) -> str:
    """A train.csv of that many rows; gives the flag that names it."""
    folder.mkdir()
    with open(folder / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", *"xy", "label"], *((i, i, -i, label) for i, label in enumerate(labels))])
    return f"--data.dataset.root={folder}"


def test_another_number_of_classes_than_the_networks(run):
    given = run("train", "--run=a", "--model=LeNet", "--model.num_classes=3", *PLAIN, "--train.max_steps=2")
    assert said(given, 2, "model: gives [3] for each sample, the data has 10 classes")


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--model=LeNet", "--in_channels=3"], 2, "model: a layer is given other channels than it takes"),
        (["--model=torchvision:alexnet"], 2, "model: the pictures are too small for one of its layers"),
        (["--schedule=StepLR", "--schedule.step_size=0"], 2, "schedule.step_size must be from 1 to"),
        (
            ["--optim=Adam", "--optim.foreach=true", "--optim.fused=true"],
            2,
            "optim: Adam: `fused` and `foreach` cannot",
        ),
        (["--data.transform.train=[{name: RandomCrop, size: 9}]"], 3, "data.transform: the picture "),
    ],
)
def test_what_does_not_fit_together_is_a_sentence_and_its_run_has_not_begun(run, flags, code, words):
    """The name is free for the mended command, and no --resume finds it."""
    given = run("train", "--run=a", *PLAIN, *flags)
    assert said(given, code, words), given.err
    assert not list(Path("checkpoints").glob("*"))
    assert run("train", "--run=a", *TOY, "--train.max_steps=1").code == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x, y: (x.double(), y), "data: inputs must be float32"),
        (lambda x, y: (x, y.float()), "data: labels must be whole numbers"),
        (lambda x, y: (x, y > 4), "data: labels must be whole numbers"),
        (lambda x, y: (x, y + 1), "data: a label is none of the class numbers"),
    ],
)
def test_samples_of_a_beginners_own_dataset_are_told_of_in_words(run, monkeypatch, spoil, words):
    own = Digits.read
    monkeypatch.setattr(Digits, "read", lambda self, chosen, seeds: spoil(*own(self, chosen)))
    given = run("train", "--run=a", *TOY)
    assert given.code == 3 and words in given.err and "Traceback" not in given.err, given.err


def test_a_dataset_that_does_not_name_its_classes_is_told_what_to_name(run, monkeypatch):
    own = Digits.meta
    monkeypatch.setattr(Digits, "meta", property(lambda self: {**own.__get__(self), "classes": []}))
    given = run("train", "--run=a", *TOY)
    assert said(given, 2, "model: gives [10] for each sample, the dataset does not tell its classes"), given.err


def test_a_dataset_without_splits_is_not_its_own_validation(run, monkeypatch):
    class Whole(Digits):
        def __init__(self):
            super().__init__("train")

    monkeypatch.setattr("data.digits.Digits", Whole)
    given = run("train", "--run=a", *TOY)
    assert said(given, 2, "data.dataset: Digits takes no split"), given.err


def test_a_network_that_takes_no_table(run, tmp_path):
    flags = ["--data.dataset=Tabular", table(tmp_path / "t", "0101" * 9), "--data.dataset.target=label"]
    given = run("train", *flags, "--model=LeNet", *PLAIN)
    assert said(given, 2, "model: "), given.err


@pytest.mark.parametrize(
    ("labels", "left_out", "told"),
    [
        (["a"] * 9, "", "there is one class only, 'a'"),
        (["a"], "", "leaves none to train on"),
        (["a", "b"] * 9, ", ignore: [x, y]", "has no column to learn from"),
    ],
)
def test_a_table_that_nothing_can_be_learned_from(run, tmp_path, labels, left_out, told):
    flags = [table(tmp_path / "table", labels), f"--data.dataset.columns={{categories: [label]{left_out}}}"]
    flags += ["--data.dataset.target=label", "--data.dataset.id=id"]
    assert said(run("train", "titanic", "--run=a", *flags, *PLAIN), 3, told)


def test_numbers_cannot_be_balanced_as_classes(run):
    given = run("train", "linear_regression", "--run=a", "--data.balance_classes", *PLAIN)
    assert said(given, 3, "has no classes as `labels` to balance by")


def test_a_training_set_smaller_than_a_batch(run, tmp_path):
    dogcats(tmp_path / "photos", 4)
    args = ["dogcat_small", "--train-data-root=photos", "--num-workers=0", "--data.drop_last", *PLAIN]
    assert said(run("train", "--run=a", *args), 3, "6 training samples make no batch of 32")


def test_a_last_batch_of_one_sample_is_left_out_where_batch_norm_learns(run, tmp_path):
    """In the deepest layers a picture of 8 pixels is a single one: there would be nothing to compare it with."""
    net = "torchvision:shufflenet_v2_x0_5"
    args = ["--batch-size=419", "--train.max_epoch=1", "--print-freq=1", *PLAIN]  # of 1,258 samples
    for name, model in (("normed", net), ("plain", "MLP")):
        given = run("train", f"--run={name}", f"--model={model}", *args)
        assert given.code == 0 and ("a lone sample is left out" in given.out) == (name == "normed")
    assert len(rows("normed", phase="train")) == 3 and len(rows("plain", phase="train")) == 4


@pytest.mark.parametrize("place", ["/proc/nowhere/a.csv", "file/a.csv"])
def test_predictions_that_cannot_be_written(run, tmp_path, place):
    (tmp_path / "file").write_text("")
    assert run("train", "--run=a", *TOY, "--train.max_steps=1").code == 0
    assert said(run("test", "checkpoints/a", f"--result-file={place}"), 5, "cannot be written")


def test_weights_from_files_that_others_wrote(run, tmp_path):
    assert run("train", "--run=a", *TOY, "--train.max_steps=1").code == 0
    weights = state("a")["model"]
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "nested.pth")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("nested.pth", "old.pth"):
        args = [*(arg for arg in TOY if "lr" not in arg), "--lr=0", "--train.max_steps=1"]
        given = run("train", f"--run={name}", *args, f"--load-model-path={name}")
        assert given.code == 0 and "4 of 4 tensors taken" in given.out
        assert all(map(torch.equal, weights.values(), state(name)["model"].values()))
    assert said(run("train", "--run=b", *TOY, "--load-model-path=list.pth"), 4, "holds no state_dict")


def test_a_damaged_journal_and_picture_do_not_keep_a_run_from_going_on(run, tmp_path):
    flags = [flag for flag in TOY if "visdom" not in flag]
    assert run("train", "--run=a", *flags, "--log.visdom_port=9", "--train.max_steps=3").code == 0
    journal = tmp_path / "checkpoints" / "a" / "log.jsonl"
    content = journal.read_bytes()
    lines = [b"\xff\xfe", b"5", b"{}", b'{"phase": "show", "time": 0, "epoch": 0, "step": 1, "picture": "bad.png"}']
    journal.write_bytes(b"\n".join([*lines, content]))
    (tmp_path / "checkpoints" / "a" / "bad.png").write_bytes(b"no picture")
    given = run("train", "--resume=checkpoints/a", "--train.max_steps=5")
    assert given.code == 0, given.err


def test_a_longer_run_keeps_the_last_rate_of_a_rule_that_ends(run):
    for rule, last in (("CosineAnnealingLR", 0.5e-3), ("PolynomialLR", 0.5e-3)):
        flags = [*TOY, f"--schedule={rule}"]
        assert run("train", f"--run={rule}", *flags).code == 0
        given = run("train", f"--resume=checkpoints/{rule}", "--max-epoch=4")
        assert given.code == 0 and "made for 2 epochs: its last rate stays" in given.out
        rates = {row["epoch"]: row["lr"] for row in rows(rule, phase="train")}
        assert rates == pytest.approx({0: 1e-3, 1: last, 2: last, 3: last})


def test_an_open_window_in_fp16_is_closed_after_a_resume(run):
    args = [*TOY, "--train.precision=fp16", "--train.accumulate=3", "--train.clip=1"]  # of 40 batches
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=40").code == 0
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert given.code == 0, given.err
    whole, cut = state("whole")["model"], state("cut")["model"]
    assert all(map(torch.equal, whole.values(), cut.values()))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation", "train.deterministic: "),
        ("Expected more than 1 value per channel when training, got input size [1, 8]", "data.batch_size: BatchNorm"),
        ("InvalidCxxCompiler: No working C++ compiler found", "train.compile: needs a "),
        ("RuntimeError: Failed to find C compiler. Please specify via CC", "train.compile: needs a C compiler"),
    ],
)
def test_what_torch_says_of_a_key_names_the_key(text, told):
    kind = ValueError if "channel" in text else RuntimeError
    with pytest.raises(ConfigError, match=told), explain_torch_errors(load("default", [])):
        raise kind(text)
    with pytest.raises(kind, match="something else"), explain_torch_errors(load("default", [])):
        raise kind("something else")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_too_little_memory_is_told_with_what_to_do(text):
    with (
        pytest.raises(MemoryShortage, match="batch size 32 .*--batch-size=16"),
        explain_torch_errors(load("default", [])),
    ):
        raise RuntimeError(text)
