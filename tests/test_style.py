"""Style transfer: VGG16's taps and their Gram matrices, the network that repaints, and runs of both."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, ROOT, rows, same_run, state
from PIL import Image

from models.loss_network import VGG16Taps
from models.transformer_net import TransformerNet, mirror
from trainer.tasks.style_transfer import StyleTransfer, gram
from utils.errors import DataError
from utils.images import read_image, to_tensor

SMALL = [
    "--model.width=4",
    "--model.blocks=1",
    "--data.dataset.root=photos",
    "--data.dataset.val_fraction=0.25",
    "--data.transform.train=[{name: Resize, size: 20}, {name: RandomCrop, size: 16}]",
    "--data.transform.eval=[{name: Resize, size: 16}, {name: CenterCrop, size: 16}]",
    "--style-path=style.png",
    "--task.style_size=24",
    "--batch-size=2",
    "--print-freq=1",
    *PLAIN,
]
RANDOM = ["--weights=none", *SMALL]


def paint(path, colour, size=(30, 24), seed=0) -> None:
    """A picture of a colour, with coarse grain."""
    grain = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 1))
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((np.array(colour) + grain).clip(0, 255).astype("uint8")).save(path)


@pytest.fixture
def folder(tmp_path):
    """Twelve grey photos and an orange style."""
    for i in range(12):
        paint(tmp_path / "photos" / f"{i}.jpg", (100 + 5 * i,) * 3, seed=i)
    paint(tmp_path / "style.png", (220, 120, 20))
    return tmp_path


@pytest.fixture(scope="module")
def taps() -> VGG16Taps:
    return VGG16Taps("none")


@pytest.fixture
def task(tmp_path) -> StyleTransfer:
    paint(tmp_path / "style.png", (220, 120, 20))
    return StyleTransfer(TransformerNet(4, blocks=1), str(tmp_path / "style.png"), "none", style_size=24)


# VGG16


def test_the_taps_are_those_of_torchvisions_vgg16(taps):
    from torchvision.models.vgg import cfgs, make_layers

    features, found = make_layers(cfgs["D"]), {}
    missing, unknown = features.load_state_dict(taps.features.state_dict(), strict=False)
    assert not unknown and {name.split(".")[0] for name in missing} == {"24", "26", "28"}
    for place in (3, 8, 15, 22):
        features[place].register_forward_hook(lambda _, __, y, place=place: found.update({place: y.clone()}))
    x = torch.rand(2, 3, 32, 45)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    own = taps(x)
    assert len(own) == 4 and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(own, found.values(), strict=True))
    assert [tap.shape[1] for tap in own] == list(VGG16Taps.channels)
    assert len(taps(x, 2)) == 2 and torch.equal(taps(x, 2)[1], own[1])


def test_random_features_are_the_same_in_every_run_and_keep_a_signals_size(taps):
    torch.manual_seed(7)
    other = VGG16Taps("none")
    assert all(torch.equal(a, b) for a, b in zip(taps.parameters(), other.parameters(), strict=True))
    sizes = [tap.square().mean().sqrt() for tap in taps(torch.rand(1, 3, 64, 64))]
    assert all(0.3 < size < 3 for size in sizes)


def test_the_loss_network_never_learns(task):
    task.train()
    network = task.loss_network
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.features if isinstance(module, torch.nn.Conv2d))
    x = torch.rand(2, 3, 16, 16)
    task.compare(x, task.model(x))["loss"].backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is not None and p.grad.any() for name, p in task.model.named_parameters() if "norm" in name)


def test_pictures_too_small_for_vgg16_get_a_sentence(taps):
    assert len(taps(torch.rand(1, 3, 8, 8))) == 4
    with pytest.raises(DataError, match="9 x 7 pixels is too small for VGG16; a side needs 8"):
        taps(torch.rand(1, 3, 7, 9))


# The losses


def test_a_gram_matrix_is_what_numpy_says():
    x = torch.randn(2, 5, 3, 4)
    expected = np.einsum("bchw,bdhw->bcd", x.numpy(), x.numpy()) / (5 * 3 * 4)
    assert np.allclose(gram(x).numpy(), expected, atol=1e-6)


def test_gram_matrices_are_of_full_precision_in_a_mixed_run():
    x = torch.randn(1, 6, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert gram(x).dtype == torch.float32 and torch.equal(gram(x), gram(x.float()))
    assert gram(x.half()).dtype == torch.float32


def test_the_terms_are_the_papers_with_their_weights(task, taps):
    pictures, results = torch.rand(2, 2, 3, 16, 16).unbind()
    found = task.compare(pictures, results)
    content = (taps(results)[1] - taps(pictures)[1]).square().mean()
    style = sum((gram(a) - b).square().mean() for a, b in zip(taps(results), task.styles(), strict=True))
    assert found["content"].item() == pytest.approx(1e5 * content.item(), rel=1e-4)
    assert found["style"].item() == pytest.approx(1e10 * style.item(), rel=1e-4)
    assert found["loss"].item() == pytest.approx(found["content"].item() + found["style"].item(), rel=1e-6)


def test_a_photo_is_its_own_content_and_the_style_its_own_style(task, tmp_path):
    image = read_image(str(tmp_path / "style.png"))
    image.thumbnail((24, 24))
    style = to_tensor(image)[None]
    assert task.compare(style, style)["loss"].item() == pytest.approx(0, abs=1e-2)
    photo = torch.rand(1, 3, 24, 24)
    assert task.compare(photo, photo)["content"].item() == 0 < task.compare(photo, photo)["style"].item()


def test_labels_are_not_looked_at(task):
    updates = []
    x = torch.rand(2, 3, 16, 16)
    first = task.train_step(x, lambda loss: updates.append(loss))
    second = task.train_step([x, torch.tensor([0, 1])], lambda loss: updates.append(loss))
    assert torch.equal(first["loss"], second["loss"]) and updates == [first["loss"], second["loss"]]


# The network


@pytest.mark.parametrize("size", [(33, 50), (5, 5), (8, 7), (64, 64), (6, 129)])
def test_a_result_is_as_large_as_the_picture(size):
    assert TransformerNet(2, blocks=1)(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_a_picture_too_small_gets_a_sentence():
    with pytest.raises(DataError, match="9 x 4 pixels is too small"):
        TransformerNet(2, blocks=1)(torch.rand(1, 3, 4, 9))


def test_a_mirror_is_as_torchs():
    x = torch.rand(2, 3, 7, 9)
    padded = mirror(mirror(x, -1, 4, 2), -2, 0, 3)
    assert torch.equal(padded, torch.nn.functional.pad(x, (4, 2, 0, 3), mode="reflect"))


def test_borders_are_mirrored_so_that_a_flat_picture_has_no_frame():
    result = TransformerNet(4, blocks=2)(torch.full((1, 3, 16, 24), 0.3))
    assert torch.allclose(result, result.mean((2, 3), keepdim=True).expand_as(result), atol=1e-4)


def test_a_result_does_not_depend_on_the_rest_of_the_batch():
    net, x = TransformerNet(4, blocks=1), torch.rand(3, 3, 16, 16)
    for mode in (True, False):
        assert torch.allclose(net.train(mode)(x)[1], net(x[1:2])[0], atol=1e-5)


def test_it_has_the_papers_size():
    kernels = [p.shape[-1] for name, p in TransformerNet().named_parameters() if p.ndim == 4]
    assert kernels[0] == kernels[-1] == 9 and kernels[1:-1] == [3] * 14
    assert TransformerNet().parameter_count == 1_679_235


# Runs


@pytest.mark.learns
def test_it_learns_a_colour(run, folder):
    given = run(
        "train", "style_transfer", "--run=a", *RANDOM, "--train.max_steps=60", "--train.max_epoch=40", "--lr=0.005"
    )
    assert given.code == 0, given.err
    values = rows("a", phase="val")
    assert values[-1]["style"] < 0.3 * values[0]["style"] and values[-1]["loss"] < values[0]["loss"]
    paint(folder / "new.jpg", (128, 128, 128), size=(33, 50), seed=99)
    given = run("generate", "checkpoints/a", "--content-path=new.jpg", "--result-path=out/new.png")
    assert given.code == 0, given.err
    assert "out/new.png: new.jpg repainted, 33 x 50 pixels" in given.out
    result = np.asarray(Image.open("out/new.png")).astype(int)
    assert result.shape == (50, 33, 3)
    red, green, blue = result.mean((0, 1))
    assert red > green + 30 and green > blue + 30


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_stopped_and_resumed_it_is_the_same_run(run, folder, steps):
    args = [
        "style_transfer",
        *RANDOM,
        "--train.max_epoch=3",
        "--train.ema=0.9",
        "--train.val_steps=2",
        "--schedule.total_steps=9",
    ]
    assert run("train", "--run=whole", *args, "--train.max_steps=9").code == 0
    assert run("train", "--run=cut", *args, f"--train.max_steps={steps}").code == 0
    (folder / "style.png").unlink()
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=9")
    assert given.code == 0, given.err
    assert rows("whole", phase="val")[-1] == rows("cut", phase="val")[-1]
    assert same_run(state("cut"), state("whole"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_a_deterministic_run_resumes_exactly(run, folder):
    args = [
        "style_transfer",
        *RANDOM,
        "--train.max_epoch=3",
        "--use-gpu",
        "--train.deterministic",
        "--schedule.total_steps=9",
    ]
    assert run("train", "--run=whole", *args, "--train.max_steps=9").code == 0
    assert run("train", "--run=cut", *args, "--train.max_steps=4").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=9").code == 0
    assert same_run(state("cut"), state("whole"))
    assert run("generate", "checkpoints/cut", "--content-path=photos/1.jpg", "--use-gpu=false").code == 0


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed, folder):
    args = ["style_transfer", *RANDOM, "--train.max_steps=30", "--train.max_epoch=30", "--train.save_steps=5"]
    killed_and_resumed(*args, after=12)


def test_the_checkpoint_holds_the_style_and_no_loss_network(run, folder, taps):
    assert run("train", "style_transfer", "--run=a", *RANDOM, "--train.max_steps=1").code == 0
    stored = state("a")
    assert not [name for name in stored["model"] if "loss_network" in name or "features" in name]
    assert set(stored["buffers"]) == {f"style_{name}" for name in VGG16Taps.names}
    task = StyleTransfer(TransformerNet(4, blocks=1), "style.png", "none", style_size=24)
    assert all(torch.equal(stored["buffers"][name], task.get_buffer(name)) for name in stored["buffers"])
    assert sum(tensor.numel() for tensor in stored["model"].values()) == task.model.parameter_count


def test_validation_shows_photos_beside_their_results(task):
    from utils.sinks.logger import Logger

    class Pictures(Logger):
        def images(self, name, step, images):
            self.shown = images

    logger, x = Pictures(), torch.rand(2, 3, 128, 128)
    before, training = torch.get_rng_state(), task.training
    with torch.no_grad():
        for pictures in (x[:1], x[1:]):
            task.val_step(pictures, task.meters())
    task.show(logger, 1)
    assert logger.shown.shape == (8, 3, 128, 128)
    assert torch.allclose(logger.shown[:4:2], x.flip(0), atol=1 / 255)
    assert torch.allclose(logger.shown[1:4:2], task.model(x).flip(0), atol=1 / 255)
    assert torch.equal(torch.get_rng_state(), before) and task.training == training
    assert "sample" not in task.state_dict()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Weights as torchvision publishes them, those of the classifier too, though few."""
    content = {f"features.{name}": p / 2 for name, p in VGG16Taps("none").features.state_dict().items()}
    content |= {"features.28.bias": torch.zeros(512), "classifier.6.bias": torch.zeros(1000)}
    path = tmp_path_factory.mktemp("published") / "vgg16.pth"
    torch.save(content, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"vgg16-{digest[:8]}.pth"))


