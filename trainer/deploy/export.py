"""The command export: a network in another format, believed only after it ran again and gave the same numbers."""

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from configs import COMPONENTS, Component, Config
from trainer.deploy.formats import FORMATS, Format, leaves
from trainer.inference.trained import LoadedRun
from trainer.messages import explain_torch_errors
from trainer.task import Task
from utils.config.cli import Flag
from utils.config.convert import to_plain
from utils.errors import ConfigError, UserError
from utils.files import output_file, write_atomic
from utils.terminal import show
from utils.words import count_of

__all__ = ["Normalised", "export"]

COMPARED = 32  # samples
TOLERANCE = 1e-4  # of a difference, beside the largest output or 1
ON_CPU = {"use_gpu": "false", "precision": "fp32", "compile": "false", "channels_last": "false"}


class Normalised(nn.Module):
    """A network behind the Normalize of its transforms, for pictures [B, C, H, W] in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, pictures: Tensor) -> Any:
        return self.network((pictures - self.mean) / self.std)


class Samples(NamedTuple):
    """Inputs [N, …] as an exported network takes them, the same ones as the network itself does, and their origin."""

    outer: Tensor
    inner: Tensor
    origin: str


def export(checkpoint: str, name: str, out: str | None, flags: Sequence[Flag]) -> None:
    """Write the network of a checkpoint in a format, after comparing it on real samples.

    Raises ConfigError for a network that the format cannot hold, UserError for one that gives other numbers.
    """
    form = FORMATS[name]
    form.require(name)
    run = LoadedRun(checkpoint)
    typed = [Flag(f"train.{key}", value, f"--train.{key}={value}") for key, value in ON_CPU.items()]
    cfg, task, device = run.load_task([*flags, *typed])
    target = output_file("--out", Path(out) if out else run.source.with_name(f"model{form.suffix}"), [form.suffix])
    network = _network(task)
    normalise = _last_normalise(cfg)
    samples = _samples(run, cfg, task, device, normalise)
    wrapped = network
    if normalise is not None and name != "safetensors":
        wrapped = Normalised(network, normalise.args["mean"], normalise.args["std"]).eval()
    else:
        samples = samples._replace(outer=samples.inner)
    text = json.dumps(_about(run, cfg, samples, wrapped is not network), ensure_ascii=False)
    with explain_torch_errors(cfg, training=False):
        data = form.write(copy.deepcopy(wrapped), _pair(samples.outer), text)
        difference = _difference(form, data, wrapped, network, samples, text)
    largest = TOLERANCE * max(1.0, *(float(output.abs().max()) for output in _outputs(network, samples.inner)))
    told = f"largest difference {difference:.2g} on {samples.origin}"
    if not difference <= largest:
        raise UserError(f"export: the {name} file gives other numbers ({told}, allowed is {largest:.2g}); not written")
    write_atomic(target, data)
    for line in _lines(cfg, samples, wrapped is not network, task):
        show(line)
    show(f"{target}: {len(data) / 1e6:.2g} MB, read and run again: {told}")


def _network(task: Task) -> nn.Module:
    """Return the task's only network. Raises ConfigError where there are several."""
    networks = {name: child for name, child in task.named_children() if name not in task.unsaved}
    if len(networks) != 1:
        names = ", ".join(networks) or "none"
        raise ConfigError(f"export: takes a task of one network, and {type(task).__name__} has {names}")
    return next(iter(networks.values()))


def _last_normalise(cfg: Config) -> Component | None:
    """Return the Normalize at the end of the transforms, which then lies inside of the file."""
    listed = cfg.data.transform.eval
    return (
        listed[-1] if listed and listed[-1].name == "Normalize" and {"mean", "std"} <= listed[-1].args.keys() else None
    )


def _samples(run: LoadedRun, cfg: Config, task: Task, device: torch.device, normalise: Component | None) -> Samples:
    """Return validation samples; made ones where the data are absent."""
    try:
        inner = _first_inputs(run, cfg, task, device)
        outer = inner if normalise is None else _first_inputs(run, _without(cfg, normalise), task, device)
        return Samples(outer, inner, count_of(len(inner), "validation sample"))
    except UserError as error:
        made = _made(run.meta)
        show(f"note: the validation data cannot be read ({error}); made ones take their place")
    if normalise is None:
        return Samples(made, made, count_of(len(made), "made sample"))
    args = (normalise.args["mean"], normalise.args["std"])
    inner = Normalised(nn.Identity(), *args)(made)
    return Samples(made, inner, count_of(len(made), "made sample"))


def _without(cfg: Config, normalise: Component) -> Config:
    """Return the config with a last Normalize that changes nothing; without it pictures may be read otherwise."""
    args = {**normalise.args, "mean": [0.0] * len(normalise.args["mean"]), "std": [1.0] * len(normalise.args["std"])}
    listed = (*cfg.data.transform.eval[:-1], Component("Normalize", args))
    return replace(cfg, data=replace(cfg.data, transform=replace(cfg.data.transform, eval=listed)))


