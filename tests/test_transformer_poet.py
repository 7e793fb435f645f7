"""The Transformer poet: what it sees, that it learns and writes poems, the same poem again, and resuming it."""

import math

import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from test_poetry import poem, write_poems

from models.transformer_poet import TransformerPoet, sines
from utils.errors import ConfigError

SMALL = ["poetry", "--model=TransformerPoet", "--model.width=32", "--model.heads=4", "--model.layers=2", "--lr=5e-3"]
SMALL += ["--data.dataset.root=poems", "--data.dataset.length=24", "--data.dataset.val_fraction=0.25"]
SMALL += ["--batch-size=4", "--print-freq=5", "--train.rehearse=false", *PLAIN]


@pytest.fixture
def poems(tmp_path):
    write_poems(tmp_path / "poems", [poem(i) for i in range(49)])


def small(**options) -> TransformerPoet:
    return TransformerPoet(20, **{"length": 12, "width": 16, "layers": 2, "heads": 4, **options})


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_a_later_character_changes_nothing_before_it(training):
    net = small(dropout=0.0).train(training)
    x = torch.randint(20, (3, 12))
    other = x.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 20
    before, after = net(x)[0], net(other)[0]
    assert torch.allclose(before[:, :7], after[:, :7], atol=1e-6)
    assert (before[:, 7:] - after[:, 7:]).abs().amin(2).max() > 1e-4


@torch.no_grad()
def test_the_order_of_the_characters_counts():
    net = small().eval()
    x = torch.randint(20, (1, 6))
    x[0, 0], x[0, 1] = 3, 4
    other = x[:, [1, 0, 2, 3, 4, 5]]
    assert (net(x)[0][:, -1] - net(other)[0][:, -1]).abs().max() > 1e-4


def test_the_positions_are_those_of_the_paper():
    found = sines(9, 6)
    assert found.shape == (9, 6)
    for position in range(9):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            assert found[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


@torch.no_grad()
def test_its_state_is_the_text_that_it_still_sees():
    net = small(length=9).eval()
    x = torch.randint(20, (3, 12))
    left, text = net(x[:, :4])
    right, text = net(x[:, 4:9], text)
    assert torch.allclose(torch.cat([left, right], 1), net(x[:, :9])[0], atol=1e-5)
    moved, text = net(x[:, 9:], text)
    assert torch.equal(text, x[:, 3:])
    assert torch.allclose(moved, net(x[:, 3:])[0][:, -3:], atol=1e-5)
    with pytest.raises(ConfigError, match="reads 9 characters at most and is given 12"):
        net(x)


def test_its_layers_begin_with_weights_of_their_own():
    first, second = (layer.linear1.weight for layer in small().encoder.layers)
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="width=10, heads=4"):
        TransformerPoet(20, width=10, heads=4)


def test_it_writes_an_acrostic_and_the_same_poem_again(run, poems):
    assert run("train", *SMALL, "--max-epoch=1", "--run=a").code == 0
    poem = ["generate", "checkpoints/a", "--start-words=春眠", "--prefix-words=白日依山盡。", "--max-gen-len=60"]
    first, again, other = (run(*poem, f"--seed={seed}") for seed in (3, 3, 4))
    assert first.code == 0 and first.out == again.out != other.out and first.out.startswith("春眠"), first.err
    lines = run("generate", "checkpoints/a", "--start-words=春夜花", "--acrostic", "--max-gen-len=60").out.split()
    assert [line[0] for line in lines][:3] == ["春", "夜", "花"]
    unknown = run("generate", "checkpoints/a", "--start-words=猫")
    assert unknown.code == 2 and "has never learned 猫" in unknown.err


@pytest.mark.parametrize("steps", [3, 7])
def test_stopped_and_resumed_it_is_the_same_run(run, poems, steps):
    args = [*SMALL, "--max-epoch=2", "--schedule.pct_start=0.3"]
    assert run("train", "--run=whole", *args).code == 0
    total = rows("whole", phase="val")[-1]["step"]
    assert run("train", "--run=cut", *args, f"--schedule.total_steps={total}", f"--train.max_steps={steps}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole"))


@pytest.mark.learns
def test_it_learns_tiny_poems(run, poems):
    given = run("train", *SMALL, "--max-epoch=12", "--run=a", "--model.dropout=0")
    assert given.code == 0, given.err
    found = [row["perplexity"] for row in rows("a", phase="val")]
    assert found[-1] < 2.5 < found[0]
