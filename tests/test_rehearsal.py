"""The rehearsal: it changes nothing, and names planted faults before the first step."""

import re
from types import SimpleNamespace

import pytest
from conftest import PLAIN, TOY, rows, same_run, state
from test_configs import SHIPPED, commands
from test_docs import shortened
from tiny_data import make_data

from configs import COMPONENTS

IMPORTS = "import os\n\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
HEAD = f'"""Mine."""\n\n{IMPORTS}\n__all__ = ["Mine"]\n\n\n'
ONLY = ["--train.rehearse=only", "--run=a", *PLAIN]
BN = "self.bn = nn.BatchNorm1d(64); self.drop = nn.Dropout(0.5); self.fc = nn.Linear(64, num_classes)"


def network(layers: str, forward: str, more: str = "") -> str:
    """A file with a model; statements are ended by `;`, `more` are methods."""

    def lines(code: str) -> str:
        return "".join(f"        {line.strip()}\n" for line in code.split(";"))

    start = "class Mine(nn.Module):\n    def __init__(self, num_classes: int = 10):\n        super().__init__()\n"
    return (
        HEAD + start + lines(layers) + "    def forward(self, x):\n        x = x.flatten(1)\n" + lines(forward) + more
    )


def dataset(sample: str = "torch.rand(1, 8, 8), i % 10", more: str = "", classes: int = 10, test: str = "") -> str:
    """A file with a dataset of 64 samples; `more` are lines of its constructor."""
    return HEAD + (
        "class Mine:\n    def __init__(self, split, root=None):\n        self.split, self.root = split, root\n"
        f"        if split == 'test':\n            {test or 'pass'}\n"
        f"        names = [str(i) for i in range({classes})]\n"
        f"        self.meta = {{'classes': names, 'num_classes': {classes}, 'image_size': [8, 8]}}\n"
        f"        {more or 'pass'}\n"
        "    def __len__(self):\n        return 64\n"
        f"    def __getitem__(self, i):\n        return {sample}\n"
    )


