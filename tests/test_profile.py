"""train.profile and the watcher Kernels: they look at a run, write what they saw, and leave every bit as it was."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLAIN, rows, same_run, state
from PIL import Image

from configs import load
from trainer.build import build

SHORT = ["--model=LeNet", "--max-epoch=2", "--print-freq=1", *PLAIN]
LOOKING = ["--train.profile=[5,8]", "--log.watchers=[{name: Kernels, layers: [features.3, features.0]}]"]


def test_a_run_that_is_looked_at_is_the_same_run(run):
    assert run("train", "--run=a", *SHORT).code == 0
    given = run("train", "--run=b", *SHORT, *LOOKING)
    assert given.code == 0 and "left out" not in given.out, given
    assert rows("a") == rows("b") and same_run(state("a"), state("b"))
    told = Path("checkpoints/b/profile.txt").read_text().splitlines()
    assert re.match(r"profile of steps 5 to 8: [\d.e+]+ ms a step, \d+% of it in operations of torch", told[0])
    assert len(told) == 11 and all(line in given.out for line in told)
    assert any("convolution, backward (aten::convolution_backward)" in line for line in told), told
    calls = json.loads(Path("checkpoints/b/trace.json").read_text())["traceEvents"]
    assert sum(call.get("name") == "aten::convolution_backward" for call in calls) == 2 * 4  # two layers, four steps
    for name in ("kernels.png", "feature_maps.png"):
        assert np.asarray(Image.open(f"checkpoints/b/{name}").convert("L")).std() > 10
    assert not {"profile.txt", "trace.json", "kernels.png"} & {path.name for path in Path("checkpoints/a").iterdir()}


def test_steps_beyond_the_end_are_told(run):
    given = run("train", "--run=a", *SHORT, "--train.max_steps=6", "--train.profile=[7,9]")
    assert given.code == 0 and "steps 7 to 9 lie beyond the end of the run, which has 6 steps" in given.out
    given = run("train", "--run=b", *SHORT, "--train.max_steps=6", "--train.profile=[5,9]")
    assert given.code == 0 and "profile of steps 5 to 6: " in given.out
    given = run("train", "--resume=checkpoints/b", "--train.max_steps=10")
    assert given.code == 0 and "profile of steps 7 to 9: " in given.out
    assert run("train", "--run=c", *SHORT, "--train.max_steps=10").code == 0
    assert rows("b", phase="train") == rows("c", phase="train") and same_run(state("b"), state("c"))
    for steps in ("[0,3]", "[5,4]"):
        given = run("check", f"--train.profile={steps}")
        assert given.code == 2 and "must be [first, last]: steps, counted from 1" in given.err


def test_feature_maps_are_the_layers_outputs(run, monkeypatch):
    from utils.figures import gallery

    drawn = []
    whole = gallery.draw_gallery
    monkeypatch.setattr(gallery, "draw_gallery", lambda *given: drawn.append(given) or whole(*given))
    flags = ["--train.max_steps=1", "--log.watchers=[Kernels]", "--lr=0"]
    assert run("train", "--run=a", *SHORT, *flags).code == 0
    kernels, maps = (next(rows_ for title, rows_, *_ in drawn if title.startswith(of)) for of in ("kern", "feature"))
    weight = state("a")["model"]["features.0.weight"]
    picture = torch.from_numpy(kernels[0].pictures[2][:, ::12, ::12].astype("float32"))
    low, high = weight[2].min(), weight[2].max()
    assert torch.allclose(picture / 255, (weight[2] - low) / (high - low), atol=0.003)
    assert [len(row.pictures) for row in maps] == [1, 6]
    parts = build(load("default", model="LeNet"), lambda text: None)
    network, seen = parts.state.task.model.eval(), []
    network.features[0].register_forward_hook(lambda layer, given, output: seen.append(output[0].clone()))
    network(next(parts.train_loader.epoch(0))[1][0][:1])  # the same seed: the same weights and the same first picture
    low, high = seen[0][1].min(), seen[0][1].max()
    drawn_map = torch.from_numpy(maps[1].pictures[1].astype("float32"))[0, ::2, ::2] / 255  # 28 pixels at twice
    assert torch.allclose(drawn_map, (seen[0][1] - low) / (high - low), atol=0.003)
    assert kernels[0].title == ("features.0: 6 of 6 kernels, each from its lowest value (black) to its highest (white)")


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--log.watchers=[{name: Kernels, layers: [featurs.0]}]"], "no convolution 'featurs.0'; did you mean"),
        (["--log.watchers=[Kernels]", "--model=MLP"], "the network has no convolution"),
    ],
)
def test_kernels_that_are_not_there_cost_a_sentence(run, flags, told):
    given = run("train", "--run=a", *SHORT[1:], "--model=LeNet" if len(flags) < 2 else flags[1], flags[0])
    assert given.code == 0 and told in given.out, given