def test_published_weights_are_needed_for_losses_alone(run, folder, published, tmp_path):
    weights = tmp_path / published.name
    weights.symlink_to(published)
    args = [f"--weights={weights}", *SMALL, "--train.max_steps=2"]
    given = run("train", "style_transfer", "--run=a", *args)
    assert given.code == 0, given.err
    scaled, plain = VGG16Taps(str(weights)), VGG16Taps("none")
    x = torch.rand(1, 3, 16, 16)
    assert torch.allclose(2 * scaled(x)[0], plain(x)[0] / 2, atol=1e-5)  # two layers, each with half the weights
    (folder / "style.png").unlink()
    assert run("val", "checkpoints/a").code == 0
    assert run("train", "--resume=checkpoints/a", "--train.max_steps=3").code == 0
    weights.unlink()
    assert run("generate", "checkpoints/a", "--content-path=photos/1.jpg").code == 0
    assert Image.open("stylised.png").size == Image.open("photos/1.jpg").size
    assert run("test", "checkpoints/a", "--test-data-root=photos").code == 0
    assert len(list((tmp_path / "checkpoints" / "a" / "pictures").glob("*.png"))) == 12
    for command in (["val", "checkpoints/a"], ["train", "--resume=checkpoints/a", "--train.max_steps=4"]):
        given = run(*command)
        assert given.code == 3 and f"the weights of VGG16 are not at {weights}; put https://" in given.err


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--style-path=photos"], 3, "cannot read the picture photos (it is not a regular file)"),
        (["--style-path=none.png"], 3, "cannot read the picture none.png"),
        (["--style-path=text.png"], 3, "cannot read the picture text.png (its content is none of"),
        (["--style-path=thin.png"], 3, "24 x 1 pixels is too small for VGG16"),
        (["--data.dataset.root=empty"], 3, "no pictures in empty"),
        (["--data.dataset.root=absent"], 3, "absent does not exist"),
        (["--weights=vgg16-397923af.pth"], 3, "the weights of VGG16 are not at vgg16-397923af.pth; put https://"),
        (["--weights=text.png"], 3, "text.png are no weights of VGG16"),
        (["--task.style_size=7"], 2, "style_size=7 is too small"),
        (["--task.trained=true"], 2, "comes from the trainer"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence(run, folder, flags, code, told):
    (folder / "empty").mkdir()
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (300, 4)).save(folder / "thin.png")
    keys = [flag.partition("=")[0] for flag in flags]
    given = run("train", "style_transfer", *flags, *[flag for flag in RANDOM if flag.partition("=")[0] not in keys])
    assert given.code == code and told in given.err
    assert len(given.err.strip().splitlines()) == 1


