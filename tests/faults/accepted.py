"""Configs that check accepts: two steps of training accept them too, or refuse them in one line."""

import contextlib
import functools
import re
import typing
from collections.abc import Callable

from configs import COMPONENTS
from tests.faults import campaign
from tests.faults.campaign import Family, Trial, require
from tests.faults.children import Child
from tests.faults.fuzz import call, patched
from tests.faults.hostile import spend_little
from tests.faults.mutations import Mutated, mutated
from tests.faults.runs import PLAIN
from tests.faults.runs import prepare as warm_up
from tests.faults.small_data import CASES, make_small_data

TRIES = 4  # configs that are drawn until check accepts one
PATIENCE = 60  # s, of two steps that take one
WARNING = re.compile(r"^/.*Warning: .*\n(  .*\n)?", re.MULTILINE)  # of a library, with its line of code
CODES = (0, 2, 3, 6, 8)


def trial(t: Trial) -> str:
    (t.folder / "data").symlink_to(campaign.SCRATCH / "accepted-data")
    with BROKEN[t.broken]() if t.broken else contextlib.nullcontext():
        for _ in range(TRIES):
            config, flags = t.rng.choice(CASES)
            chosen = mutated(config, flags, t.rng)
            code, words = call(t.folder, ["check", config, *chosen.flags])
            require(code in (0, 2), f"check {config} {chosen.flags} ends with {code}: {words[-300:]}")
            if code == 0:
                return train(t, chosen)
    return "refused by check"


def train(t: Trial, chosen: Mutated) -> str:
    """Two steps of it, with the memory and the time of two steps."""
    run = [] if any(flag.startswith("--run=") for flag in chosen.flags) else ["--run=a"]
    arguments = ["train", chosen.config, *chosen.flags, *PLAIN, "--train.max_steps=2", *run]
    told = " ".join(arguments)
    child = Child(t.folder, arguments, [spend_little])
    try:
        child.wait(PATIENCE)
    except campaign.Violation as error:
        raise campaign.Violation(f"{told}: {error}") from error
    said = child.err()
    require(child.code in CODES, f"{told}: exit code {child.code}: {(said or child.out()).strip()[-500:]}")
    require("Traceback" not in said + child.out(), f"{told}: a traceback: {said[-500:]}")
    lines = WARNING.sub("", said).strip().splitlines()
    require(len(lines) == (child.code != 0), f"{told}: exit code {child.code} and {len(lines)} lines: {said[-500:]!r}")
    require(child.code != 8 or "out of memory" in said, f"{told}: {said}")
    require(child.code != 6 or chosen.numbers, f"{told}: no number explains {said}")
    return f"accepted by check, train {child.code}"


@functools.cache
def prepare() -> None:
    """Make the data, and read every module in the process from which all trials are forked."""
    import tensorboardX  # noqa: F401

    make_small_data(campaign.SCRATCH / "accepted-data")
    warm_up()
    for registry in COMPONENTS.values():
        for name in registry.all_names():
            registry.get(f"{name}:{registry.variants[name].names()[0]}" if name in registry.variants else name)


# Broken on purpose


def unread() -> contextlib.AbstractContextManager:
    """No range is read, and what a constructor refuses comes through."""
    from utils.config import convert, registry

    own = convert._Converter._annotated

    def without_ranges(self: object, node: object, to: object, key: str) -> object:
        inner, mark = typing.get_args(to)
        return own(self, node, to, key) if isinstance(mark, str) else self.value(node, inner, key)

    stack = contextlib.ExitStack()
    stack.enter_context(patched(convert._Converter, "_annotated", without_ranges))
    stack.enter_context(patched(registry, "refuses", lambda error: False))
    return stack


def raw_torch() -> contextlib.AbstractContextManager:
    """Torch's errors come through as they are."""
    from trainer.run import session

    return patched(session, "explain_torch_errors", lambda cfg: contextlib.nullcontext())


BROKEN: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "torch's errors come through": raw_torch,
    "ranges not read, refusals not translated": unread,
}

FAMILY = Family(
    "accepted",
    "shipped configs with one to four keys, arguments, components, transforms or names changed at random, as far as "
    "`check` accepts them: two steps of training",
    "trained, or refused in one line with exit 2, 3, 6 or 8 within memory and time",
    500,
    trial,
    tuple(BROKEN),
    prepare,
    {"accepted": 0.6, "accepted by check, train 0": 0.3},
)
