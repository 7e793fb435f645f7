"""From samples to a batch; a sample that fits into none is named, with the file and line that gave it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from data.protocol import collate_of, name_of, transform_of
from utils.blame import code_error, place_of_method
from utils.errors import CodeError, DataError, UserError, is_memory_shortage

__all__ = ["check_labels", "collate", "read_sample"]

BATCHED = (Tensor, np.ndarray, np.generic, int, float, str, bytes)  # torch makes batches of these, and of their lists


def read_sample(dataset: Any, index: int) -> Any:
    """Return a sample. Raises CodeError with file, line and sample for a mistake in the dataset's own code."""
    try:
        return dataset[index]
    except (UserError, OSError):  # a disk that fails may answer the next time
        raise
    except Exception as error:
        about = f"sample {name_of(dataset, index)}{_hint(dataset, error)}"
        told = None if is_memory_shortage(error) else code_error(error, about=about)
        if told is None:
            raise
        raise told from error


def collate(dataset: Any, indices: Sequence[int], samples: list[Any]) -> Any:
    """Return the batch of samples, made by the dataset's own `collate`, otherwise by torch's.

    Raises DataError when samples differ in size, CodeError for a sample of which no batch can be made.
    """
    try:
        batch = collate_of(dataset)(samples)
        if any(isinstance(part, Tensor) and part.requires_grad for part in _parts(batch)):
            raise CodeError(f"{_place(dataset)} gives a tensor with a gradient; give .detach() of it")
        return batch
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        if is_memory_shortage(error):
            raise
        for index, sample in zip(indices, samples, strict=True):
            if fault := _fault(sample, samples[0]):
                raise CodeError(f"{_place(dataset)} gives {fault} for the sample {name_of(dataset, index)}") from error
        _check_sizes(samples, error)
        raise


def check_labels(dataset: Any, indices: Sequence[int], batch: Any, classes: int) -> None:
    """Look at the labels of a batch (inputs, labels), which must be class numbers below `classes`, int64 [B].

    Raises DataError that names the sample, and the line that gives it.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        given = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise DataError(f"{_place(dataset)} gives {given} for a sample, where (input, label) is due")
    labels, numbers = batch[1], f"class numbers from 0 to {classes - 1}, as int"
    if fault := _label_fault(labels, classes):
        raise DataError(f"{_place(dataset)} gives {fault}; give {numbers}")
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        told = f"the label {int(labels[place])} for the sample {name_of(dataset, indices[place])}"
        raise DataError(f"{_place(dataset)} gives {told}; there are {classes} classes: give {numbers}")


def _label_fault(labels: Any, classes: int) -> str:
    """Return why the labels of a batch are no class numbers, whatever their values; empty if they are."""
    if not isinstance(labels, Tensor):
        shown = repr(labels[0]) if isinstance(labels, (tuple, list)) and len(labels) else type(labels).__name__
        return f"labels that are no numbers, such as {shown}"
    shape, kind = list(labels.shape[1:]), str(labels.dtype).removeprefix("torch.")
    if shape == [classes] and classes > 1:
        return f"labels of {classes} numbers each, one for each class: label.argmax() is the class number"
    if shape:
        return f"labels of shape {shape}, where one number is due"
    return f"labels of type {kind}" if labels.dtype != torch.int64 else ""


def _hint(dataset: Any, error: Exception) -> str:
    """Return the likely cause where a dataset called a transform that it was not given."""
    if "'NoneType' object is not callable" not in str(error) or transform_of(dataset) is not None:
        return ""
    return (
        "; transform is None because the config lists none under data.transform: list some there, or call it only "
        "if it is not None"
    )


def _parts(batch: Any) -> Iterable[Any]:
    if isinstance(batch, Mapping):
        return batch.values()
    return batch if isinstance(batch, (tuple, list)) else (batch,)


def _fault(sample: Any, first: Any) -> str:
    """Return why a sample goes into no batch, in words; empty if nothing is wrong with it alone."""
    if sample is None:
        return "None instead of (input, label)"
    if isinstance(sample, Image):
        return "a PIL image instead of a tensor: use the transform that it is offered, or utils.images.to_tensor,"
    if isinstance(sample, (tuple, list)):
        if isinstance(first, (tuple, list)) and len(sample) != len(first):
            return f"{len(sample)} parts instead of {len(first)}"
        pairs = zip(sample, first, strict=True) if isinstance(first, (tuple, list)) else ()
        return next((fault for part, other in pairs if (fault := _fault(part, other))), "")
    if isinstance(sample, Mapping):
        return ""
    if type(sample) is not type(first):
        return f"a {type(sample).__name__} where others have a {type(first).__name__}"
    return "" if isinstance(sample, BATCHED) else f"a {type(sample).__name__} instead of a tensor, a number or text"


def _check_sizes(samples: list[Any], error: Exception) -> None:
    """Raises DataError when the samples' tensors differ in size."""
    first = [s[0] if isinstance(s, (tuple, list)) and len(s) else s for s in samples]
    sizes = sorted({"x".join(map(str, s.shape)) for s in first if isinstance(s, Tensor)})
    # the second text comes from a worker process
    size_error = "equal size" in str(error) or "resize storage" in str(error)
    if len(sizes) > 1 and size_error:
        raise DataError(
            f"samples of different sizes ({', '.join(sizes[:3])}) cannot make a batch; give data.transform a "
            "RandomResizedCrop (train) and Resize with CenterCrop (eval)"
        ) from error


def _place(dataset: Any) -> str:
    """Return file, line and name of the method that gives a dataset's samples."""
    where = place_of_method(dataset, "__getitem__") or "data"
    return f"{where}: {type(dataset).__name__}.__getitem__"
