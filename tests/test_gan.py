"""GANs: the networks, the four losses, both networks learning in turn, resuming them, and the pictures they make."""

import math
import shutil
import struct

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, rows, same_run, state
from PIL import Image
from torch import nn
from torch.nn import functional as F

from models.dcgan import DCGANDiscriminator, DCGANGenerator
from trainer.tasks.gan import GAN, discriminator_loss, generator_loss, slope_penalty
from utils.sinks.logger import Logger

LOSSES = ("bce", "hinge", "wgan", "wgan-gp")
SMALL = [
    "--data.dataset.root=digits",
    "--model.generator.nz=8",
    "--model.generator.ngf=4",
    "--model.discriminator.ndf=4",
    "--batch-size=8",
    "--print-freq=1",
    *PLAIN,
]
BRIEF = [*SMALL, "--max-epoch=2"]
INSTANCE = "--model.discriminator.norm=instance"


@pytest.fixture
def digits(tmp_path):
    """MNIST's files with 44 pictures: a bright square on the left or on the right."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for part in ("train", "t10k"):
        labels = np.arange(44, dtype=np.uint8) % 2
        pictures = np.zeros((44, 28, 28), np.uint8)
        for picture, label in zip(pictures, labels, strict=True):
            picture[8:20, 2 + 14 * label : 12 + 14 * label] = 255
        for name, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            head = struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder of ten pictures that are no squares."""
    folder = tmp_path / "photos" / "some"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (10, 110, 120, 3)).astype(np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder.parent


class Recorder:
    """An `update` that moves no weight and notes who was to learn, and which networks had a gradient."""

    def __init__(self, task: GAN, step: int = 0):
        self.step, self.called = step, []
        self.nets = {"generator": task.generator, "discriminator": task.discriminator}

    def __call__(self, loss, role="model"):
        loss.backward()
        sizes = {
            name: [w.grad.norm().item() for w in net.parameters() if w.grad is not None]
            for name, net in self.nets.items()
        }
        self.called.append((role, sizes))
        for net in self.nets.values():
            net.zero_grad()


class Learner(Recorder):
    """An `update` that learns as the trainer's does: of one network alone."""

    def __init__(self, task: GAN, lr: float):
        super().__init__(task)
        self.optimizers = {k: torch.optim.Adam(net.parameters(), lr, (0.5, 0.9)) for k, net in self.nets.items()}

    def __call__(self, loss, role="model"):
        loss.backward(inputs=list(self.nets[role].parameters()))
        self.optimizers[role].step()
        self.optimizers[role].zero_grad()


def small_gan(loss: str = "bce", nz: int = 6, width: int = 4, **options) -> GAN:
    norm = "instance" if loss == "wgan-gp" else "batch"
    shape = {"in_channels": 1, "image_size": [28, 28]}
    torch.manual_seed(0)
    return GAN(DCGANGenerator(nz, width, **shape), DCGANDiscriminator(width, norm=norm, **shape), loss, **options)


# The networks


def test_at_96_pixels_they_are_the_books():
    made = [layer for layer in DCGANGenerator(100, 64).main if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.in_channels for layer in made] == [100, 512, 256, 128, 64] and made[-1].out_channels == 3
    assert [layer.kernel_size[0] for layer in made] == [4, 4, 4, 4, 5]
    assert [(layer.stride[0], layer.padding[0]) for layer in made] == [(1, 0), (2, 1), (2, 1), (2, 1), (3, 1)]
    mirror = [layer for layer in DCGANDiscriminator(64).main if isinstance(layer, nn.Conv2d)]
    assert [layer.weight.shape for layer in mirror[:-1]] == [layer.weight.shape for layer in made[:0:-1]]
    assert mirror[-1].weight.shape == (1, 512, 4, 4)
    assert isinstance(DCGANGenerator().main[-1], nn.Tanh)
    kinds = [type(layer).__name__ for layer in DCGANDiscriminator().main]
    assert kinds.count("LeakyReLU") == 4 and kinds.count("BatchNorm2d") == 3 and "Sigmoid" not in kinds


@pytest.mark.parametrize("side", [28, 32, 64, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_becomes_a_picture_and_a_picture_a_logit(side, channels):
    generator = DCGANGenerator(nz=5, ngf=2, in_channels=channels, image_size=[side, side])
    pictures = generator(torch.randn(3, 5, 1, 1))
    assert pictures.shape == (3, channels, side, side) and pictures.abs().max() <= 1
    for norm in ("batch", "instance", "none"):
        assert DCGANDiscriminator(2, channels, [side, side], norm)(pictures).shape == (3,)


def test_weights_begin_as_in_the_paper():
    torch.manual_seed(0)
    for net in (DCGANGenerator(100, 64), DCGANDiscriminator(64)):
        for layer in net.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                assert abs(layer.weight.mean()) < 1e-3 and abs(layer.weight.std() - 0.02) < 2e-3
            if isinstance(layer, nn.BatchNorm2d):
                assert abs(layer.weight.mean() - 1) < 0.01 and abs(layer.weight.std() - 0.02) < 5e-3
                assert not layer.bias.any()


def test_other_sizes_get_a_sentence(run, photos):
    for size in ([48, 48], [96, 64]):
        with pytest.raises(ValueError, match="28x28, 32x32, 64x64, 96x96 pixels, not"):
            DCGANGenerator(image_size=size)
    given = run("train", "anime_gan", "--data.dataset.root=photos", "--data.transform.train=[]", *PLAIN)
    assert given.code == 2
    assert "model.generator: DCGANGenerator: DCGAN is for pictures of 28x28" in given.err
    assert "not 110x120; give data.transform a Resize" in given.err and given.err.count("\n") == 1


# The losses


def test_losses_are_their_formulas():
    real, fake = torch.tensor([2.0, -0.5, 0.5]), torch.tensor([-3.0, 0.25, 1.0])
    cross_entropy = F.binary_cross_entropy
    expected = cross_entropy(real.sigmoid(), torch.ones(3)) + cross_entropy(fake.sigmoid(), torch.zeros(3))
    assert discriminator_loss("bce", real, fake) == pytest.approx(expected.item(), rel=1e-5)
    assert generator_loss("bce", fake) == pytest.approx(cross_entropy(fake.sigmoid(), torch.ones(3)).item(), rel=1e-5)
    assert discriminator_loss("hinge", real, fake) == pytest.approx((0 + 1.5 + 0.5) / 3 + (0 + 1.25 + 2) / 3)
    for name in ("wgan", "wgan-gp"):
        assert discriminator_loss(name, real, fake) == pytest.approx((-3 + 0.25 + 1) / 3 - 2 / 3)
    for name in ("hinge", "wgan", "wgan-gp"):
        assert generator_loss(name, fake) == pytest.approx(1.75 / 3)


def test_the_penalty_is_that_of_the_gradient_between_real_and_made():
    weight = torch.full((2, 2), 1.5, requires_grad=True)  # of length 3, everywhere the gradient of the logits
    real, fake = torch.rand(5, 1, 2, 2), torch.rand(5, 1, 2, 2)
    penalty = slope_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake)
    penalty.backward()
    assert penalty.item() == pytest.approx(4.0)
    assert torch.allclose(weight.grad, 2 * (3 - 1) * weight.detach() / 3)

    torch.manual_seed(3)
    penalty = slope_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake)  # its gradient at x is x
    torch.manual_seed(3)
    share = torch.rand(5, 1, 1, 1)
    between = share * real + (1 - share) * fake
    assert penalty.item() == pytest.approx((between.flatten(1).norm(dim=1) - 1).square().mean().item())


@pytest.mark.parametrize("loss", LOSSES)
def test_each_network_learns_from_its_own_loss(loss):
    task = small_gan(loss, g_every=1).train()
    update, pictures = Recorder(task), torch.rand(6, 1, 28, 28)
    scalars = task.train_step((pictures, torch.zeros(6)), update)
    assert scalars.keys() == {"d_loss", "d_real", "d_fake", "g_loss"}
    assert all(value.isfinite() for value in scalars.values())
    (first, of_first), (second, of_second) = update.called
    assert (first, second) == ("discriminator", "generator")
    assert of_first["generator"] == [] and all(map(math.isfinite, of_first["discriminator"]))
    assert len(of_first["discriminator"]) == len(list(task.discriminator.parameters()))
    assert len(of_second["generator"]) == len(list(task.generator.parameters())) and min(of_second["generator"]) > 0
    assert task.train_step(pictures, Recorder(task)).keys() == scalars.keys(), "pictures alone will do"


def test_wgan_keeps_weights_small_and_wgan_gp_adds_its_penalty():
    task = small_gan("wgan", weight_clip=0.005).train()
    seen = []
    weights = lambda *_: seen.append(max(w.abs().max().item() for w in task.discriminator.parameters()))  # noqa: E731
    task.discriminator.register_forward_pre_hook(weights)
    learner = Learner(task, lr=0.1)
    for step in range(3):
        learner.step = step
        task.train_step(torch.rand(6, 1, 28, 28), learner)
    assert len(seen) == 7 and all(value == pytest.approx(0.005) for value in seen)

    found = []
    for task in (small_gan("wgan-gp", gradient_penalty=weight).train() for weight in (0, 1, 3)):
        torch.manual_seed(1)
        found.append(task.train_step(torch.full((6, 1, 28, 28), 0.7), Recorder(task))["d_loss"].item())
    assert found[1] > found[0] and found[2] - found[0] == pytest.approx(3 * (found[1] - found[0]), rel=1e-3)


def test_wgan_gp_refuses_a_batch_norm(run, digits):
    given = run("train", "mnist_gan", "--task.loss=wgan-gp", *BRIEF)
    assert given.code == 2 and given.err.count("\n") == 1
    assert "task: GAN: wgan-gp needs a discriminator without batch norm" in given.err
    assert INSTANCE.removeprefix("--") in given.err


# Learning


def test_each_learns_when_it_is_its_turn():
    task, turns = small_gan(d_every=2, g_every=3).train(), []
    for step in range(7):
        update = Recorder(task, step)
        scalars = task.train_step(torch.rand(4, 1, 28, 28), update)
        turns.append("".join(role[0] for role, _ in update.called))
        assert ("d_loss" in scalars, "g_loss" in scalars) == ("d" in turns[-1], "g" in turns[-1])
    assert turns == ["dg", "", "d", "g", "d", "", "dg"]
    with pytest.raises(ValueError, match="at least 1"):
        small_gan(g_every=0)


class Points(nn.Module):
    """Noise [B, 2, 1, 1] to pictures of 1x1 pixel with two channels."""

    nz = 2

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, noise):
        return self.layers(noise.flatten(1)).tanh()[:, :, None, None]


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2))
        self.out = nn.Linear(32, 1)

    def forward(self, x):
        return self.out(self.layers(x.flatten(1))).squeeze(1)


