"""The sequence classifier: layers and cells that compute the same, padding, order, pictures by rows, resuming."""

import struct

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, rows, same_run, state
from torch.nn import functional as F

from models.sequence import SequenceClassifier

KINDS = ["rnn", "lstm", "gru"]
SMALL = [
    "--data.dataset=Digits",
    "--model.width=24",
    "--print-freq=10",
    "--optim.lr=2e-2",
    *PLAIN,
]


def pair(kind: str, **arguments) -> tuple[SequenceClassifier, SequenceClassifier]:
    """The network of torch's layers and that of its cells, with the same weights."""
    whole, cells = (
        SequenceClassifier(3, kind=kind, **arguments),
        SequenceClassifier(3, kind=f"{kind}_cell", **arguments),
    )
    given = whole.state_dict()
    for name in cells.state_dict():
        if name.startswith("reader"):
            _, _, layer, direction, weight = name.split(".")
            given[name] = given.pop(f"reader.layers.{weight}_l{layer}" + ("_reverse" if direction == "1" else ""))
    cells.load_state_dict(given)
    return whole, cells


def words(lengths, size=9, end=0) -> torch.Tensor:
    """Sequences of words 1 … size - 1, padded to the longest and `end` steps more."""
    drawn = torch.randint(1, size, (len(lengths), max(lengths) + end))
    return drawn * (torch.arange(drawn.shape[1]) < torch.tensor(lengths)[:, None])


# The network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (1, True), (3, True)])
def test_cells_compute_what_layers_compute(kind, layers, bidirectional):
    torch.manual_seed(0)
    for given, x in (
        ({"image_size": (5, 7), "in_channels": 2}, torch.randn(4, 2, 5, 7)),
        ({"vocabulary_size": 9}, words([6, 1, 4, 6], end=2)),
    ):
        whole, cells = pair(kind, width=8, layers=layers, bidirectional=bidirectional, **given)
        assert whole(x).shape == (4, 3) and torch.allclose(whole(x), cells(x), atol=1e-6)
        for net in (whole, cells):
            net(x).square().sum().backward()
        assert torch.allclose(whole.output.weight.grad, cells.output.weight.grad, atol=1e-5)
        last = f"_l{layers - 1}" + ("_reverse" if bidirectional else "")
        one = whole.reader.layers.get_parameter(f"weight_hh{last}").grad
        assert torch.allclose(one, cells.reader.layers[-1][-1].weight_hh.grad, atol=1e-5) and one.abs().sum() > 0


