"""Network, task, data and transforms that do not fit together: a sentence with the key, before anything is trained."""

import pytest
import torch
from conftest import PLAIN
from torch import nn

from configs import COMPONENTS, Component
from utils.errors import ConfigError
from utils.words import reason_of


class Pair(nn.Module):
    """A network that gives two things."""

    def forward(self, x):
        return x, x


FITS = {
    "a network of pairs": ("Classification", Pair(), (torch.zeros(4, 2), torch.zeros(4).long()), "Pair gives a tuple"),
    "inputs alone": ("Regression", nn.Linear(2, 1), torch.zeros(4, 2), "learns from an input and a target, but"),
    "no texts": ("LanguageModel", nn.Linear(2, 1), (torch.zeros(4, 2), torch.zeros(4).long()), "learns from texts"),
    "no state": ("LanguageModel", nn.Linear(2, 1), (torch.zeros(4, 2), torch.zeros(4, 2).long()), "such as CharRNN"),
    "no masks": ("Segmentation", nn.Conv2d(1, 2, 1), (torch.zeros(4, 1, 8, 8), torch.zeros(4).long()), "are no masks"),
    "three": ("Segmentation", nn.Conv2d(1, 3, 1), (torch.zeros(4, 1, 8, 8), torch.zeros(4, 8, 8).long()), "gives 3 cl"),
}


@pytest.mark.parametrize("kind", FITS)
def test_a_network_or_data_of_another_kind_than_the_task_learns_from_is_told(kind):
    name, network, batch, told = FITS[kind]
    offered = {"classes": ["a", "b"], "mask_values": [0, 255], "vocabulary": ["a"]}
    task = COMPONENTS["task"].build(Component(name), "task", model=network, **offered)
    with pytest.raises(ConfigError, match=told):
        task.train_step(batch, lambda *arguments, **options: None)


def test_what_the_data_tell_a_task_cannot_be_set_otherwise(run):
    given = run("train", "linear_regression", "--task.outputs=[{name: a}, {name: b}]", "--max-steps=1")
    assert given.code == 2 and given.err == "task.outputs: the data tell it, and say otherwise; leave it out\n"


PIPELINES = {  # a list of transforms, and a part of the sentence
    "a word that is no type": ("[{name: ToDtype, dtype: none}]", 2, "data.transform[0].dtype: no 'none'"),
    "a word that is no mode": ("[{name: Resize, size: 9, interpolation: x}]", 2, "data.transform[0].interpolation: no"),
    "a conversion that converts nothing": ("[{name: ToDtype, dtype: float32}]", 3, "it is no tensor at the end"),
    "an index out of range": ("[{name: RandAugment, num_magnitude_bins: 2}]", 3, "IndexError: index 9 is out of"),
    "a pair of one": ("[{name: RandomErasing, scale: [0.5]}]", 2, "data.transform[0]: RandomErasing: tuple index"),
}


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_transform_that_cannot_be_built_or_fails_is_told(run, kind):
    listed, code, told = PIPELINES[kind]
    given = run("train", "--model=MLP", f"--data.transform.train={listed}", "--max-steps=1", *PLAIN)
    assert given.code == code and told in given.err and len(given.err.splitlines()) == 1, given


def test_an_error_of_torch_is_told_without_its_frames_of_cpp(run):
    error = RuntimeError("Overflow when unpacking long\nException raised from x at y.h:44\nframe #0: c10::Error")
    assert reason_of(error) == "Overflow when unpacking long"
    given = run("train", "two_layer", "--model.hidden=9223372036854775807", "--max-steps=1", *PLAIN)
    assert given.code in (2, 8) and len(given.err.splitlines()) == 1, given


def test_a_file_name_that_the_system_refuses_is_told(run, tmp_path):
    (tmp_path / "poems").mkdir()
    given = run("train", "poetry", "--data.dataset.root=poems", f"--data.dataset.files={'x' * 300}", "--max-steps=1")
    assert given.code == 3 and "data.dataset: Poems: [Errno 36] File name too long" in given.err, given


@pytest.mark.parametrize(("flags", "told"), [("capturable", "only on a GPU"), ("differentiable foreach", "not with")])
def test_an_option_of_an_optimizer_that_cannot_be_is_told(run, flags, told):
    options = [f"--optim.{flag}=true" for flag in flags.split()]
    given = run("train", "--model=MLP", "--optim=Adam", *options, "--max-steps=1", *PLAIN)
    assert given.code == 2 and f"optim.{flags.split()[0]}: {told}" in given.err, given