AN_OBJECT = (
    "    def get_extra_state(self):\n        return {1, 2}\n    def set_extra_state(self, state):\n        pass\n"
)
NOT_LOADED = "    def _load_from_state_dict(self, *arguments):\n        pass\n"
FC = "self.fc = nn.Linear(64, num_classes)"
MISSING = "from utils.errors import DataError; raise DataError(f'{root}: there is no such folder')"
FILES = "self.files = [os.path.join('pictures', f'{i}.png') for i in range(3)]"
COPIES = "self.files = [os.path.join('pictures', f'{split}{i}.png') for i in range(3)]"
FAULTS = {  # a model, a dataset or a task of one's own, flags; exit code, words
    # layers and gradients
    "a list": (
        network(f"self.layers = [nn.Linear(64, 64)]; {FC}", "return self.fc(self.layers[0](x))"),
        [],
        2,
        "models/mine.py:15: model.layers is a Python list",
    ),
    "a dict": (
        network(f"self.heads = {{'a': nn.Linear(64, 64)}}; {FC}", "return self.fc(self.heads['a'](x))"),
        [],
        2,
        "model.heads is a Python dict",
    ),
    "parameters in a list": (
        network(f"self.scales = [nn.Parameter(torch.ones(64))]; {FC}", "return self.fc(x * self.scales[0])"),
        [],
        2,
        "make it an nn.ParameterList",
    ),
    "never used": (
        network(f"self.extra = nn.Linear(64, 8); {FC}", "return self.fc(x)"),
        [],
        2,
        "model.extra (Linear, 520 parameters) was never used",
    ),
    "detached": (
        network(f"self.stem = nn.Linear(64, 64); {FC}", "return self.fc(self.stem(x).detach())"),
        [],
        2,
        "model.stem (Linear, 4,160 parameters) got no gradient",
    ),
    "made in forward": (
        network(f"self.late = None; {FC}", "self.late = self.late or nn.Linear(64, 64); return self.fc(self.late(x))"),
        [],
        2,
        "is in no optimizer and does not learn",
    ),
    # outputs and losses
    "softmax": (network(FC, "return self.fc(x).softmax(1)"), [], 2, "whose sum is 1, as after softmax"),
    "sigmoid": (network(FC, "return self.fc(x).sigmoid()"), [], 2, "as after sigmoid"),
    "relu": (network(FC, "return F.relu(self.fc(10 * x))"), [], 2, "as after ReLU"),
    "large outputs": (network(FC, "return 300 * self.fc(x)"), [], 2, "where a guess has 2.3"),
    "another head": (
        network("self.fc = nn.Linear(64, 7)", "return self.fc(x)"),
        [],
        2,
        "model: gives [7] for each sample, the data has 10 classes",
    ),
    "nothing returned": (network(FC, "self.fc(x)"), [], 10, "models/mine.py:16: forward of Mine gives None"),
    "an error in forward": (
        network(FC, "return self.head(x)"),
        [],
        10,
        "models/mine.py:18: in forward: AttributeError",
    ),
    "only in validation": (
        network(FC, "return self.fc(x) if self.training else self.fc(x)[:, :3]"),
        [],
        2,
        "model: gives [3] for each sample",
    ),
    "two shapes": (
        network(f"self.stem = nn.Linear(60, 64); {FC}", "return self.fc(self.stem(x))"),
        [],
        2,
        "a layer is given another size than it takes",
    ),
    # modes
    "frozen statistics": (
        network(BN, "self.bn.eval(); return self.fc(self.bn(x))"),
        [],
        2,
        "model.bn (BatchNorm1d) is used in evaluation mode while",
    ),
    "no train()": (
        network(
            BN,
            "return self.fc(self.drop(self.bn(x)))",
            "    def train(self, mode=True):\n        return super().train(True)\n",
        ),
        [],
        2,
        "models/mine.py:21: model.bn (BatchNorm1d) and 1 more is used in training mode",
    ),
    "live dropout": (
        network(FC, "return self.fc(F.dropout(x, 0.5))"),
        [],
        2,
        "F.dropout without training=self.training",
    ),
    # saving
    "an object is saved": (
        network(
            FC,
            "return self.fc(x)",
            AN_OBJECT,
        ),
        [],
        2,
        "a checkpoint holds tensors and plain values",
    ),
    "loads nothing": (
        network(f"self.scale = nn.Parameter(torch.ones(64)); {FC}", "return self.fc(x * self.scale)", NOT_LOADED),
        [],
        10,
        "'scale' is not loaded as it was saved",
    ),
    # settings
    "rate 0": ("", ["--lr=0", "--schedule=null"], 2, "the learning rate is 0 in the whole run"),
    "rate soon 0": (
        "",
        ["--schedule={name: StepLR, step_size: 1, gamma: 1e-6}", "--max-epoch=10"],
        2,
        "next to 0 in 90% of the run",
    ),
    "a rate that explodes": ("", ["--lr=1e30", "--schedule=null"], 6, "try a smaller --lr"),
    "a folder as CSV": ("", ["--result-file=."], 2, "is a folder; name a file in it"),
    "no sample": ("", ["--test.sample=nowhere.csv"], 3, "nowhere.csv: there is no such file"),
    "another sample": ("", ["--test.sample=sample.csv"], 3, "of its ids have no prediction"),
    # data
    "labels from 1": (dataset("(torch.rand(1, 8, 8), 1 + i % 10)"), [], 3, "the label 10 for the sample"),
    "labels as floats": (dataset("(torch.rand(1, 8, 8), float(i % 10))"), [], 3, "labels of type float"),
    "one-hot labels": (
        dataset("(torch.rand(1, 8, 8), F.one_hot(torch.tensor(i % 10), 10))"),
        [],
        3,
        "one for each class",
    ),
    "bytes": (dataset("((255 * torch.rand(1, 8, 8)).byte(), i % 10)"), [], 3, "inputs must be float32"),
    "not a number": (dataset("(torch.rand(1, 8, 8) / 0, i % 10)"), [], 6, "NaN or infinite numbers"),
    "an input in all of 255": (dataset("(255 * torch.rand(1, 8, 8), i % 10)"), [], 2, "are the inputs scaled"),
    "only in the test split": (
        dataset("(torch.rand(1, 8, 8), i % 10)", test="raise KeyError('label')"),
        [],
        10,
        "data/mine.py:16: in __init__: KeyError: 'label'",
    ),
    "ids twice": (
        dataset("(torch.rand(1, 8, 8), i % 10)", "self.ids = [str(i // 2) for i in range(64)]"),
        [],
        3,
        "64 test samples have only 32 different ids",
    ),
    "files in both": (
        dataset("(torch.rand(1, 8, 8), i % 10)", FILES),
        [],
        3,
        "3 files of the validation split are in the training split, too; the first is pictures/0.png",
    ),
    "copies in both": (
        dataset("(torch.rand(1, 8, 8), i % 10)", COPIES),
        [],
        3,
        "with the same content; the first is pictures/train0.png and pictures/val0.png",
    ),
    "no test files": (
        dataset("(torch.rand(1, 8, 8), i % 10)", test=MISSING),
        ["--test-data-root=gone"],
        3,
        "gone: there is no such folder",
    ),
}


