"""Published weights: read from a file whose digest is in its name, downloaded, or refused in a sentence."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from models._published import load_published
from utils.errors import DataError

URL = "https://example.org/line-0123456789.pth"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder in which torch.hub keeps what it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # torch.hub.set_dir() could not be taken back
    return tmp_path / "hub" / "checkpoints"


def publish(folder: Path, content: object) -> Path:
    """A file of that content, named after its digest."""
    torch.save(content, folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    return (folder / "new.pth").rename(folder / f"line-{digest[:8]}.pth")


def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 3), 2.0), "bias": torch.ones(2), "classifier.weight": torch.zeros(9)}


def refusal(path: object) -> str:
    """What is said about the weights; the network is as before."""
    net = nn.Linear(3, 2)
    before = net.weight.clone()
    with pytest.raises(DataError) as caught:
        load_published(net, str(path), URL, "Line")
    assert torch.equal(net.weight, before)
    assert "\n" not in str(caught.value) and URL in str(caught.value)
    return str(caught.value)


def test_a_file_is_read_and_what_the_network_lacks_is_left_out(tmp_path):
    net = nn.Linear(3, 2)
    load_published(net, str(publish(tmp_path, weights())), URL, "Line")
    assert torch.equal(net.weight, weights()["weight"]) and torch.equal(net.bias, weights()["bias"])


def test_none_leaves_the_network_as_it_is():
    net = nn.Linear(3, 2)
    before = net.weight.clone()
    load_published(net, "none", URL, "Line")
    assert torch.equal(net.weight, before)


def test_the_digest_in_the_name_is_checked_where_there_is_one(tmp_path):
    good = publish(tmp_path, weights())
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 1
    good.write_bytes(content)
    assert "its sha256 begins with" in refusal(good)
    good.write_bytes(content[:100])
    assert "its sha256 begins with" in refusal(good)
    torch.save(weights(), tmp_path / "my-face.pth")  # a word that happens to be of hexadecimal digits
    load_published(nn.Linear(3, 2), str(tmp_path / "my-face.pth"), URL, "Line")


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path):
    told = refusal(tmp_path / "line.pth")
    assert f"the weights of Line are not at {tmp_path / 'line.pth'}; put {URL} there" in told
    assert "--weights=download" in told and "--weights=none" in told
    assert "are not at" in refusal(tmp_path)


def test_other_content_is_refused(tmp_path):
    path = tmp_path / "line.pth"
    torch.save(nn.Linear(3, 2), path)  # a pickled object
    assert "are no weights of Line (Weights only load failed" in refusal(path)
    torch.save([1, 2], path)
    assert "it holds a list" in refusal(path)
    for junk in (b"", b"junk", b"PK\x03\x04"):
        path.write_bytes(junk)
        assert "are no weights of Line" in refusal(path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "line.pth"
    torch.save({"weight": torch.zeros(2, 3)}, path)
    assert "lacks bias of the weights of Line" in refusal(path)
    torch.save({"weight": torch.zeros(5, 3), "bias": [1, 1]}, path)
    assert "lacks weight and 1 more of the weights of Line" in refusal(path)


def test_old_files_lack_batch_norms_counter(tmp_path):
    net = nn.BatchNorm1d(2)
    state = {name: tensor + 1 for name, tensor in net.state_dict().items() if name != "num_batches_tracked"}
    torch.save(state, tmp_path / "norm.pth")
    load_published(net, str(tmp_path / "norm.pth"), URL, "Norm")
    assert torch.equal(net.running_mean, torch.ones(2))


def test_a_download_is_checked_and_kept(tmp_path, hub):
    file = publish(tmp_path, weights())
    for _ in range(2):
        net = nn.Linear(3, 2)
        load_published(net, "download", file.as_uri(), "Line")
        assert torch.equal(net.weight, weights()["weight"])
        assert (hub / file.name).is_file()
        file.unlink(missing_ok=True)


def test_a_download_that_fails_is_told_with_where_to_put_the_file(tmp_path, hub):
    file = publish(tmp_path, weights())
    file.write_bytes(file.read_bytes()[:-9])
    for url in (file.as_uri(), (tmp_path / "absent-01234567.pth").as_uri()):
        with pytest.raises(DataError) as caught:
            load_published(nn.Linear(3, 2), "download", url, "Line")
        assert f"put {url} at {hub / url.rpartition('/')[2]}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not list(hub.glob("*.pth"))
