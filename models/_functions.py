"""Our own functions for autograd, with forward and backward written by hand.

After the PyTorch tutorial (MyReLU), the book's chapter 3.2.3 (MultiplyAdd, Sigmoid) and XNOR-Net (Sign).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["Binarize", "MultiplyAdd", "MyReLU", "Sigmoid", "Sign"]


class MyReLU(Function):
    """max(x, 0), of any shape. Written as `MyReLU.apply(x)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (x > 0)


class Sign(Function):
    """+1 if x >= 0, otherwise -1. Backward, the gradient passes unchanged where |x| <= 1, and is 0 elsewhere.

    The true derivative is zero nearly everywhere, so that nothing would be learned. Rastegari et al., "XNOR-Net", 2016,
    after the straight-through estimator of Bengio et al., 2013. Zero becomes +1, because a binary value has no third
    state.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() <= 1)


class Binarize(nn.Module):
    """`Sign` as a layer, for an nn.Sequential."""

    def forward(self, x: Tensor) -> Tensor:
        return Sign.apply(x)


class MultiplyAdd(Function):
    """w * x + b, for three tensors of one shape; differentiable once."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, x: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(w, x)
        return w * x + b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w, x = ctx.saved_tensors
        return grads[0] * x, grads[0] * w, grads[0]


class Sigmoid(Function):
    """1 / (1 + e^-x), of any shape.

    Its backward consists of differentiable operations, so it can be differentiated again. Only the output is saved,
    because the derivative s (1 - s) needs nothing more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = (-x.abs()).exp()  # never overflows, unlike e^-x
        s = torch.where(x >= 0, 1 / (1 + positive), positive / (1 + positive))
        ctx.save_for_backward(s)
        return s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (s,) = ctx.saved_tensors
        return grads[0] * s * (1 - s)