@pytest.mark.parametrize("kind", [*KINDS, "lstm_cell"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_does_not_matter_and_the_last_word_does(kind, bidirectional):
    torch.manual_seed(0)
    net = SequenceClassifier(2, vocabulary_size=9, kind=kind, width=8, layers=2, bidirectional=bidirectional)
    x = words([7, 3, 5])
    expected = net(x)
    assert torch.allclose(net(F.pad(x, (0, 4))), expected, atol=1e-6)
    assert torch.allclose(net(x[1:2, :3]), expected[1:2], atol=1e-6)  # in a batch of its own
    other = x.clone()
    other[1, 2] = other[1, 2] % 8 + 1
    assert not torch.allclose(net(other)[1], expected[1]) and torch.equal(net(other)[0], expected[0])
    assert net(torch.zeros(1, 4, dtype=torch.int64)).isfinite().all()  # no word at all


def test_a_picture_is_read_row_by_row():
    torch.manual_seed(0)
    net = SequenceClassifier(3, in_channels=2, image_size=(5, 7), kind="lstm", width=8)
    assert net.reader.layers.input_size == 14
    x = torch.randn(1, 2, 5, 7)
    steps = torch.stack([torch.cat([x[0, 0, row], x[0, 1, row]]) for row in range(5)])[None]
    assert torch.allclose(net(x), net.output(net.reader.layers(steps)[0][:, -1]), atol=1e-6)


def test_without_a_kind_of_input_or_a_layer_it_says_so():
    with pytest.raises(ValueError, match="give image_size or vocabulary_size"):
        SequenceClassifier(2)
    with pytest.raises(ValueError, match="layers >= 1, not 0"):
        SequenceClassifier(2, vocabulary_size=5, layers=0)


@pytest.mark.learns
@pytest.mark.parametrize("kind", [*KINDS, "gru_cell"])
def test_it_learns_an_order_that_a_bag_of_words_cannot_tell(kind):
    """Every sequence has the words 2 and 3 once each, among others; which of them comes first is the class."""
    torch.manual_seed(0)
    x = torch.randint(4, 9, (256, 8)) * (torch.arange(8) < torch.randint(5, 9, (256, 1)))
    places = torch.stack([torch.randperm(5)[:2].sort().values for _ in range(256)])
    y = torch.arange(256) % 2
    rows_ = torch.arange(256)
    x[rows_, places[:, 0]], x[rows_, places[:, 1]] = 2 + y, 3 - y
    net = SequenceClassifier(2, vocabulary_size=9, kind=kind, width=24)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(150):
        loss = F.cross_entropy(net(x[:192]), y[:192])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (net(x[192:]).argmax(1) == y[192:]).float().mean()
    assert right > 0.9
    shuffled = x[192:].clone()
    shuffled[:, :5] = shuffled[:, :5].flip(1)  # the same bags of words
    assert (net(shuffled).argmax(1) == y[192:]).float().mean() < 0.2


# Runs


@pytest.mark.learns
def test_it_learns_digits(run):
    given = run("train", "mnist_lstm", "--run=a", "--max-epoch=8", *SMALL)
    assert given.code == 0, given.err
    measured = rows("a", phase="val")
    assert measured[0]["accuracy"] < 0.8 and measured[-1]["accuracy"] > 0.88, measured


def test_a_kind_that_is_not_there_gets_a_sentence_with_the_near_one(run):
    given = run("train", "mnist_lstm", "--model.kind=lstn", *SMALL)
    assert given.code == 2
    assert "lstm" in given.err and len(given.err.strip().splitlines()) == 1


@pytest.mark.parametrize(("steps", "kind"), [(3, "gru"), (25, "lstm_cell")])
def test_stopped_and_resumed_it_is_the_same_run(run, steps, kind):
    args = ["mnist_lstm", "--max-epoch=2", f"--model.kind={kind}", *SMALL]
    assert run("train", "--run=whole", *args).code == 0
    total = rows("whole")[-1]["step"]
    assert run("train", "--run=cut", *args, f"--train.max_steps={steps}", f"--schedule.total_steps={total}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("whole", phase="val")[-1] == rows("cut", phase="val")[-1]
    assert same_run(state("cut"), state("whole"))


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed):
    args = ["mnist_lstm", "--max-epoch=4", "--train.save_steps=7", *SMALL]
    killed_and_resumed(*args, after=4)


def test_the_command_as_it_is_shipped(run, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 50)):
        pixels, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + values.astype(np.uint8).tobytes())
    command = ["mnist_lstm", "--data.dataset.root=made", "--train.max_steps=3", "--log.visdom=false"]
    for number, kind in enumerate(("lstm", "gru", "rnn_cell")):
        given = run("train", *command, f"--run={number}", *([] if kind == "lstm" else [f"--model.kind={kind}"]))
        assert given.code == 0, given.err
    assert run("test", "checkpoints/0").code == 0
    assert (tmp_path / "checkpoints/0/submission.csv").read_text().count("\n") == 51


@pytest.mark.learns
@pytest.mark.chapter
@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="MNIST is absent")
def test_mnist_row_by_row_reaches_97_percent(run):
    given = run("train", "mnist_lstm", "--run=a", f"--data.dataset.root={DATA / 'mnist'}", *PLAIN)
    assert given.code == 0, given.err
    assert max(row["accuracy"] for row in rows("a", phase="val")) >= 0.97


def test_pixels_that_are_no_floats_are_told_with_the_key(run):
    given = run(
        "train", "--model=SequenceClassifier", "--data.transform.train=[PILToTensor]", "--train.max_steps=1", *PLAIN
    )
    assert given.code == 3 and "inputs must be float32, as the weights are; see data.transform" in given.err, given