def _first_inputs(run: LoadedRun, cfg: Config, task: Task, device: torch.device) -> Tensor:
    """Return the inputs of the first validation samples. Raises ConfigError where these are no tensors."""
    found: list[Tensor] = []
    with closing(run.loader(cfg, "val", task, device)) as loader:
        for _, batch in loader.epoch(0):
            inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
            if not isinstance(inputs, Tensor):
                raise ConfigError("export: the network's input is no tensor, so that no other format can take it")
            if found and inputs.shape[1:] != found[0].shape[1:]:
                break  # padded to another size
            found.append(inputs)
            if sum(map(len, found)) >= COMPARED:
                break
    return torch.cat(found)[:COMPARED]


def _made(meta: Mapping[str, Any]) -> Tensor:
    """Return random inputs of the shape that the data told. Raises ConfigError where they told none."""
    generator = torch.Generator().manual_seed(0)
    if {"in_channels", "image_size"} <= meta.keys():
        return torch.rand(4, meta["in_channels"], *meta["image_size"], generator=generator)
    if "in_features" in meta:
        return torch.randn(4, meta["in_features"], generator=generator)
    raise ConfigError("export: needs a sample to follow the network; set data.dataset.root to the data")


def _pair(inputs: Tensor) -> Tensor:
    """Return a batch of two at least: from one alone nobody knows which numbers are its size."""
    return inputs if len(inputs) > 1 else torch.cat([inputs, inputs])


def _outputs(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return leaves(network(inputs))


def _difference(
    form: Format, data: bytes, wrapped: nn.Module, network: nn.Module, samples: Samples, text: str
) -> float:
    """Return the largest difference of the file's outputs from the network's, for the batch and for one sample.

    Raises UserError where the file lacks the text, or gives outputs of another shape.
    """
    other = copy.deepcopy(wrapped)
    for value in other.state_dict().values():
        value.zero_()  # weights that are not in the file would be missed
    with TemporaryDirectory() as folder:
        path = Path(folder, f"model{form.suffix}")
        path.write_bytes(data)
        rerun, found = form.load(path, other)
        if found != text:
            raise UserError("export: the file does not hold its description; not written")
        largest = 0.0
        for count in (len(samples.inner), 1):
            pairs = list(
                zip(_outputs(network, samples.inner[:count]), _run(rerun, samples.outer[:count]), strict=False)
            )
            if not pairs or any(one.shape != two.shape for one, two in pairs):
                raise UserError(f"export: the file gives outputs of another shape for {count} samples; not written")
            largest = max([largest, *(_largest(one, two) for one, two in pairs)])
    return largest


def _run(rerun: Any, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(rerun(inputs.contiguous()))


def _largest(one: Tensor, two: Tensor) -> float:
    found = float((one.double() - two.double()).abs().max())
    return float("inf") if found != found else found


def _about(run: LoadedRun, cfg: Config, samples: Samples, inside: bool) -> dict[str, Any]:
    """Return the description inside of the file: classes, input, output and the transforms that come before it."""
    listed = to_plain(cfg.data.transform.eval)
    kept = ("classes", "mask_values", "outputs", "positive", "statistics", "embedded")
    pictures = samples.outer.ndim == 4
    return {
        "task": cfg.task.name,
        "model": to_plain(cfg.model),
        **{name: run.meta[name] for name in kept if name in run.meta},
        "input": {"shape": ["batch", *samples.outer.shape[1:]], "dtype": str(samples.outer.dtype).partition(".")[2]},
        "input_meaning": "pictures in [0, 1]" if pictures and (inside or not listed) else "as data.dataset gives it",
        "output": _meaning(cfg, run.meta),
        "preprocessing": listed[:-1] if inside else listed,
        "inside": listed[-1:] if inside else [],
        "dataset": to_plain(cfg.data.dataset),
        "checkpoint": str(run.source),
    }


def _meaning(cfg: Config, meta: Mapping[str, Any]) -> str:
    if "mask_values" in meta:
        return "logits [batch, classes, height, width]; their argmax over classes is the mask"
    if COMPONENTS["task"].literal(cfg.task.name, "predicted_kind") == "labels":
        return "logits [batch, labels]; their sigmoid is the probabilities"
    if meta.get("classes"):
        return "logits [batch, classes]; their softmax is the probabilities"
    return "the network's output; outputs says how it is scaled" if "outputs" in meta else "the network's output"


def _lines(cfg: Config, samples: Samples, inside: bool, task: Task) -> list[str]:
    """Return in words what the file takes and gives."""
    names = [spec.name for spec in cfg.data.transform.eval]
    shape = " x ".join(map(str, samples.outer.shape[1:]))
    before = names[:-1] if inside else names
    lines = [f"input: [batch, {shape.replace(' x ', ', ')}]{', pictures in [0, 1]' if inside else ''}"]
    lines[0] += "; Normalize is inside of the file" if inside else ""
    lines += [f"left to do before it, and described in the file: {', '.join(before)}"] if before else []
    return [*lines, "output: logits, not probabilities" if hasattr(task, "classes") else "output: the network's own"]
