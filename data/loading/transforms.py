"""A config's list of transforms as one torchvision v2 pipeline from a PIL picture to a float tensor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from configs import COMPONENTS, Component, Transforms
from data.loading.fast import fuse
from utils.blame import code_error
from utils.errors import ConfigError, is_memory_shortage
from utils.words import reason_of, shortened, suggest

__all__ = ["make_transform", "told_apart"]

# These work on numbers: the picture becomes a tensor in [0, 1] before the first of them.
NEED_FLOAT = {"GaussianNoise", "LinearTransformation", "Normalize", "RandomErasing"}
# These take values from 0 to 1, or cut others off: behind Normalize they would spoil the picture.
NEED_UNIT = {
    "AutoAugment",
    "ColorJitter",
    "GaussianNoise",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
}
NEED_UNIT |= {"RandomEqualize", "RandomInvert", "RandomPhotometricDistort", "RandomPosterize", "RandomSolarize"}
NEED_UNIT |= {"TrivialAugmentWide"}
CONVERSIONS = {"PILToTensor", "ToDtype", "ToImage", "ToTensor"}


def make_transform(specs: Sequence[Component], fast: bool = False) -> Callable[[Any], torch.Tensor]:
    """Compose the transforms.

    The conversion to a tensor in [0, 1] goes before the first transform that needs it, or to the end; a list with its
    own conversion is left as it is. `fast`: fuse a usual chain, which then also runs on whole batches.

    Raises ConfigError when a transform refuses its arguments; a fused chain only when it is called for a single
    picture.
    """
    _refuse_behind_normalize(specs)
    _refuse_large_means(specs)
    compose = partial(_compose, specs)
    return (fuse(specs, compose) if fast else None) or compose()


def _refuse_behind_normalize(specs: Sequence[Component], normalized: bool = False, key: str = "data.transform") -> None:
    """Raise ConfigError for a transform behind Normalize that takes values from 0 to 1, also within another one."""
    for i, spec in enumerate(specs):
        if normalized and spec.name in NEED_UNIT and spec.args.get("clip") is not False:
            raise ConfigError(f"{key}[{i}]: {spec.name} takes values from 0 to 1; put it before Normalize")
        inner = spec.args.get("transforms")
        if isinstance(inner, (list, tuple)):
            _refuse_behind_normalize([_component(item) for item in inner], normalized, f"{key}[{i}].transforms")
        normalized = normalized or spec.name == "Normalize"


def _refuse_large_means(specs: Sequence[Component]) -> None:
    """Raise ConfigError for a Normalize with the means of pictures from 0 to 255, where they are from 0 to 1."""
    if {spec.name for spec in specs} & (CONVERSIONS - {"ToTensor"}):
        return  # their numbers are the user's own
    for i, spec in enumerate(specs):
        if spec.name == "Normalize":
            means = _numbers(spec.args.get("mean"))
            if any(mean > 1 for mean in means):
                raise ConfigError(
                    f"data.transform[{i}]: Normalize has the mean {max(means):g}, and pictures are from 0 to 1 there; "
                    "divide mean and std by 255, or put ToImage first where the dataset gives other numbers"
                )
            return  # behind the first one any numbers may be


def told_apart(transform: Transforms) -> Iterator[str]:
    """Yield a line when pictures are normalised in one way for training and in another for validation and test."""
    train, evaluated = (
        [_told(spec) for spec in specs if spec.name == "Normalize"] for specs in (transform.train, transform.eval)
    )
    if train != evaluated:
        ours, theirs = (" and ".join(told) or "no Normalize" for told in (train, evaluated))
        yield f"note: data.transform.train has {ours}, data.transform.eval has {theirs}"
        yield "  the network is measured with other numbers than it learns from"


def _told(spec: Component) -> str:
    words = [f"{name} {', '.join(f'{n:g}' for n in _numbers(spec.args.get(name)))}" for name in ("mean", "std")]
    return f"{spec.name}({'; '.join(words)})"


def _numbers(value: Any) -> list[float]:
    """Return the numbers of an argument, one or a list of them, without anything that is no number."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [float(one) for one in values if isinstance(one, (int, float))]


def _compose(specs: Sequence[Component]) -> Callable[[Any], torch.Tensor]:
    from torchvision.transforms import v2

    built = [_build(spec, f"data.transform[{i}]") for i, spec in enumerate(specs)]
    if not any(spec.name in CONVERSIONS for spec in specs):
        place = next((i for i, spec in enumerate(specs) if spec.name in NEED_FLOAT), len(built))
        built[place:place] = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return _Chain(v2.Compose([*built, v2.ToPureTensor()]))


class _Chain:
    """A torchvision pipeline that raises ValueError for a picture which it cannot take, whatever torchvision raises.

    For a mistake in a transform of one's own it raises CodeError with its file and line.
    """

    def __init__(self, pipeline: Any):
        self.pipeline, self.transforms = pipeline, pipeline.transforms

    def __call__(self, *pictures: Any) -> Any:
        try:
            found = self.pipeline(*pictures)
        except Exception as error:
            if not is_memory_shortage(error) and (own := code_error(error)):
                raise own from error
            if isinstance(error, (LookupError, ArithmeticError, AssertionError, AttributeError)):
                raise ValueError(f"{type(error).__name__}: {reason_of(error)}") from error
            raise
        several = found if len(pictures) > 1 else [found]
        if several[0] is None:
            raise ValueError("one of the transforms gives None; does it lack a return?")
        for one in several:
            _refuse_others(one)
        return found

    def __repr__(self) -> str:
        return repr(self.pipeline)


def _refuse_others(picture: Any) -> None:
    """Raise ValueError for a picture that a list with its own conversion left as it is."""
    if picture is not None and not isinstance(picture, torch.Tensor):
        raise ValueError("it is no tensor at the end; put ToImage before ToDtype, or leave both out")


def _build(spec: Component, key: str) -> Any:
    """Build one transform; words become torch's types, and the list in RandomApply or RandomChoice is built too."""
    args = {name: _value(name, value, key) for name, value in spec.args.items()}
    return COMPONENTS["transform"].build(Component(spec.name, args), key)


def _value(name: str, value: Any, key: str) -> Any:
    if name == "dtype":
        known = {word: kind for word in dir(torch) if isinstance(kind := getattr(torch, word), torch.dtype)}
        return _one_of(known, value, f"{key}.dtype")
    if name == "interpolation" and isinstance(value, str):
        from torchvision.transforms import InterpolationMode

        return _one_of({mode.value: mode for mode in InterpolationMode}, value, f"{key}.interpolation")
    if name == "transforms" and isinstance(value, (list, tuple)):
        return [_build(_component(item), f"{key}.transforms[{i}]") for i, item in enumerate(value)]
    return value


def _one_of(known: Mapping[str, Any], word: Any, key: str) -> Any:
    """Return the value that a word stands for. Raises ConfigError for any other."""
    if not isinstance(word, str) or word not in known:
        raise ConfigError(f"{key}: no '{shortened(str(word))}'{suggest(str(word), known)}")
    return known[word]


def _component(item: Any) -> Component:
    if isinstance(item, Mapping):
        return Component(str(item.get("name")), {k: v for k, v in item.items() if k != "name"})
    return Component(str(item))
