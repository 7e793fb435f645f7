"""Oddities in the vitals of a network, in words."""

import math
from collections.abc import Iterator

from torch import nn

from trainer.looking.vitals import Layer, Vitals, learning

__all__ = ["odd_vitals"]

HUGE, TINY = 1e3, 1e-4  # spread of a layer's outputs, over that of the network's inputs
DEAD, ENOUGH = 0.5, 64  # share of a ReLU's units that are zero on all samples, and samples that say so
FADED = 1e-5  # of the largest gradient of a network: a layer learns nothing
STEEP = 1e4  # length of a classifier's gradient
ALIKE = 1e-5  # spread of the outputs between samples, over their size
UNSCALED = 20.0  # mean or spread of a network's inputs
MOST = 3  # layers that are named


def odd_vitals(vitals: Vitals, taught: set[str], classifier: bool) -> Iterator[str]:
    """Yield a sentence about each thing that is odd.

    `taught` are the parameters that got a gradient other than 0 in some steps of learning; `classifier`: the networks
    give logits, and the loss is one of theirs, so that their sizes say something.
    """
    yield from _inputs(vitals)
    if (broken := next((layer for layer in vitals.in_order() if not layer.outputs.finite), None)) is not None:
        yield f"overflow: from {_named(broken)} on the outputs are not finite"
        return
    yield from _outputs(vitals, classifier)
    yield from _dead(vitals)
    yield from _gradients(vitals, taught, classifier)


def _named(layer: Layer) -> str:
    return layer.name if layer.name.endswith(layer.kind) or " " in layer.name else f"{layer.name} ({layer.kind})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _inputs(vitals: Vitals) -> Iterator[str]:
    """Yield a line for each network whose inputs are constant or far from 0 and 1."""
    for role, inputs in vitals.inputs.items():
        if not inputs.finite:
            yield f"the inputs of {role} are not finite"
        elif inputs.spread == 0 and inputs.count > 1:
            yield f"the inputs of {role} are all {inputs.mean:.3g}"
        elif abs(inputs.mean) > UNSCALED or inputs.spread > UNSCALED:
            told = f"the inputs of {role} have mean {inputs.mean:.3g} and spread {inputs.spread:.3g}"
            yield f"{told}: they are not scaled; data.transform's Normalize scales pictures, data.dataset a table"


def _outputs(vitals: Vitals, classifier: bool) -> Iterator[str]:
    """Yield a line where the signal explodes or fades on its way, or does not depend on the input."""
    layers = vitals.in_order()
    ends = {*(role for role in vitals.across), *(layer.name for layer in layers[-2:])} if not classifier else set()
    usual = max([1.0, *(inputs.spread for inputs in vitals.inputs.values() if inputs.spread > 0)])
    huge = [layer for layer in layers if layer.outputs.spread > HUGE * usual and layer.name not in ends]
    if huge:
        told = f"the outputs explode: their spread is {layers[0].outputs.spread:.2g} at {_named(layers[0])}"
        told += f" and {huge[-1].outputs.spread:.2g} at {_named(huge[-1])}"
        yield f"{told}; begin with smaller weights, such as kaiming_normal, or put in norm layers"
    least = TINY * min([1.0, *(inputs.spread for inputs in vitals.inputs.values() if inputs.spread > 0)])
    zero = {name for name, layer in _modules(vitals).items() if _begins_at_zero(layer)}
    faded = [one for one in layers if 0 < one.outputs.spread < least and one.name not in zero]
    if faded:
        told = f"the outputs fade: their spread is {faded[0].outputs.spread:.2g} at {_named(faded[0])}"
        yield f"{told}; begin with larger weights, such as kaiming_normal, or put in norm layers"
    for role, share in vitals.across.items():
        if share < ALIKE and not _begins_at_zero(vitals.task.get_submodule(role)):
            yield f"{role} gives the same output for every sample: nothing of its input arrives there"


def _modules(vitals: Vitals) -> dict[str, nn.Module]:
    return {name: layer for layer, name in vitals.names.items()}


def _begins_at_zero(layer: nn.Module) -> bool:
    """Return whether a layer's weights are zero, as some residual blocks begin on purpose."""
    weights = [p for p in layer.parameters() if p.ndim > 1] or list(layer.parameters())[:1]
    return bool(weights) and not weights[-1].detach().any()


def _dead(vitals: Vitals) -> Iterator[str]:
    """Yield a line for the ReLUs most of whose units are zero on all samples."""
    dead = [(layer, share) for layer in vitals.in_order() if (share := layer.dead) is not None and share > DEAD]
    dead = [(layer, share) for layer, share in dead if layer.samples >= ENOUGH]
    if dead:
        worst, share = max(dead, key=lambda pair: pair[1])
        told = f"dead units: {share:.0%} of {_named(worst)} are zero on all {worst.samples} samples"
        others = [_named(layer) for layer, _ in dead if layer is not worst]
        more = f"; so are most of {_listed(others)}" if others else ""
        yield f"{told}{more}; a smaller learning rate, smaller biases or LeakyReLU keeps units alive"


def _gradients(vitals: Vitals, taught: set[str], classifier: bool) -> Iterator[str]:
    """Yield a line for gradients that vanish, that are zero, that explode or are not finite."""
    broken = [name for name, gradient in vitals.gradients.items() if not gradient.finite]
    if broken:
        yield f"the gradients of {_listed(broken)} are not finite"
        return
    zero = [name for name, gradient in vitals.gradients.items() if not gradient.squares and name not in taught]
    if zero:
        yield f"the gradient of {_listed(zero)} is 0 in every batch: nothing is learned there"
    for role in vitals.across or vitals.inputs:
        yield from _vanishing(vitals, role, zero)
    length = math.sqrt(sum(gradient.squares for gradient in vitals.gradients.values()))
    if classifier and length > STEEP:
        yield f"the gradients are large (length {length:.2g} over these batches); see train.clip and the first weights"


def _vanishing(vitals: Vitals, role: str, zero: list[str]) -> Iterator[str]:
    """Yield a line where the gradients of some weights of a network are next to nothing beside those of others."""
    several = len(vitals.across or vitals.inputs) > 1
    matrices = {name for name, p in learning(vitals.task) if p.ndim > 1}  # a bias before a norm has no gradient
    sizes = {
        name: gradient.largest
        for name, gradient in vitals.gradients.items()
        if name in matrices and name not in zero and (not several or name.startswith(f"{role}."))
    }
    largest = max(sizes.values(), default=0.0)
    faint = [name for name, size in sizes.items() if 0 < size < FADED * largest]
    if faint:
        told = f"gradients vanish: that of {faint[0]} is {sizes[faint[0]]:.1g} at most, the largest {largest:.1g}"
        more = f" ({len(faint)} of {len(sizes)} layers)" if len(faint) > 1 else ""
        yield f"{told}{more}; ReLU in place of sigmoid or tanh, norm layers or skip connections let them pass"