@pytest.mark.learns
@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns_where_points_lie(loss):
    """Two clouds, of which each gets its share."""
    torch.manual_seed(0)
    task = GAN(Points(), Judge(), loss, g_every=2, weight_clip=0.1, gradient_penalty=1.0).train()
    update = Learner(task, lr=1e-3 if loss == "wgan" else 2e-3)  # clipped weights bear smaller steps
    centres = torch.tensor([[0.7, 0.2], [0.3, 0.8]])
    for step in range(1200):
        update.step = step
        task.train_step((centres[torch.randint(2, (64,))] + 0.03 * torch.randn(64, 2))[:, :, None, None], update)
    with torch.no_grad():
        made = task._make(torch.randn(512, 2, 1, 1)).flatten(1)  # [512, 2]
    distance, nearest = torch.cdist(made, centres).min(1)
    assert distance.median() < 0.15
    assert 0.2 < nearest.float().mean() < 0.8


@pytest.mark.slow
@pytest.mark.learns
def test_it_learns_pictures():
    """A square on the left or one on the right: what it makes is one of them, and not always the same."""
    squares = torch.zeros(2, 1, 28, 28)
    squares[0, :, 8:20, 2:12] = squares[1, :, 8:20, 16:26] = 1
    task = small_gan(nz=4, width=8, g_every=1).train()
    update = Learner(task, lr=2e-3)
    for _ in range(1000):
        task.train_step(squares[torch.randint(2, (16,))], update)
    with torch.no_grad():
        made = task.eval()._make(torch.randn(256, 4, 1, 1))
    distance, nearest = (made[:, None] - squares).square().mean((2, 3, 4)).sqrt().min(1)  # of [256, 2]
    assert distance.mean() < 0.2
    assert 0.15 < nearest.float().mean() < 0.85


