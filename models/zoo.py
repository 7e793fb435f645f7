"""Torchvision's classifiers by name, fitted to other classes and channels."""

import difflib
import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torchvision import models as catalogue

from utils.config.ranges import Count
from utils.errors import ConfigError, DataError

__all__ = ["torchvision"]


def torchvision(
    variant: str,
    num_classes: Count = 1000,
    in_channels: Count = 3,
    weights: str | None = None,
    **arguments: object,
) -> nn.Module:
    """Build any classifier of torchvision by its name, as torchvision:resnet18, with ImageNet weights on request.

    With `weights` ("DEFAULT", or one of torchvision's names) the published file is read, and downloaded if necessary. A
    classifier of another `num_classes` then starts afresh, and a first convolution of other `in_channels` spreads the
    published one evenly. Further arguments go to torchvision. The auxiliary classifiers of googlenet and inception_v3
    are left out. The network maps (B, in_channels, H, W) to (B, num_classes) logits.

    Raises:
        ConfigError: an unknown variant, weights or argument.
        DataError: the weights can neither be found nor downloaded.
    """
    _check(variant, catalogue.list_models(module=catalogue), "classifier in torchvision")
    if variant in ("googlenet", "inception_v3"):
        # The same network with or without weights, so that a checkpoint can be rebuilt without them.
        arguments = {"transform_input": in_channels == 3} | arguments
    try:
        net = _pretrained(variant, weights, arguments) if weights else _fresh(variant, num_classes, arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"torchvision:{variant} cannot be built: {error}") from error
    _fit_classes(net, num_classes)
    _fit_channels(net, in_channels, spread=weights is not None)
    return net


def _check(name: str, known: Iterable[str], what: str) -> None:
    if name not in (known := list(known)):
        near = difflib.get_close_matches(name, known)
        raise ConfigError(f"no {what} is called {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))


def _fresh(variant: str, num_classes: int, arguments: dict[str, object]) -> nn.Module:
    if variant in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": False, "init_weights": True} | arguments
    return catalogue.get_model(variant, num_classes=num_classes, **arguments)


def _pretrained(variant: str, weights: str, arguments: dict[str, object]) -> nn.Module:
    published = catalogue.get_model_weights(variant)
    _check(weights, published.__members__, f"set of weights of torchvision:{variant}")
    url = published[weights].url
    try:
        net = catalogue.get_model(variant, weights=published[weights], **arguments)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        reason = str(error).partition("\n")[0]
        raise DataError(f"{weights} weights of {variant} cannot be loaded ({reason}); put {url} at {place}") from error
    if variant == "inception_v3":
        net.aux_logits, net.AuxLogits = False, None
    return net


def _fit_classes(net: nn.Module, num_classes: int) -> None:
    """Replace the last layer by a fresh one, unless it has that many classes already."""
    name, old = [entry for entry in net.named_modules() if isinstance(entry[1], nn.Linear | nn.Conv2d)][-1]
    if old.weight.shape[0] == num_classes:
        return
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        net.set_submodule(name, nn.Linear(old.in_features, num_classes, bias))
    else:
        net.set_submodule(name, nn.Conv2d(old.in_channels, num_classes, old.kernel_size, bias=bias))


def _fit_channels(net: nn.Module, in_channels: int, spread: bool) -> None:
    """Replace the first convolution by one for that many channels, unless it has them already."""
    name, old = next(entry for entry in net.named_modules() if isinstance(entry[1], nn.Conv2d))
    if old.in_channels == in_channels:
        return
    shape = in_channels, old.out_channels, old.kernel_size, old.stride, old.padding
    new = nn.Conv2d(*shape, bias=old.bias is not None)
    if spread:
        # A grey picture then excites the first layer as it would in three equal channels.
        mean = old.weight.data.mean(dim=1, keepdim=True) * old.in_channels / in_channels
        new.load_state_dict(old.state_dict() | {"weight": mean.expand(-1, in_channels, -1, -1)})
    net.set_submodule(name, new)
