"""The names and shapes in the checkpoints of the book's repository, written down as facts, for the tests."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _conv(name: str, n_in: int, n_out: int, kernel: int, bias: bool = False) -> Shapes:
    yield f"{name}.weight", (n_out, n_in, kernel, kernel)
    if bias:
        yield f"{name}.bias", (n_out,)


def _norm(name: str, width: int) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def _resnet(rows: list[tuple[int, int, int]], shortcuts: set[int]) -> Shapes:
    yield from _conv("pre.0", 3, 64, 7)
    yield from _norm("pre.1", 64)
    for row, (n_in, n_out, blocks) in enumerate(rows, 1):
        for block in range(blocks):
            name = f"layer{row}.{block}"
            yield from _conv(f"{name}.left.0", n_in if not block else n_out, n_out, 3)
            yield from _norm(f"{name}.left.1", n_out)
            yield from _conv(f"{name}.left.3", n_out, n_out, 3)
            yield from _norm(f"{name}.left.4", n_out)
            if not block and row in shortcuts:
                yield from _conv(f"{name}.right.0", n_in, n_out, 1)
                yield from _norm(f"{name}.right.1", n_out)
    yield "fc.weight", (2, 512)
    yield "fc.bias", (2,)


def resnet34_v2() -> Shapes:
    return _resnet([(64, 64, 3), (64, 128, 4), (128, 256, 6), (256, 512, 3)], {2, 3, 4})


def resnet34_v1() -> Shapes:
    return _resnet([(64, 128, 3), (128, 256, 4), (256, 512, 6), (512, 512, 3)], {1, 2, 3, 4})


def squeezenet() -> Shapes:
    yield from _conv("model.features.0", 3, 64, 3, True)
    fires = [(3, 64, 16, 64), (4, 128, 16, 64), (6, 128, 32, 128), (7, 256, 32, 128)]
    fires += [(9, 256, 48, 192), (10, 384, 48, 192), (11, 384, 64, 256), (12, 512, 64, 256)]
    for place, n_in, squeezed, wide in fires:
        yield from _conv(f"model.features.{place}.squeeze", n_in, squeezed, 1, True)
        yield from _conv(f"model.features.{place}.expand1x1", squeezed, wide, 1, True)
        yield from _conv(f"model.features.{place}.expand3x3", squeezed, wide, 3, True)
    yield from _conv("model.classifier.1", 512, 2, 1, True)


def transformer_net() -> Shapes:
    def affine(name: str, width: int) -> Shapes:
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)

    for place, (n_in, n_out, kernel) in zip((0, 3, 6), ((3, 32, 9), (32, 64, 3), (64, 128, 3)), strict=True):
        yield from _conv(f"initial_layers.{place}.conv2d", n_in, n_out, kernel, True)
        yield from affine(f"initial_layers.{place + 1}", n_out)
    for block in range(5):
        for number in (1, 2):
            yield from _conv(f"res_layers.{block}.conv{number}.conv2d", 128, 128, 3, True)
            yield from affine(f"res_layers.{block}.in{number}", 128)
    for place, (n_in, n_out) in ((0, (128, 64)), (3, (64, 32))):
        yield from _conv(f"upsample_layers.{place}.conv2d", n_in, n_out, 3, True)
        yield from affine(f"upsample_layers.{place + 1}", n_out)
    yield from _conv("upsample_layers.6.conv2d", 32, 3, 9, True)


def poetry_model(vocabulary: int = 30, embedding: int = 8, hidden: int = 6) -> Shapes:
    yield "embeddings.weight", (vocabulary, embedding)
    for layer, width in enumerate((embedding, hidden)):
        yield f"lstm.weight_ih_l{layer}", (4 * hidden, width)
        yield f"lstm.weight_hh_l{layer}", (4 * hidden, hidden)
        yield f"lstm.bias_ih_l{layer}", (4 * hidden,)
        yield f"lstm.bias_hh_l{layer}", (4 * hidden,)
    yield "linear1.weight", (vocabulary, hidden)
    yield "linear1.bias", (vocabulary,)


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes, no two alike; variances are positive."""
    draws = torch.Generator().manual_seed(0)
    made = {name: torch.randn(shape, generator=draws) * 0.05 for name, shape in shapes}
    for name, tensor in made.items():
        if re.search("running_var$", name):
            tensor.abs_().add_(1)
        elif re.search("num_batches_tracked$", name):
            made[name] = torch.tensor(7)
        elif tensor.ndim == 1 and name.endswith(".weight"):
            tensor.add_(1)
    return made