@pytest.fixture
def plant(run, tmp_path):
    """Rehearse with a planted file, and return what was said."""

    def command(text: str, *flags: str):
        kind = "data" if "__getitem__" in text else "models"
        (tmp_path / "pictures").mkdir()
        for name in ("0", "1", "2", "train0", "train1", "train2", "val0", "val1", "val2"):
            (tmp_path / f"pictures/{name}.png").write_bytes(name[-1].encode() * 100)
        (tmp_path / "sample.csv").write_text("id,label\n1,0\nx,0\n")
        chosen = ["--model=MLP"]
        if text:
            (tmp_path / kind).mkdir()
            (tmp_path / kind / "mine.py").write_text(text)
            chosen = ["--model=MLP", "--data.dataset=Mine"] if kind == "data" else ["--model=Mine"]
        given = run("train", *chosen, *ONLY, *flags)
        assert not (tmp_path / "checkpoints" / "a").exists()
        return given

    return command


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_named_before_the_first_step(plant, kind):
    text, flags, code, expected = FAULTS[kind]
    given = plant(text, *flags)
    assert given.code == code and expected in given.err, given
    assert "Traceback" not in given.err


def test_there_are_enough_of_them():
    assert len(FAULTS) >= 25


def test_only_trains_nothing_and_says_what_was_rehearsed(run, tmp_path):
    given = run("train", "--model=MLP", *ONLY)
    assert (given.code, given.err) == (0, "")
    (line,) = given.out.splitlines()
    assert re.fullmatch(
        r"rehearsed in [\d.]+ s: 10 steps, a validation \(accuracy 0\.\d+\), a checkpoint read back, 32 predictions, a "
        r"submission of 270 rows; an epoch of 40 steps takes about .*, the run .*; learning rate 0.002 first, 0.002 "
        r"highest, .*; 0.1 MB a checkpoint, .* MB at most, .* MB free; .* GB of memory at the peak",
        line,
    ), line
    assert not list((tmp_path / "checkpoints").iterdir())


def test_all_faults_are_told_at_once(plant):
    text = network(f"self.extra = nn.Linear(64, 8); {FC}", "return self.fc(x).softmax(1)")
    given = plant(text, "--result-file=.")
    assert given.code == 2 and len(given.err.splitlines()) == 3, given.err


