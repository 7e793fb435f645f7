"""BasicModule, the base of every network here: it saves, loads, counts and freezes its parameters."""

import difflib
import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from models._matching import Renaming, bare, bare_names, renamed
from utils.errors import CheckpointError
from utils.files import write_atomic

ADVICE = "build the network as it was when saved, or load what fits with strict=False"


class BasicModule(nn.Module):
    """A network that saves its weights in files which load on any machine, on whatever device it was trained."""

    published: ClassVar[Renaming] = ()  # names of the same weights in the files of the book's repository, and ours

    @property
    def model_name(self) -> str:
        """The name with which `save` begins a file's; the book's attribute."""
        return type(self).__name__

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of a published file as this network holds them; those of its own files unchanged."""
        return renamed(state, self.published)

    @property
    def parameter_count(self) -> int:
        """The number of all parameters' elements, also the frozen ones."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, path: str | Path | None = None) -> Path:
        """Write the state_dict, as CPU tensors, and return the path.

        Without a path it is `checkpoints/<ClassName>_<MMDD_HHMMSS>.pth`. The file is written completely or not at all.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        if path is None:
            path = Path("checkpoints") / f"{self.model_name}_{datetime.now():%m%d_%H%M%S}.pth"
        # Into memory first: a disk that fills up inside torch.save is reported as a broken file position.
        buffer = io.BytesIO()
        torch.save({name: tensor.cpu() for name, tensor in self.state_dict().items()}, buffer)
        write_atomic(Path(path), buffer.getbuffer())
        return Path(path)

    def load(self, path: str | Path, strict: bool = True) -> list[str]:
        """Load the weights of a file: a bare state_dict, or a run's checkpoint. See `load_weights` for the rest.

        Raises:
            CheckpointError: the file is missing, unreadable, holds no weights, or does not fit.
        """
        return load_weights(self, read_weights(Path(path)), str(path), strict)

    def get_optimizer(self, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
        """Return Adam over the parameters that learn; the book's method, for a loop of one's own."""
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr, weight_decay=weight_decay)

    def freeze(self, *prefixes: str) -> Self:
        """Freeze every parameter whose name begins with one of the prefixes; without prefixes, all.

        Raises:
            ValueError: a prefix with which no parameter begins.
        """
        names = [name for name, _ in self.named_parameters()]
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(f"no parameter of {type(self).__name__} begins with {prefix!r}{_near(prefix, names)}")
        for name, parameter in self.named_parameters():
            if name.startswith(prefixes or ""):
                parameter.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a layer that is frozen whole stays in evaluation."""
        super().train(mode)
        for module in self.modules():
            own = list(module.parameters(recurse=False))
            # A frozen batch norm in training mode would still change its running statistics.
            if own and not any(parameter.requires_grad for parameter in own):
                module.training = False
        return self


def load_weights(
    net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool, advice: str = ADVICE
) -> list[str]:
    """Copy `state` into `net` by name, and return the names of either that were left out.

    Names are compared without the wrappers (DataParallel, DistributedDataParallel, torch.compile) of either side.
    Strict: every entry must have a partner of the same shape. Not strict: fitting entries are copied, and the rest of
    the network is unchanged. Messages call the weights `source` and end with the `advice`. On an error the network is
    unchanged.

    Raises:
        CheckpointError: nothing fits; or, if strict, something does not.
    """
    own = {bare(name): name for name in net.state_dict()}
    there = adopted(net, state)
    current = net.state_dict()
    faults = _faults(bare_names(current), there)
    fitting = {own[name]: tensor for name, tensor in there.items() if name not in faults}
    kind = type(net).__name__
    if not fitting:
        raise CheckpointError(f"{source} holds nothing that fits {kind}; name the weights of such a network")
    if strict and faults:
        few, more = list(faults.values())[:3], f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{source} does not fit {kind}: {'; '.join(few)}{more}; {advice}")
    net.load_state_dict(fitting, strict=False)
    return list(faults)


def adopted(net: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors of a file under the names that they have in a network, without wrappers."""
    there = bare_names(state)
    return net.adopt(there) if isinstance(net, BasicModule) else there


def _faults(own: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> dict[str, str]:
    """Return every name without a partner of its shape, with a description."""
    faults = {}
    for name, tensor in own.items():
        shape = tuple(tensor.shape)
        # Files from before PyTorch 0.4.1, torchvision's ResNets among them, lack batch norm's counter.
        if name not in there and not name.endswith("num_batches_tracked"):
            faults[name] = f"{name} {shape} is missing there"
        elif name in there and there[name].shape != tensor.shape:
            faults[name] = f"{name} is {tuple(there[name].shape)} there and {shape} here"
    for name in there.keys() - own.keys():
        faults[name] = f"{name} {tuple(there[name].shape)} is unknown here"
    return faults


def _near(prefix: str, names: list[str]) -> str:
    parts = [name.split(".") for name in names]
    paths = {".".join(path[:depth]) for path in parts for depth in range(1, len(path) + 1)}
    near = difflib.get_close_matches(prefix, sorted(paths))
    return f"; did you mean {' or '.join(near)}?" if near else ""


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the state_dict in a file: bare, or under `model` or `state_dict`.

    Raises CheckpointError if there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; name an existing .pth file")
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path}: needs the package safetensors: pip install safetensors") from error
    except Exception as error:  # foreign bytes make the unpickler raise nearly anything
        reason = f"{path} is damaged or is no file of plain weights ({type(error).__name__})"
        raise CheckpointError(f"{reason}; write it anew with save()") from error
    for key in ("model", "state_dict"):  # the keys of a run's checkpoint, and of many scripts' files
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no state_dict; name a file written by save() or a run's checkpoint")
    return content


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)
