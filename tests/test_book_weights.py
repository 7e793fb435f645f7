"""Checkpoints of the book's repository load by name; bare weights measure and predict."""

import csv
from pathlib import Path

import pytest
import torch
from book_weights import filled, poetry_model, resnet34_v1, resnet34_v2, squeezenet, transformer_net
from conftest import dogcats
from torch import Tensor
from torch.nn import functional as F

from models.book_resnet34 import BookResNet34
from models.char_rnn import CharRNN
from models.resnet34 import ResNet34
from models.squeezenet import SqueezeNet
from models.transformer_net import TransformerNet
from utils.errors import CheckpointError


def poet() -> CharRNN:
    return CharRNN(vocabulary_size=30, embedding=8, width=6)


@pytest.mark.parametrize(
    ("net", "shapes", "entries", "one"),
    [
        (lambda: ResNet34(2), resnet34_v2, 218, ("layer2.0.downsample.0.weight", "layer2.0.right.0.weight")),
        (BookResNet34, resnet34_v1, 224, ("layer1.0.right.1.bias", "layer1.0.right.1.bias")),
        (lambda: SqueezeNet(2), squeezenet, 52, ("classifier.1.bias", "model.classifier.1.bias")),
        (TransformerNet, transformer_net, 62, ("residual.4.norm.bias", "res_layers.4.in2.bias")),
        (poet, poetry_model, 11, ("output.weight", "linear1.weight")),
    ],
)
def test_every_tensor_of_the_books_file_is_taken(net, shapes, entries, one, tmp_path):
    weights = filled(shapes())
    assert len(weights) == entries
    torch.save(weights, tmp_path / "book.pth")
    own = net()
    before = list(own.state_dict())
    assert own.load(tmp_path / "book.pth") == [] and len(before) == entries
    assert torch.equal(own.state_dict()[one[0]], weights[one[1]])
    # in the order of the file: the names here stand for the same layers
    assert [t.shape for t in own.state_dict().values()] == [t.shape for t in weights.values()]
    own.save(tmp_path / "own.pth")
    assert net().load(tmp_path / "own.pth") == []


def test_the_older_network_has_its_size():
    with torch.device("meta"):
        net = BookResNet34()
        assert net.parameter_count == 46_993_986
        assert net(torch.empty(1, 3, 224, 224)).shape == (1, 2)


@pytest.mark.slow
def test_the_files_of_one_are_refused_by_the_other(tmp_path):
    torch.save(filled(resnet34_v1()), tmp_path / "book.pth")
    with pytest.raises(CheckpointError, match="does not fit ResNet34"):
        ResNet34(2).load(tmp_path / "book.pth")