def test_an_oddity_is_a_note_and_told_once_and_the_run_goes_on(run, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(network(f"self.extra = nn.Linear(64, 8); {FC}", "return self.fc(x)"))
    given = run("train", "--model=Mine", "--run=a", "--train.rehearse=true", "--train.max_steps=12", *PLAIN)
    assert given.code == 0 and given.out.count("was never used") == 1, given.out
    assert given.out.index("was never used") < given.out.index("rehearsed in") and len(rows("a", phase="val")) == 1


NETWORKS = {
    "MLP": ["--model.dropout=0.5"],
    "LeNet": ["--train.ema=0.9"],
    "accumulate": ["--train.accumulate=3", "--schedule=OneCycleLR", "--data.balance_classes"],
    "batch norm": ["--model=Mine", "--num-workers=1"],
    "a generator": ["--data.dataset=Mine"],
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_with_and_without_it_is_the_same_run(run, tmp_path, kind):
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    counted = "self.steps = self.steps + 1; return self.fc(self.drop(self.bn(x))) + self.steps / 100"
    (tmp_path / "models/mine.py").write_text(network(f"{BN}; self.steps = 0", counted))
    own = "self.rng = __import__('numpy').random.default_rng(0)"
    if kind == "a generator":
        (tmp_path / "data/mine.py").write_text(
            dataset("(torch.tensor(self.rng.random((1, 8, 8))).float(), i % 10)", own)
        )
    model = [] if "--model=Mine" in NETWORKS[kind] else ["--model=LeNet" if kind == "LeNet" else "--model=MLP"]
    flags = ["--optim=Adam", "--print-freq=1", "--max-epoch=1", "--train.max_steps=6", *PLAIN, *model, *NETWORKS[kind]]
    for rehearse in ("true", "false"):
        given = run("train", f"--run={rehearse}", f"--train.rehearse={rehearse}", *flags)
        assert given.code == 0 and ("rehearsed in" in given.out) == (rehearse == "true"), given
    assert same_run(state("true"), state("false"))
    assert rows("true") == rows("false") and state("true")["data"] == state("false")["data"]


def test_auto_rehearses_where_an_epoch_is_longer_than_a_minute(run, tmp_path, monkeypatch):
    flags = ["--model=MLP", "--train.max_steps=2", *PLAIN]
    given = run("train", "--run=short", *flags)
    assert given.code == 0 and "rehearsed" not in given.out
    monkeypatch.setattr("trainer.checks.rehearsal.MINUTE", 1e-4)
    given = run("train", "--run=long", *flags)
    assert given.code == 0 and "rehearsed in" in given.out
    assert "rehearse: auto\n" in (tmp_path / "checkpoints/long/config.yaml").read_text()
    assert same_run(state("short"), state("long"))


def test_a_resumed_run_does_not_rehearse(run):
    flags = ["--train.rehearse=true", "--run=a", *TOY]
    assert "rehearsed in" in run("train", *flags, "--train.max_steps=5").out
    given = run("train", "--resume=checkpoints/a", "--train.max_steps=8")
    assert given.code == 0 and "rehearsed" not in given.out


def test_a_full_disk_is_an_error_of_storage(run, monkeypatch):
    monkeypatch.setattr("trainer.checks.findings.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    given = run("train", "--model=MLP", *ONLY)
    assert given.code == 5 and "the disk is too small: 0.1 MB a checkpoint" in given.err


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nothing_is_named_in_a_shipped_config(path, run, tmp_path):
    make_data(tmp_path / "data")
    words = next(words for words in commands(path) if words[0] == "train")
    flags = [
        word
        for word in shortened(["python", "main.py", *words])[3:]
        if not re.search("max_steps|rehearse|pictures|visdom", word)
    ]
    given = run("train", *flags, "--train.rehearse=only")
    assert (given.code, given.err) == (0, "") and "rehearsed in" in given.out, given


# Memory

HUNGRY = network(
    FC,
    "F.linear(x, x) if len(x) <= LIMIT else self.fail(len(x)); return self.fc(x)",
    ("    def fail(self, count):\n        raise torch.OutOfMemoryError(f'CUDA out of memory: {count}')\n"),
)


@pytest.fixture
def hungry(run, tmp_path):
    """Train a network that runs out of memory with more than 12 samples."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(HUNGRY.replace("LIMIT", "12"))

    def command(*flags: str):
        steps = [] if any("max_steps" in flag for flag in flags) else ["--train.max_steps=6"]
        return run("train", "--model=Mine", "--optim=Adam", "--print-freq=1", *steps, *PLAIN, *flags)

    return command


def test_out_of_memory_stops(hungry):
    given = hungry("--run=a")
    assert given.code == 8 and "out of memory with batch size 32" in given.err and "--train.oom=fit" in given.err


@pytest.mark.parametrize("rehearse", ["true", "false", "auto"])
def test_out_of_memory_halves_the_batch(hungry, tmp_path, rehearse):
    given = hungry("--run=a", "--train.oom=fit", f"--train.rehearse={rehearse}")
    assert given.code == 0, given
    told = [line for line in given.out.splitlines() if line.startswith("out of memory:")]
    assert len(told) == 2 and "data.batch_size 16 -> 8, train.accumulate -> 4 (32 samples" in told[1], given.out
    text = (tmp_path / "checkpoints/a/config.yaml").read_text()
    assert "batch_size: 8\n" in text and "accumulate: 4\n" in text
    assert hungry("--run=b", "--batch-size=8", "--train.accumulate=4").code == 0
    assert same_run(state("a"), state("b")) and rows("a") == rows("b")


def test_the_largest_batch_is_found(hungry, tmp_path):
    given = hungry("--run=a", "--batch-size=auto")
    assert given.code == 0 and "data.batch_size: auto -> 8 (16 do not fit into memory" in given.out, given
    assert "batch_size: 8\n" in (tmp_path / "checkpoints/a/config.yaml").read_text()
    assert hungry("--run=b", "--batch-size=8").code == 0
    assert same_run(state("a"), state("b")) and rows("a") == rows("b")
    (tmp_path / "models/mine.py").write_text(HUNGRY.replace("LIMIT", "3"))
    assert "data.batch_size: auto -> 2" in hungry("--run=c", "--batch-size=auto").out


def test_a_cpu_ends_where_larger_batches_are_no_faster(run, tmp_path, monkeypatch):
    rates = {8: 100.0, 16: 190.0, 32: 300.0, 64: 310.0, 128: 305.0}
    monkeypatch.setattr("trainer.checks.memory._samples_a_second", lambda parts: rates[parts.train_loader.batch_size])
    given = run("train", "--model=MLP", "--run=a", "--batch-size=auto", "--train.max_steps=2", *PLAIN)
    assert given.code == 0 and "data.batch_size: auto -> 32 (larger ones are no faster; 300" in given.out, given


def test_auto_is_understood_everywhere(run):
    assert run("check", "--batch-size=auto").code == 0
    assert "auto" in run("help", "data.batch_size").out
    assert run("check", "--batch-size=0").code == 2 and run("check", "--batch-size=atuo").code == 2
    assert run("check", "--batch-size=auto", "--data").code == 0


# Overfit


def test_a_batch_can_be_learned_by_heart(run):
    given = run("train", "--model=MLP", "--train.overfit=1", "--optim=Adam", "--lr=0.01", "--run=a", *PLAIN)
    assert given.code == 0 and "overfit: the first batch again and again, 34 steps an epoch" in given.out, given
    (line,) = [line for line in given.out.splitlines() if line.startswith("overfit: the loss went")]
    assert line.endswith("in 204 steps: near zero, so the network can learn these samples"), line
    assert rows("a", phase="val")[-1]["accuracy"] == 1.0


ODD = {
    "a small rate": (["--lr=1e-7", "--schedule=null"], "it hardly moves: try --lr=1e-06"),
    "dropout": (["--model.dropout=0.9"], "dropout is on (0.9)"),
    "decay": (["--optim={name: AdamW, lr: 1e-5, weight_decay: 0.5}"], "optim.weight_decay is 0.5"),
    "labels": (["--data.dataset=Mine", "--optim=Adam"], "inputs of the batch are there twice with different labels"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_keeps_a_loss_from_zero_is_told(run, tmp_path, kind):
    flags, expected = ODD[kind]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.py").write_text(dataset("(torch.ones(1, 8, 8) * (i % 8), i % 10)"))
    given = run(
        "train", "--model=MLP", "--train.overfit=1", "--train.max_steps=20", "--max-epoch=1", "--run=a", *PLAIN, *flags
    )
    assert given.code == 0 and "not near zero: " in given.out and expected in given.out, given
    assert len(rows("a", phase="val")) == 1


def test_the_registry_knows_the_watchers():
    assert COMPONENTS["watcher"].get("Modes") and COMPONENTS["watcher"].get("Overfit")
