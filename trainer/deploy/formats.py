"""The formats of an exported network: how each is written with a text inside, and run again by its own runtime."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.errors import ConfigError
from utils.optional import installed
from utils.words import reason_of

__all__ = ["FORMATS", "Format", "Run", "leaves"]

META = "meta.json"  # the name of the text inside
INPUT = "input"
Run = Callable[[Tensor], list[Tensor]]  # of a loaded file: outputs for a batch of inputs


class Format(NamedTuple):
    """A way to write a network; `packages` are those that are needed beside torch."""

    suffix: str
    packages: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, str], bytes]  # the network, a batch of two inputs at least, the text
    load: Callable[[Path, nn.Module], tuple[Run, str]]  # a file, a network of the same kind; how to run it, the text

    def require(self, name: str) -> None:
        """Raise ConfigError unless the packages are installed."""
        if missing := [package for package in self.packages if not installed(package)]:
            raise ConfigError(
                f"--format={name}: needs {', '.join(missing)}, which is not installed; pip install {' '.join(missing)}"
            )


def leaves(output: Any) -> list[Tensor]:
    """Return the tensors of an output, in order."""
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [leaf for part in output for leaf in leaves(part)]
    return [output] if isinstance(output, Tensor) else []


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Raise ConfigError with the reason where torch cannot follow a network; its warnings are for programmers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # torch raises errors of many kinds here
        advice = "torchscript follows one run of it, safetensors holds the weights alone"
        raise ConfigError(f"--format={name}: the network cannot be followed: {reason_of(error)}; {advice}") from error


def _write_torchscript(network: nn.Module, inputs: Tensor, text: str) -> bytes:
    buffer = io.BytesIO()
    with _told("torchscript"), torch.no_grad():
        torch.jit.save(torch.jit.trace(network, inputs, check_trace=False), buffer, _extra_files={META: text})
    return buffer.getvalue()


def _load_torchscript(path: Path, network: nn.Module) -> tuple[Run, str]:
    found = {META: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(str(path), map_location="cpu", _extra_files=found)
    text: Any = found[META]
    return lambda inputs: leaves(loaded(inputs)), text if isinstance(text, str) else text.decode()


def _followed(network: nn.Module, inputs: Tensor) -> Any:
    """Return the network as torch.export has it, for batches of any size."""
    shapes = ({0: torch.export.Dim("batch")},)
    return torch.export.export(network, (inputs,), dynamic_shapes=shapes)


def _write_torch_export(network: nn.Module, inputs: Tensor, text: str) -> bytes:
    buffer = io.BytesIO()
    with _told("torch_export"), torch.no_grad():
        torch.export.save(_followed(network, inputs), buffer, extra_files={META: text})
    return buffer.getvalue()


def _load_torch_export(path: Path, network: nn.Module) -> tuple[Run, str]:
    found: dict[str, Any] = {META: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=found).module()
    text = found[META]
    return lambda inputs: leaves(loaded(inputs)), text if isinstance(text, str) else text.decode()


def _write_onnx(network: nn.Module, inputs: Tensor, text: str) -> bytes:
    with _told("onnx"), torch.no_grad():
        program: Any = torch.onnx.export(
            _followed(network, inputs), dynamo=True, input_names=[INPUT], output_names=["output"], verbose=False
        )
        model = program.model_proto
        entry = model.metadata_props.add()
        entry.key, entry.value = META, text
        return bytes(model.SerializeToString())


def _load_onnx(path: Path, network: nn.Module) -> tuple[Run, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(found)) for found in session.run(None, {name: inputs.numpy()})]

    return run, session.get_modelmeta().custom_metadata_map.get(META, "")


def _write_safetensors(network: nn.Module, inputs: Tensor, text: str) -> bytes:
    from safetensors.torch import save

    # shared weights stand there under each of their names
    return save({name: value.contiguous().clone() for name, value in network.state_dict().items()}, {META: text})


def _load_safetensors(path: Path, network: nn.Module) -> tuple[Run, str]:
    """Return how the weights run in another network of the same kind, whose own weights they replace."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(META, "")
    return lambda inputs: leaves(network(inputs)), text


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "torch_export": Format(".pt2", (), _write_torch_export, _load_torch_export),
    "torchscript": Format(".pt", (), _write_torchscript, _load_torchscript),
    "safetensors": Format(".safetensors", ("safetensors",), _write_safetensors, _load_safetensors),
}