def test_without_a_style_it_says_which_flag_is_missing(run, folder):
    given = run("train", "style_transfer", *[flag for flag in RANDOM if "style-path" not in flag])
    assert given.code == 2 and "set it with --task.style_path=…" in given.err


def test_what_cannot_be_repainted_gets_a_sentence(run, folder):
    assert run("train", "style_transfer", "--run=a", *RANDOM, "--train.max_steps=1").code == 0
    (folder / "text.jpg").write_text("no picture")
    Image.new("RGB", (9, 4)).save(folder / "thin.png")
    for flags, code, told in (
        (["--content-path=text.jpg"], 3, "cannot read the picture text.jpg"),
        (["--content-path=thin.png"], 3, "9 x 4 pixels is too small"),
        (["--content-path=photos/1.jpg", "--result-path=a.doc"], 2, "a.doc is no name for a picture"),
        ([], 2, "needs --content-path=…"),
    ):
        given = run("generate", "checkpoints/a", *flags)
        assert given.code == code and told in given.err and len(given.err.strip().splitlines()) == 1


def test_the_shipped_command_runs(run, folder):
    for i in range(12, 30):
        paint(folder / "photos" / f"{i}.jpg", (90, 120, 140), seed=i)
    own = ["--data.dataset.root=photos", "--style-path=style.png", "--weights=none", "--train.max_steps=2", "--run=a"]
    given = run("train", "style_transfer", *own, "--batch-size=1", *PLAIN)
    assert given.code == 0, given.err
    assert set(rows("a", phase="val")[-1]) >= {"loss", "content", "style"}


