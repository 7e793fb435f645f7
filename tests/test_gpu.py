"""What only a GPU can show; run with `pytest -m gpu`."""

import pytest
import torch
from conftest import PLAIN, dogcats, rows, same_run, state

from configs import Component
from configs.schema import Data
from data.dogcat import DogCat
from data.loading.fast import FusedTensor
from data.loading.loader import Loader
from data.loading.transforms import make_transform
from utils.device import move

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
ARGS = ["--model=ResNet34", "--max-epoch=2", "--print-freq=5", *PLAIN]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_and_its_checkpoint_opens_on_a_cpu(run, precision):
    assert run("train", "--run=a", *ARGS, "--use-gpu", f"--train.precision={precision}").code == 0
    assert rows("a", phase="train")[-1]["loss"] < rows("a", phase="train")[0]["loss"]
    given = run("val", "checkpoints/a", "--use-gpu=false")
    assert given.code == 0, given.err
    said = dict(line.split() for line in given.out.splitlines()[1:])
    assert float(said["accuracy"]) == pytest.approx(max(r["accuracy"] for r in rows("a", phase="val")), abs=0.02)


def test_a_resumed_run_is_the_same_when_deterministic(run):
    args = [*ARGS, "--use-gpu", "--train.deterministic"]
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=33").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert same_run(state("cut"), state("whole"))
    assert rows("cut") == rows("whole")


def test_out_of_memory_is_a_sentence(run):
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        given = run("train", "--run=a", *ARGS, "--use-gpu")
        assert given.code == 8 and "--batch-size=16" in given.err
        torch.cuda.set_per_process_memory_fraction(1.0)
        assert run("train", "--run=b", *ARGS, "--use-gpu", "--train.max_steps=2").code == 0
        torch.cuda.set_per_process_memory_fraction(1e-4)
        assert run("val", "checkpoints/b").code == 8
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_batches_arrive_whole_while_the_gpu_computes():
    """Each is used after it has come, and its memory, here and there, is not given away before it was used."""
    device, busy, means = torch.device("cuda"), torch.eye(2048, device="cuda"), []
    for number in range(200):
        batch = {"input": torch.full((512, 1024), float(number)).pin_memory(), "rest": [number]}
        moved = move(batch, device)
        del batch
        busy = busy @ busy
        means.append(moved["input"].mean() + busy[0, 1])
        assert moved["rest"] == [number] and moved["input"].device.type == "cuda"
        del moved
    assert torch.stack(means).tolist() == list(range(200))


def test_tf32_is_a_choice(run):
    for on in (True, False):
        assert run("train", f"--run={on}", f"--train.tf32={on}", *ARGS, "--use-gpu", "--train.max_steps=1").code == 0
        assert torch.get_float32_matmul_precision() == ("high" if on else "highest")
        assert torch.backends.cudnn.allow_tf32 == on


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pixels_on_the_gpu_teach_the_same(run, precision):
    args = [*ARGS, "--use-gpu", "--train.deterministic", f"--train.precision={precision}", "--num-workers=2"]
    assert run("train", "--run=here", *args).code == 0
    assert run("train", "--run=there", *args, "--data.cache=gpu").code == 0
    assert rows("here") == rows("there") and same_run(state("here"), state("there"))
    assert run("val", "checkpoints/there", "--use-gpu=false").code == 0


def test_shifts_and_flips_on_the_gpu_are_those_of_the_cpu():
    pixels = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    chain = [Component("RandomCrop", {"size": 32, "padding": 4}), Component("RandomHorizontalFlip", {})]
    transform = make_transform([*chain, Component("Normalize", {"mean": [0.5], "std": [0.2]})], fast=True)
    assert isinstance(transform, FusedTensor)
    here, there = (transform.normalise(transform.cut(pixels.to(at), range(64))) for at in ("cpu", "cuda"))
    assert there.is_cuda and torch.equal(here, there.cpu())


@pytest.mark.parametrize("keys", [{}, {"num_workers": 2}, {"num_workers": 2, "loader": "processes"}])
def test_photos_normalised_on_the_gpu_have_the_bits_of_the_cpu(tmp_path, keys):
    folder = dogcats(tmp_path / "photos", 40)
    chain = [Component("RandomResizedCrop", {"size": 64}), Component("RandomHorizontalFlip", {})]
    chain += [Component("Normalize", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})]
    dataset, found = DogCat(str(folder), "train", make_transform(chain, fast=True), val_fraction=0), {}
    for device in ("cpu", "cuda"):
        batches = Loader(dataset, Data(batch_size=16, **keys), 0, training=True, device=torch.device(device))
        found[device] = [images for _, (images, _) in batches.epoch(0)]
        batches.close()
    assert all(images.is_cuda for images in found["cuda"])
    assert all(torch.equal(here, there.cpu()) for here, there in zip(found["cpu"], found["cuda"], strict=True))
