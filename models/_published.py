"""Published weights: a file on disk or torchvision's download, each checked by the digest in its name."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import DataError

__all__ = ["load_published"]

# torch.hub names its files so: vgg16-397923af.pth. Fewer digits may be a word, as in my-face.pth.
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")
REMEDY = "or set --weights=download to fetch it, or --weights=none for random weights"


def load_published(net: nn.Module, weights: str, url: str, what: str) -> None:
    """Load the published weights of `what` into a network; entries that the network lacks are left out.

    `weights` is "none": the network stays unchanged; "download": the file at `url`, which torch.hub keeps; otherwise
    the path of that file on disk. If the file's name ends in digits, its sha256 must begin with them.

    Raises DataError for a file that is missing, cannot be downloaded, is damaged, or holds no weights of the network.
    """
    if weights == "none":
        return
    there = _download(url, what) if weights == "download" else _read(Path(weights).expanduser(), url, what)
    own = net.state_dict()
    # Files from before PyTorch 0.4.1 lack batch norm's counter, which evaluation does not use.
    needed = [name for name in own if name in there or not name.endswith("num_batches_tracked")]
    unfit = [name for name in needed if getattr(there.get(name), "shape", None) != own[name].shape]
    if unfit:
        more = f" and {len(unfit) - 1} more" if len(unfit) > 1 else ""
        raise DataError(f"--weights={weights} lacks {unfit[0]}{more} of the weights of {what}; take the file {url}")
    net.load_state_dict({name: there[name] for name in needed}, strict=False)


def _download(url: str, what: str) -> Mapping[str, Tensor]:
    place = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    fetch = torch.hub.load_state_dict_from_url
    try:
        return _plain(fetch(url, map_location="cpu", progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, no such page, another digest, or a fault as below
        raise DataError(f"the weights of {what} cannot be loaded ({_line(error)}); put {url} at {place}") from error


def _read(path: Path, url: str, what: str) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise DataError(f"the weights of {what} are not at {path}; put {url} there, {REMEDY}")
    try:
        _check_digest(path)
        return _plain(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # foreign bytes make the unpickler raise nearly anything
        raise DataError(f"{path} are no weights of {what} ({_line(error)}); put {url} there, {REMEDY}") from error


def _check_digest(path: Path) -> None:
    """Raise ValueError for a file whose content does not fit the digest in its name."""
    if found := DIGEST.findall(path.name):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(found[-1]):
            raise ValueError(f"its sha256 begins with {digest[:8]}, so that it is damaged or another file")


def _plain(content: Any) -> Mapping[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__} instead of tensors by name")
    return content


def _line(error: Exception) -> str:
    """Return the first sentence of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
