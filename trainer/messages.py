"""Torch's errors in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from configs import COMPONENTS, Config
from data.protocol import batch_reader, ids_of
from utils import dist
from utils.blame import code_error, place_of, place_of_attribute, place_of_method, refuse_other
from utils.errors import CodeError, ConfigError, DataError, MemoryShortage, is_memory_shortage
from utils.words import reason_of

__all__ = ["explain_torch_errors", "refuse_incomplete", "refuse_unmade"]

EXPLANATIONS = {  # a part of torch's error, and a sentence with the remedy
    "does not have a deterministic implementation": "train.deterministic: this network cannot be, leave it out",
    "more than 1 value per channel when training": "data.batch_size: BatchNorm learns from two samples or more",
    "channels, but got": "model: a layer is given other channels than it takes; see model.in_channels",
    "input to conv": "model: a layer takes pictures, and is given something else",
    "Output size is too small": "model: the pictures are too small for one of its layers",
    "Kernel size can't be greater than actual input size": "model: the pictures are too small for one of its layers",
    "does not match weight dtype": "data: inputs must be float32, as the weights are; see data.transform",
    "expected scalar type Byte": "data: inputs must be float32, as the weights are; see data.transform",
    "must have the same dtype": "data: inputs must be float32, as the weights are; give x.float()",
    "expected target dtype to be": "data: labels must be whole numbers, int64, from 0; give them as int or y.long()",
    "expected scalar type Long": "data: labels must be whole numbers, int64, from 0; give them as int or y.long()",
    "shapes cannot be multiplied": "model: a layer is given another size than it takes; see model",
    "should be the same": "data: inputs must be float32, as the weights are; see data.transform",
    "index out of range in self": "model: an embedding is given a number that is not below its size; see model",
    "scalar types: Long, Int": "model: an embedding takes whole numbers, and is given something else",
    "multi-target not supported": "data: a label must be one whole number for each sample",
    "is out of bounds.": "data: a label is none of the class numbers, which count from 0",
    "Expected to have finished reduction in the prior": "model: a layer gets no gradient, which several processes "
    "cannot train; a run of one process names it",
    "_foreach ops don't support autograd": "optim.differentiable: not with foreach, leave it out",
    "capturable=True": "optim.capturable: only on a GPU, leave it out",
    "must be equal to input_size": "model: a layer is given another size than it takes; see model.in_channels",
    "no kernel image is available": "train.use_gpu: this torch, or an extension of it, has no kernels for this GPU; "
    "install one that has them, or --use-gpu=false",
    "No working C++ compiler": "train.compile: needs a C++ compiler, such as g++; without one leave it out",
    "Failed to find C compiler": "train.compile: needs a C compiler, such as gcc; without one leave it out",
}


@contextmanager
def explain_torch_errors(cfg: Config, training: bool = True) -> Iterator[None]:
    """Turn running out of memory into a MemoryShortage, and torch's errors about some keys into a ConfigError."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError, IndexError, AssertionError) as error:
        if lost := dist.loss_of(error):
            raise lost from error
        if is_memory_shortage(error):
            raise _memory_shortage(cfg, training) from error
        if own := _missing_forward(error) or _backward_fault(error, cfg):
            raise own from error
        told, layer = (
            next((words for sign, words in EXPLANATIONS.items() if sign in str(error)), None),
            _layer_of(error),
        )
        if told is None:
            if layer and (own := code_error(error, about=layer)):
                raise own from error
            raise
        where = place_of(error) or "--debug shows where"
        told = f"{told}: {layer}" if layer else told
        sentence = f"{told} ({str(error).strip().splitlines()[0][:200]}; {where})"
        if not told.startswith("data: "):
            raise ConfigError(sentence) from error
        dataset = COMPONENTS["data"].get(cfg.data.dataset.name)
        place = place_of_method(dataset, "__getitem__")
        raise DataError(f"{place}: {sentence}" if place else sentence) from error


def _memory_shortage(cfg: Config, training: bool) -> MemoryShortage:
    size = cfg.data.batch_size
    assert size != "auto", "a number takes its place before"
    smaller = f"--batch-size={max(1, size // 2)}"
    fit = "; --train.oom=fit finds the size" if training and cfg.train.oom == "stop" else ""
    if training:
        smaller += f" --train.accumulate={2 * cfg.train.accumulate} (of a mean the same gradient)"
    return MemoryShortage(
        f"out of memory with batch size {size} in {cfg.train.precision}; try {smaller}, "
        f"--train.precision=bf16, smaller pictures, or fewer --num-workers{fit}"
    )


def _missing_forward(error: BaseException) -> CodeError | None:
    """Return the sentence about a network without `forward`, which has perhaps one of nearly that name."""
    if 'is missing the required "forward" function' not in str(error):
        return None
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_locals.get("self") if trace is not None else None
    kind = type(module)
    near = get_close_matches("forward", [name for name in vars(kind) if not name.startswith("_")], 1)
    hint = f"; it has {near[0]}: is that meant?" if near else ""
    return CodeError(f"{place_of_method(kind, '__init__') or kind.__name__}: {kind.__name__} has no forward{hint}")