# Resuming


@pytest.mark.parametrize(
    ("loss", "steps"), [("bce", 1), ("bce", 6), ("bce", 9), ("hinge", 4), ("wgan", 3), ("wgan", 8), ("wgan-gp", 7)]
)
def test_stopped_and_resumed_it_is_the_same_run(run, digits, loss, steps):
    """Also within a window of accumulated steps: an epoch is six, of which the last is not full."""
    args = ["mnist_gan", f"--task.loss={loss}", "--task.g_every=2", "--train.ema=0.9", "--train.accumulate=2", *BRIEF]
    args += [INSTANCE] if loss == "wgan-gp" else []
    assert run("train", "--run=whole", *args).code == 0
    assert run("train", "--run=cut", *args, f"--train.max_steps={steps}").code == 0
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert given.code == 0, given.err
    assert same_run(state("cut"), state("whole"))
    assert rows("cut", phase="train") == rows("whole", phase="train")
    whole = state("whole")
    assert whole["buffers"]["fixed_noise"].shape == (64, 8, 1, 1)
    assert whole["update"]["discriminator"]["taken"] == 6 and whole["update"]["generator"]["taken"] == 4


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed, digits):
    args = ["mnist_gan", "--task.g_every=3", "--train.save_steps=4", *SMALL, "--max-epoch=12"]
    killed_and_resumed(*args, after=25)


