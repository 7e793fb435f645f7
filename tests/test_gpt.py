"""The character Transformer: what it sees, the same numbers as torch's own layers, its text, and resuming it."""

import math

import pytest
import torch
from conftest import DATA, PLAIN, ROOT, rows, same_run, state

from models.gpt import GPT
from utils.errors import ConfigError

TEXT = "To be, or not to be:\n  that is the question.\n" * 30
SMALL = [
    str(ROOT / "configs" / "shakespeare.yaml"),
    "--data.dataset.root=texts",
    "--data.dataset.length=8",
    "--model.width=16",
    "--model.layers=1",
    "--model.heads=2",
    "--batch-size=16",
    "--print-freq=5",
    *PLAIN,
]


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/input.txt").write_text(TEXT)


@torch.no_grad()
def test_a_later_character_changes_nothing_before_it():
    net = GPT(20, length=12, width=16, layers=2, heads=4).eval()
    x = torch.randint(20, (3, 12))
    other = x.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 20
    before, after = net(x)[0], net(other)[0]
    assert torch.allclose(before[:, :7], after[:, :7], atol=1e-6)
    assert (before[:, 7:] - after[:, 7:]).abs().amin(2).max() > 1e-4


@torch.no_grad()
def test_it_computes_what_torchs_own_layers_do():
    net = GPT(11, length=6, width=8, layers=2, heads=2, tied=False).eval()
    for parameter in net.parameters():
        parameter.normal_(std=0.3)
    hidden = net.embedding.weight[x := torch.randint(11, (4, 6))] + net.positions.weight
    for block in net.blocks:
        own = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).eval()
        parts = {"self_attn.in_proj_": block.attention.inputs, "self_attn.out_proj.": block.attention.output}
        parts |= {"linear1.": block.mlp[0], "linear2.": block.mlp[2], "norm1.": block.norm1, "norm2.": block.norm2}
        weights = {f"{name}{kind}": getattr(part, kind) for name, part in parts.items() for kind in ("weight", "bias")}
        own.load_state_dict(weights)
        hidden = own(hidden, torch.nn.Transformer.generate_square_subsequent_mask(6), is_causal=True)
    assert torch.allclose(net(x)[0], net.output(net.norm(hidden)), atol=1e-5)


@torch.no_grad()
def test_its_state_is_the_text_that_it_still_sees():
    net = GPT(20, length=9, width=16, layers=2, heads=4).eval()
    x = torch.randint(20, (3, 12))
    left, text = net(x[:, :4])
    right, _ = net(x[:, 4:9], text)
    assert torch.allclose(torch.cat([left, right], 1), net(x[:, :9])[0], atol=1e-6)
    _, text = net(x[:, :9])
    moved, text = net(x[:, 9:], text)
    assert torch.equal(text, x[:, 3:])
    assert torch.allclose(moved, net(x[:, 3:])[0][:, -3:], atol=1e-6)
    with pytest.raises(ConfigError, match="reads 9 characters at most and is given 12"):
        net(x)


def test_the_first_weights_are_gpt_2s_and_larger_in_a_narrower_network():
    torch.manual_seed(0)
    assert float(GPT(9, width=768, layers=1, heads=4).blocks[0].mlp[0].weight.std()) == pytest.approx(0.02, rel=0.01)
    net = GPT(200, length=64, width=192, layers=8, heads=4)  # a quarter of GPT-2's: twice as large
    assert float(net.blocks[0].mlp[0].weight.detach().std()) == pytest.approx(0.04, rel=0.03)
    assert float(net.blocks[0].mlp[2].weight.detach().std()) == pytest.approx(0.04 / 4, rel=0.03)
    assert net.output.weight is net.embedding.weight
    assert all(not parameter.any() for name, parameter in net.named_parameters() if name.endswith("bias"))
    with pytest.raises(ValueError, match="width=10, heads=4"):
        GPT(20, width=10)


def test_it_goes_on_with_a_text_of_any_length(run, texts):
    assert run("train", *SMALL, "--max-epoch=1", "--train.rehearse=false", "--run=a").code == 0
    start = "To be, or not to be:  that is"  # longer than the 8 characters that it sees
    given = run("generate", "checkpoints/a", f"--start-words={start}", "--max-gen-len=60")
    assert given.code == 0 and given.out.startswith(start), given.err
    assert state("a")["model"]["positions.weight"].shape == (8, 16), "the length is the data's"
    short = run("train", *SMALL, "--max-epoch=1", "--run=b", "--model.length=4")
    assert short.code == 2 and "model.length: the network reads 4" in short.err


@pytest.mark.parametrize("steps", [1, 7])
def test_stopped_and_resumed_it_is_the_same_run(run, texts, steps):
    args = [*SMALL, "--max-epoch=2", "--model.dropout=0.2", "--train.ema=0.9", "--schedule.pct_start=0.3"]
    assert run("train", "--run=whole", *args).code == 0
    total = rows("whole", phase="val")[-1]["step"]
    cut = [f"--schedule.total_steps={total}", f"--train.max_steps={steps}"]
    assert run("train", "--run=cut", *args, *cut).code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole"))


@pytest.mark.learns
def test_it_learns_a_short_text_by_heart(run, texts):
    given = run("train", *SMALL, "--max-epoch=30", "--run=a", "--optim.lr=0.01")
    assert given.code == 0, given.err
    assert rows("a", phase="val")[-1]["perplexity"] < 3 < rows("a", phase="val")[0]["perplexity"]


@pytest.mark.slow
@pytest.mark.chapter
@pytest.mark.skipif(not (DATA / "shakespeare").is_dir(), reason="Shakespeare's plays are absent")
def test_on_shakespeare_it_is_near_nanogpt_on_a_cpu(run):
    root = f"--data.dataset.root={DATA / 'shakespeare'}"
    given = run("train", str(ROOT / "configs" / "shakespeare.yaml"), "--run=a", root, *PLAIN)
    assert given.code == 0, given.err
    last = rows("a", phase="val")[-1]
    assert last["step"] == 2000 and last["loss"] <= 1.88 and math.isclose(math.exp(last["loss"]), last["perplexity"])
