"""A diagnosis on a terminal, in 80 columns."""

import math
from collections.abc import Iterator

from trainer.looking.doctor import Diagnosis
from utils.terminal import head, padded, show
from utils.words import count_of

__all__ = ["shortened_name", "table_of", "tell"]

WIDTH = 30  # columns of a name
HEADS = (("output", 9), ("spread", 8), ("dead", 5), ("gradient", 10), ("spread", 8))  # and their columns


def tell(diagnosis: Diagnosis) -> None:
    """Print the table and the verdict."""
    if diagnosis.vitals is not None and diagnosis.vitals.layers:
        for line in table_of(diagnosis):
            show(line)
        for name, value in diagnosis.losses.items():
            if (guess := diagnosis.guess.get(name)) is not None:
                classes = round(math.exp(guess))
                known = f" (ln {classes})" if math.isclose(math.log(classes), guess, rel_tol=1e-6) else ""
                show(f"{name} of the first batch {value:.4g}; a guess has {guess:.4g}{known}")
    odd, faults = diagnosis.odd, diagnosis.found.faults
    if not odd and not faults:
        show("verdict: nothing odd")
    elif odd:
        show(f"verdict: {count_of(len(odd), 'thing')} to look at")
    for text in odd:
        show(f"  - {text}")


def table_of(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the lines of the table: a line for each layer, with its first parameter; others stand below it."""
    assert diagnosis.vitals is not None, "the caller has looked"
    yield " ".join([padded(head("layer"), WIDTH, left=True), *(padded(head(name), width) for name, width in HEADS)])
    gradients = dict(diagnosis.vitals.gradients)
    for layer in diagnosis.vitals.in_order():
        dead = "" if layer.dead is None else f"{layer.dead:.0%}"
        own = [name for name in gradients if name.rpartition(".")[0] == layer.name]
        left = f"{shortened_name(layer.name):<{WIDTH}} {_number(layer.outputs.mean):>9} "
        left += f"{_number(layer.outputs.spread):>8} {dead:>5}"
        for name in own[:1]:
            left += f" {_number(gradients[name].mean):>10} {_number(gradients[name].spread):>8}"
        yield left.rstrip()
        for name in own[1:]:
            yield _parameter(f"  .{name.rpartition('.')[2]}", gradients[name])
        for name in own:
            del gradients[name]
    for name, gradient in gradients.items():
        yield _parameter(name, gradient)


def _parameter(name: str, gradient: object) -> str:
    mean, spread = (_number(getattr(gradient, part)) for part in ("mean", "spread"))
    return f"{shortened_name(name):<{WIDTH}} {'':>24} {mean:>10} {spread:>8}"


def shortened_name(name: str, most: int = WIDTH) -> str:
    """Return a name, without its middle if it is too long; its end tells more than its beginning."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "nan" if math.isnan(value) else "inf"
