"""The rungs of the tutorial's ladder by hand, from numpy to nn.Module; each gives its losses, summed and per sample.

After Justin Johnson, "Learning PyTorch with Examples": the same two-layer network without bias, y = relu(x W1) W2, the
same gradient descent on the summed squared error. `Weights` are W1 [D_in, H] and W2 [H, D_out], left as they were.
"""

import numpy as np
import torch
from torch import Tensor, nn

from models._functions import MyReLU
from models.two_layer import TwoLayerNet

Weights = tuple[Tensor, Tensor]


def by_numpy(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int) -> list[float]:
    """Arrays; forward and backward written out."""
    a, b = x.numpy(), y.numpy()
    w1, w2 = (w.numpy().copy() for w in weights)
    losses = []
    for _ in range(steps):
        h = a @ w1  # [N, H]
        h_relu = np.maximum(h, 0)
        prediction = h_relu @ w2  # [N, D_out]
        losses.append(float(np.square(prediction - b).sum()) / len(a))
        d_prediction = 2.0 * (prediction - b)
        d_w2 = h_relu.T @ d_prediction
        d_h = d_prediction @ w2.T
        d_h[h < 0] = 0
        w1 -= lr * (a.T @ d_h)
        w2 -= lr * d_w2
    return losses


def by_tensors(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int) -> list[float]:
    """The same with tensors, which a GPU could hold."""
    w1, w2 = (w.clone() for w in weights)
    losses = []
    for _ in range(steps):
        h = x.mm(w1)
        h_relu = h.clamp(min=0)
        prediction = h_relu.mm(w2)
        losses.append((prediction - y).square().sum().item() / len(x))
        d_prediction = 2.0 * (prediction - y)
        d_w2 = h_relu.t().mm(d_prediction)
        d_h = d_prediction.mm(w2.t())
        d_h[h < 0] = 0
        w1 -= lr * x.t().mm(d_h)
        w2 -= lr * d_w2
    return losses


def by_autograd(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int, relu=torch.relu) -> list[float]:
    """Backward is autograd's; the weights are still changed by hand."""
    learned = [w.clone().requires_grad_() for w in weights]
    losses = []
    for _ in range(steps):
        loss = (relu(x.mm(learned[0])).mm(learned[1]) - y).square().sum()
        losses.append(loss.item() / len(x))
        loss.backward()
        with torch.no_grad():
            for w in learned:
                w -= lr * w.grad
                w.grad = None
    return losses


def by_own_function(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int) -> list[float]:
    """The ReLU is an autograd.Function of our own."""
    return by_autograd(x, y, weights, lr, steps, relu=MyReLU.apply)


def by_nn(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int) -> list[float]:
    """Layers and the loss of torch.nn."""
    net = nn.Sequential(*(nn.Linear(*w.shape, bias=False) for w in weights))
    net.insert(1, nn.ReLU())
    net.load_state_dict({"0.weight": weights[0].t(), "2.weight": weights[1].t()})
    measure = nn.MSELoss(reduction="sum")
    losses = []
    for _ in range(steps):
        loss = measure(net(x), y)
        losses.append(loss.item() / len(x))
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= lr * parameter.grad
    return losses


def by_optim(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int) -> list[float]:
    """The step is torch.optim's."""
    w1, w2 = learned = [nn.Parameter(w.clone()) for w in weights]
    return _descend(lambda: torch.relu(x @ w1) @ w2, y, torch.optim.SGD(learned, lr), steps)


def by_module(x: Tensor, y: Tensor, weights: Weights, lr: float, steps: int) -> list[float]:
    """The network is a Module of our own: what the framework trains."""
    net = module_of(weights)
    return _descend(lambda: net(x), y, torch.optim.SGD(net.parameters(), lr), steps)


RUNGS = (by_numpy, by_tensors, by_autograd, by_own_function, by_nn, by_optim, by_module)


def module_of(weights: Weights) -> TwoLayerNet:
    """The Module with these weights; a linear layer keeps them transposed."""
    (inputs, hidden), outputs = weights[0].shape, weights[1].shape[1]
    net = TwoLayerNet(inputs, outputs, hidden, bias=False)
    net.load_state_dict({"linear1.weight": weights[0].t(), "linear2.weight": weights[1].t()})
    return net


def _descend(predict, y: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = (predict() - y).square().sum()
        losses.append(loss.item() / len(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


# Linear regression, the two ways of the book's chapter 3


def line_by_hand(x: Tensor, y: Tensor, lr: float, steps: int) -> tuple[float, float]:
    """w and b by gradients that are written out (section 3.1.5)."""
    w, b = torch.zeros(1), torch.zeros(1)
    for _ in range(steps):
        d = 2 * (x * w + b - y) / len(x)  # of the mean squared error, to the prediction
        w -= lr * (d * x).sum()
        b -= lr * d.sum()
    return w.item(), b.item()


def line_by_autograd(x: Tensor, y: Tensor, lr: float, steps: int) -> tuple[float, float]:
    """w and b by autograd's gradients (section 3.2.4)."""
    w, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    for _ in range(steps):
        (x * w + b - y).square().mean().backward()
        with torch.no_grad():
            for parameter in (w, b):
                parameter -= lr * parameter.grad
                parameter.grad = None
    return w.item(), b.item()


# A graph that is drawn anew at each call, and one that is drawn once


def doubled_beyond(x: Tensor, limit: float) -> Tensor:
    """x doubled until its norm is above the limit: how often depends on the numbers."""
    while x.norm() <= limit:
        x = 2 * x
    return x