# What it makes


def test_generate_needs_the_checkpoint_alone(run, digits):
    assert run("train", "mnist_gan", "--run=a", *BRIEF, "--train.max_steps=3").code == 0
    shutil.rmtree(digits)
    flags = ["--gen-num=10", "--gen-search-num=20", "--gen-img=a.png"]
    given = run("generate", "checkpoints/a", *flags)
    assert (given.code, given.out) == (0, "a.png: the 10 best of 20 by the discriminator\n"), given.err
    assert Image.open("a.png").size == (8 * 30 - 2, 2 * 30 - 2)
    assert run("generate", "checkpoints/a", "--self=1").code == 2
    slip = run("generate", "checkpoints/a", "--gen-nmu=10")
    assert (slip.code, slip.err) == (2, "--gen-nmu=10: did you mean --gen-num=…?\n")
    first = Image.open("a.png").tobytes()
    for flag, same in ((None, True), ("--train.seed=1", False), ("--gen-mean=0.5", False), ("--gen-std=0.5", False)):
        assert run("generate", "checkpoints/a", *flags, *([flag] if flag else [])).code == 0
        assert (Image.open("a.png").tobytes() == first) == same


class Grey(nn.Module):
    """Its pictures are as bright as the first number of the noise, and its judge likes them bright."""

    nz = 3

    def forward(self, x):
        return x[:, :1].tanh().expand(-1, 1, 4, 4) if x.shape[1] == 3 else x.mean((1, 2, 3))


def test_it_keeps_the_best_and_the_best_comes_first(tmp_path):
    task, path = GAN(Grey(), Grey()).eval(), tmp_path / "a.png"
    torch.manual_seed(5)
    assert task.generate(gen_num=6, gen_search_num=150, gen_mean=0.2, gen_std=0.3, gen_img=str(path)).endswith("inator")
    torch.manual_seed(5)
    noise = 0.2 + 0.3 * torch.randn(150, 3, 1, 1)
    expected = (noise[:, 0, 0, 0].tanh().sort(descending=True).values[:6] + 1) / 2 * 255
    found = np.asarray(Image.open(path))[1, 1::6, 0]
    assert found.tolist() == expected.round().int().tolist()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--gen-num=65", "--gen-search-num=64"], "gen_num=65 pictures cannot be chosen among gen_search_num=64"),
        (["--gen-num=0"], "gen_num=0 pictures cannot be chosen"),
        (["--gen-std=0"], "gen_std must be above 0"),
        (["--gen-num=4", "--gen-search-num=4", "--gen-img=a.txt"], "a.txt is no name for a picture"),
    ],
)
def test_flags_that_make_no_sense_get_a_sentence(run, digits, flags, told):
    assert run("train", "mnist_gan", "--run=a", *BRIEF, "--train.max_steps=1").code == 0
    given = run("generate", "checkpoints/a", *flags)
    assert given.code == 2 and told in given.err and given.err.count("\n") == 1


def test_showing_pictures_leaves_no_trace():
    class Pictures(Logger):
        shown: list = []

        def images(self, name, step, images):
            self.shown.append((name, step, images))

    task, logger = small_gan().train(), Pictures()
    before, kept = torch.get_rng_state(), {k: v.clone() for k, v in task.state_dict().items()}
    task.show(logger, 3)
    task.show(logger, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in task.modules())
    assert all(torch.equal(value, kept[name]) for name, value in task.state_dict().items())
    (name, step, pictures), (_, _, again) = logger.shown
    assert (name, step, pictures.shape) == ("samples", 3, (64, 1, 28, 28)) and torch.equal(pictures, again)
    assert pictures.min() >= 0 and pictures.max() <= 1 and not pictures.requires_grad
    task.eval().show(logger, 5)
    assert not any(module.training for module in task.modules())