def _backward_fault(error: BaseException, cfg: Config) -> CodeError | None:
    """Return the sentence about values that backward finds changed, or used up by an earlier call of it."""
    reason = str(error).partition("Hint:")[0].strip()
    if "backward through the graph a second time" in reason:
        told = (
            "a value of an earlier step is kept with its graph, by the network or by the task: .detach() what is kept"
            f"; or train_step ({place_of(error)}) calls loss.backward() itself, or update(loss) twice"
        )
    elif "modified by an inplace operation" in reason:
        told = (
            "a value that backward needs is changed in place, by +=, .mul_(…), x[…] = … or inplace=True: make it a "
            f"new value, as h = h + 1 ({reason})"
        )
    else:
        return None
    places = [place_of_method(COMPONENTS["model"].get(spec.name), "forward") for spec in cfg.model.values()]
    return CodeError(f"{next(filter(None, places), place_of(error) or 'model')}: {told}")


def refuse_incomplete(dataset: object) -> None:
    """Raises CodeError for a dataset without a length, or whose samples cannot be asked for by their numbers."""
    kind = type(dataset)
    methods = ("__init__", "__getitem__", "__len__")
    place = next(filter(None, (place_of_method(kind, name) for name in methods)), kind.__name__)
    if not hasattr(kind, "__len__"):
        raise CodeError(f"{place}: {kind.__name__} has no __len__, which returns the number of samples")
    if getattr(kind, "__getitem__", Dataset.__getitem__) is Dataset.__getitem__ and batch_reader(dataset) is None:
        raise CodeError(f"{place}: {kind.__name__} has no __getitem__(self, index), which returns a sample")
    try:
        samples, ids = len(dataset), ids_of(dataset)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        place = place_of_method(kind, "__len__") or place
        raise CodeError(
            f"{place}: __len__ of {kind.__name__} gives no number of samples ({reason_of(error)})"
        ) from error
    if len(ids) != samples:
        place = place_of_attribute(dataset, "ids") or place
        raise CodeError(f"{place}: {kind.__name__}.ids names {len(ids):,} samples of {samples:,}; it must name each")


def _refuse_lazy(module: nn.Module) -> None:
    """Raises CodeError for layers whose sizes are not known before the first batch."""
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            path = name.rpartition(".")[0]
            place = place_of_attribute(module, path.partition(".")[0]) or type(module).__name__
            kind = type(module.get_submodule(path)).__name__
            raise CodeError(
                f"{place}: {path or name} is a {kind}, whose sizes are not known before the first batch; take the "
                "layer of that name without Lazy: in_features, in_channels and num_classes come from the data"
            )


def refuse_unmade(module: nn.Module) -> None:
    """Raises CodeError for what is no module, has not called the constructor of nn.Module, or has lazy layers."""
    refuse_other(module, nn.Module)
    if "_modules" not in vars(module):
        name = type(module).__name__
        place = place_of_method(module, "__init__") or name
        raise CodeError(f"{place}: __init__ of {name} never calls super().__init__(); make it its first line")
    _refuse_lazy(module)
    _refuse_covered(module)


def _refuse_covered(module: nn.Module) -> None:
    """Raises CodeError for an attribute that hides a method which torch calls, as self.train = True does."""
    for part in module.modules():
        for name, value in vars(part).items():
            if callable(getattr(nn.Module, name, None)) and not callable(value):
                kind, place = type(part).__name__, place_of_attribute(part, name)
                told = f"self.{name} of {kind} hides the method {name} of nn.Module; give it another name"
                raise CodeError(f"{place or kind}: {told}")


def _layer_of(error: BaseException) -> str:
    """Return the layer that an error was raised in, and the sizes that it was given, in words; empty if none was."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        if isinstance(trace.tb_frame.f_locals.get("self"), nn.Module):
            frames.append(trace.tb_frame)
        trace = trace.tb_next
    calls = [frame for frame in frames if frame.f_code.co_name == "forward"]
    if not calls:
        return ""
    root, layer = frames[0].f_locals["self"], calls[-1].f_locals["self"]
    name = next((name for name, module in root.named_modules() if module is layer), "").removeprefix("model.")
    if layer is root or not name or name == "model":  # the whole network: its file and line are told
        return ""
    whole = repr(layer) if not list(layer.children()) else type(layer).__name__
    given = _sizes(calls[-1]) if type(layer).__module__.startswith("torch.") else ""
    return f"the layer {name}, {whole[:120]}" + (f", is given {given}" if given else "")


def _sizes(call: FrameType) -> str:
    """Return the shape of the first argument of a layer's forward; empty if it is no tensor."""
    names = call.f_code.co_varnames[1 : call.f_code.co_argcount]
    value = call.f_locals.get(names[0]) if names else None
    return str(list(value.shape)) if isinstance(value, Tensor) else ""