def painted(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Pictures 0 … 255 through the layers as the book's names tell them: the oracle."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.conv2d.weight"]
        x = F.pad(x, [kernel.shape[-1] // 2] * 4, mode="reflect")
        return F.conv2d(x, kernel, weights[f"{name}.conv2d.bias"], stride)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.instance_norm(x, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"])

    for place, stride in ((0, 1), (3, 2), (6, 2)):
        x = F.relu(norm(f"initial_layers.{place + 1}", conv(f"initial_layers.{place}", x, stride)))
    for block in range(5):
        name = f"res_layers.{block}"
        y = F.relu(norm(f"{name}.in1", conv(f"{name}.conv1", x)))
        x = x + norm(f"{name}.in2", conv(f"{name}.conv2", y))
    for place in (0, 3):
        x = conv(f"upsample_layers.{place}", F.interpolate(x, scale_factor=2.0))
        x = F.relu(norm(f"upsample_layers.{place + 1}", x))
    return conv("upsample_layers.6", x)


def test_the_books_painter_paints_the_same_pictures(tmp_path):
    weights = filled(transformer_net())
    weights["upsample_layers.6.conv2d.weight"] *= 200
    weights["upsample_layers.6.conv2d.bias"] += 120
    torch.save(weights, tmp_path / "book.pth")
    x = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    theirs = painted(weights, 255 * x).clamp(0, 255) / 255
    net = TransformerNet(squash="clamp")
    net.load(tmp_path / "book.pth")
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs, atol=1e-4, rtol=0)
        assert theirs.std() > 0.05 and 0.02 < float((theirs == 0).float().mean()) < 0.9
        near = TransformerNet()
        near.load(tmp_path / "book.pth")
        middle = (theirs - 0.5).abs() < 0.15  # where a sigmoid is nearly straight
        assert middle.any() and float((near(x) - theirs).abs()[middle].max()) < 0.01


def test_the_books_poet_says_the_same(tmp_path):
    weights = filled(poetry_model())
    torch.save(weights, tmp_path / "book.pth")
    net = poet()
    net.load(tmp_path / "book.pth")
    lstm = torch.nn.LSTM(8, 6, 2)
    lstm.load_state_dict({name.removeprefix("lstm."): t for name, t in weights.items() if name.startswith("lstm")})
    x = torch.randint(30, (4, 9))
    hidden, _ = lstm(F.embedding(x.T, weights["embeddings.weight"]))  # theirs has time before the batch
    expected = F.linear(hidden, weights["linear1.weight"], weights["linear1.bias"]).transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x)[0], expected)


# val and test with bare weights


SMALL = ["--data.transform.eval=[{name: Resize, size: [32, 32]}]", "--num-workers=0", "--batch-size=8"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    dogcats(folder / "train", 6)
    dogcats(folder / "two", 2)
    (folder / "test").mkdir()
    for number, path in enumerate(sorted((folder / "two").iterdir()), 1):
        path.rename(folder / "test" / f"{number}.jpg")
    torch.save(filled(resnet34_v2()), folder / "book.pth")
    return folder


def test_bare_weights_predict_with_the_books_names(run, photos, tmp_path):
    given = run("test", str(photos / "book.pth"), "--model=ResNet34", "--classes=cat,dog", *SMALL,
                f"--test-data-root={photos}/test", "--result-file=out.csv")  # fmt: skip
    assert given.code == 0, given.err
    assert "book.pth: bare weights, taken for ResNet34 of the config dogcat, classes cat, dog" in given.out
    with open("out.csv") as file:
        rows = {row["id"]: float(row["probability"]) for row in csv.DictReader(file)}
    net = ResNet34(2).eval()
    net.load(photos / "book.pth")
    from PIL import Image
    from torchvision.transforms import v2

    for number in (1, 4):
        picture = Image.open(photos / f"test/{number}.jpg").resize((32, 32), Image.Resampling.BILINEAR)
        x = v2.functional.to_dtype(v2.functional.pil_to_tensor(picture), torch.float32, scale=True)
        with torch.no_grad():
            assert rows[str(number)] == pytest.approx(float(net(x[None]).softmax(1)[0, 1]), abs=0.02)


def test_bare_weights_are_measured_and_the_data_tell_the_classes(run, photos):
    flags = ["--config=dogcat", "--model=ResNet34", *SMALL, f"--train-data-root={photos}/train"]
    given = run("val", str(photos / "book.pth"), *flags)
    assert given.code == 0 and "\naccuracy " in given.out and "of the config dogcat, classes cat, dog" in given.out
    named = run("val", str(photos / "book.pth"), *flags, "--classes=[cat, dog]")
    assert named.out == given.out


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--model=ResNet34"], 2, "holds bare weights: which data are they for? Name a config, as --config=dogcat"),
        (["--classes=cat"], 2, "--classes=cat: names the classes in the order of the outputs, as --classes=cat,dog"),
        (["--config=dogcat", "--train-data-root=nowhere"], 3, "or name them, as --classes=cat,dog in the order of the"),
        (["--config=dogcta"], 2, "no config 'dogcta'; did you mean 'dogcat'?"),
        (["--classes=cat,dog", "--model=BookResNet34"], 4, "; name the network that they are of, as --model="),
        (["--classes=cat,dog,cow", "--config=dogcat"], 4, "fc.weight is (2, 512) there and (3, 512) here"),
    ],
)
def test_what_bare_weights_lack_is_told(run, photos, flags, code, told):
    given = run("test", str(photos / "book.pth"), *flags, f"--test-data-root={photos}/test", "--num-workers=0")
    assert given.code == code and told in given.err and not Path("submission.csv").exists(), given.err


def test_a_runs_checkpoint_keeps_its_own_config(run):
    from conftest import TOY

    assert run("train", "--run=a", *TOY, "--train.max_steps=2").code == 0
    given = run("val", "checkpoints/a", "--config=dogcat")
    assert given.code == 2 and "--config=dogcat: checkpoints/a/best.pth is a run's checkpoint" in given.err