def test_a_grid_lies_in_the_run_folder_after_each_epoch(run, digits, tmp_path):
    assert run("train", "mnist_gan", "--run=a", *BRIEF).code == 0
    grids = sorted((tmp_path / "checkpoints" / "a").glob("samples*.png"))
    assert len(grids) == 2 and Image.open(grids[0]).size == (238, 238)
    assert not (tmp_path / "checkpoints" / "a" / "best.pth").exists()


# The data


def test_photos_of_any_size_do(run, photos):
    tiny = ["--model.generator.ngf=2", "--model.discriminator.ndf=2", "--batch-size=4", "--max-epoch=1", *PLAIN]
    given = run("train", "anime_gan", "--run=a", "--data.dataset.root=photos", *tiny, "--print-freq=1")
    assert given.code == 0, given.err
    assert [row["step"] for row in rows("a", phase="train")] == [1, 2, 3]
    assert state("a")["meta"] == {"in_channels": 3, "image_size": [96, 96]}


def test_a_folder_without_pictures_gets_a_sentence(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for root, told in (("empty", "no pictures in empty"), ("absent", "does not exist")):
        given = run("train", "anime_gan", f"--data.dataset.root={root}", *PLAIN)
        assert given.code == 3 and told in given.err and given.err.count("\n") == 1
    (tmp_path / "empty" / "a.jpg").write_bytes(b"no picture")
    given = run("train", "anime_gan", "--data.dataset.root=empty", *PLAIN)
    assert given.code == 3 and "cannot read the picture empty/a.jpg" in given.err


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "anime_faces").is_dir(), reason="the faces are absent")
def test_the_shipped_commands_start(run):
    for name, root in (("anime_gan", "anime_faces"), ("mnist_gan", "mnist")):
        args = [f"--run={name}", f"--data.dataset.root={DATA / root}", "--train.max_steps=3", *PLAIN]
        assert run("train", name, *args).code == 0
        given = run("generate", f"checkpoints/{name}", "--gen-num=4", "--gen-search-num=8", "--train.max_steps=3")
        assert given.code == 0, given.err


# Real data


@pytest.mark.slow
@pytest.mark.chapter
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="MNIST is absent")
def test_a_lenet_reads_every_digit_in_what_mnist_gan_makes(run):
    from models.lenet import LeNet

    root = f"--data.dataset.root={DATA / 'mnist'}"
    for name, flags in (("mnist", ["--max-epoch=1"]), ("mnist_gan", [])):
        given = run("train", name, f"--run={name}", root, *flags, *PLAIN)
        assert given.code == 0, given.err
    trained = state("mnist_gan")
    sizes = trained["config"]["model"]["generator"]
    lenet = LeNet(10, 1, (28, 28))
    lenet.load("checkpoints/mnist/best.pth")
    for weights in (trained["model"], trained["ema"]) if trained["ema"] else (trained["model"],):
        generator = DCGANGenerator(sizes["nz"], sizes["ngf"], 1, (28, 28))
        generator.load_state_dict({k.removeprefix("generator."): v for k, v in weights.items() if k[0] == "g"})
        with torch.no_grad():
            noise = torch.randn(256, generator.nz, 1, 1, generator=torch.Generator().manual_seed(0))
            sure, digit = lenet.eval()((generator.eval()(noise) + 1) / 2).softmax(1).max(1)
        counts = digit.bincount(minlength=10)
        assert counts.min() >= 3 and sure.mean() > 0.82, (counts.tolist(), sure.mean())


@pytest.mark.chapter
@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "anime_faces").is_dir(), reason="the faces are absent")
def test_an_epoch_of_anime_faces(run, tmp_path):
    args = ["--run=a", f"--data.dataset.root={DATA / 'anime_faces'}", "--max-epoch=1", *PLAIN]
    given = run("train", "anime_gan", *args)
    assert given.code == 0, given.err
    assert all(math.isfinite(row[name]) for row in rows("a", phase="train") for name in ("d_loss", "g_loss"))
    assert Image.open(next((tmp_path / "checkpoints" / "a").glob("samples*.png"))).size == (8 * 98 - 2,) * 2