# Real photos and paintings


def gram_distance(pictures, task) -> float:
    """Squared differences between the pictures' Gram matrices and the style's, added over all taps."""
    with torch.no_grad():
        taps = zip(task.loss_network(pictures), task.styles(), strict=True)
        return sum(float((gram(tap) - style).square().sum((1, 2)).mean()) for tap, style in taps)


@pytest.mark.slow
@pytest.mark.chapter
@pytest.mark.skipif(not (DATA / "style").is_dir(), reason="the paintings are absent")
@pytest.mark.parametrize("style", ["candy"])
def test_on_real_photos_the_results_are_near_the_style(run, style):
    from torchvision.transforms import v2

    style_path = str(DATA / "style" / "style" / f"{style}.jpg")
    own = [f"--data.dataset.root={DATA / 'dogcat' / 'train'}", f"--style-path={style_path}", "--weights=none"]
    given = run("train", str(ROOT / "configs" / "style_transfer.yaml"), "--run=a", *own, *PLAIN)
    assert given.code == 0, given.err
    model = TransformerNet()
    model.load_state_dict(state("a")["model"])
    task = StyleTransfer(model, style_path, "none")
    crop = v2.Compose([v2.Resize(128), v2.CenterCrop(128)])
    photos = [*sorted((DATA / "dogcat" / "test").glob("*.jpg"))[:20], *(DATA / "style" / "content").glob("*.jpg")]
    pictures = torch.stack([to_tensor(crop(read_image(str(photo)))) for photo in photos])
    with torch.no_grad():
        results = task.model(pictures)
        assert task.compare(pictures, results)["loss"] < task.compare(pictures, pictures)["loss"]
    assert gram_distance(results, task) < 0.6 * gram_distance(pictures, task)
    amber = DATA / "style" / "content" / "amber.jpg"
    assert run("generate", "checkpoints/a", f"--content-path={amber}", "--result-path=out.png").code == 0
    assert Image.open("out.png").size == Image.open(amber).size
