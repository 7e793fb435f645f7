"""ctl: ask a run that trains in another terminal to do something.

python main.py ctl RUN lr=1e-4 | save | val | pause | go | stop [--wait=60]

RUN is a run folder or its name in checkpoints/. The run acts at its next
step, and the answer says at which one. It keeps lr and val: a resumed run and
reproduce do the same at the same step.

  lr=1e-4    set the learning rate of every group; the schedule goes on from it
  save       write last.pth now
  val        validate now; counts like any other validation
  pause      wait, with everything in memory, until go
  go         go on after pause
  stop       save and end, with exit code 143; train --resume goes on
  --wait=60  seconds to wait for the answer
"""

import time
from collections.abc import Sequence
from pathlib import Path

from commands._arguments import split
from utils.config.cli import Flag, as_count
from utils.errors import ConfigError, UserError
from utils.runs import requests
from utils.runs.folder import ROOT, RunFolder, is_owned
from utils.runs.reading import find_run
from utils.terminal import show
from utils.words import nearest, shortened

__all__ = ["run"]

WORDS = tuple(verb for verb in requests.VERBS if verb != "lr")
USAGE = "python main.py ctl RUN lr=1e-4 | save | val | pause | go | stop"
LOOK = 0.05  # s between two looks for the answer
LIFE = 1.0  # s between two looks whether the run's process lives


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Send a request to a run and print its answer. Raises ConfigError for one that cannot be sent, or is refused."""
    options, keys = split(flags, ("wait",))
    verb, value = _asked(words[1:], keys)
    if not words:
        raise ConfigError(f"ctl: which run? {USAGE}")
    path, wait = find_run(words[0], ROOT), as_count("wait", options.get("wait", "60"))
    if not is_owned(path):
        raise ConfigError(_not_running(path))
    text, refused = _answer(path, requests.ask(path, verb, value), wait)
    if refused:
        raise ConfigError(f"{path}: {text}")
    show(f"{path}: {text}")


def _asked(words: Sequence[str], keys: Sequence[Flag]) -> tuple[str, float | None]:
    """Return the one request, and its number. Raises ConfigError for none, several or an unknown one."""
    wrong = [word for word in words if word not in WORDS]
    wrong += [key.typed for key in keys if key.key not in ("lr", "optim.lr")]
    if wrong:
        near = nearest(wrong[0], WORDS)
        meant = f"; did you mean '{near}'?" if near else ""
        raise ConfigError(f"ctl: no request '{shortened(wrong[0])}'{meant}; {USAGE}")
    if len(words) + len(keys) != 1:
        raise ConfigError(f"ctl: one request at a time: {USAGE}")
    if words:
        return words[0], None
    try:
        value = float(keys[0].text)
    except ValueError:
        value = -1.0
    if not requests.is_request({"request": "lr", "value": value}):
        raise ConfigError(f"ctl: lr={shortened(keys[0].text)}: expected a number above 0, such as 1e-4")
    return "lr", value


def _not_running(path: Path) -> str:
    status = RunFolder(path).status()
    state = str(status.get("state", "of an unknown state"))
    if state == "finished":
        return f"{path}: is finished, and hears no requests"
    told = "has crashed" if state in ("running", "paused") else f"is {state}"
    return f"{path}: {told} (step {status.get('step', 0)}), and hears no requests; train --resume={path} continues it"


def _answer(path: Path, name: str, wait: int) -> tuple[str, bool]:
    """Return the run's answer, and whether it refuses. Raises UserError if none comes."""
    begun = looked = time.monotonic()
    while (now := time.monotonic()) - begun <= wait:
        if answer := requests.answer_to(path, name):
            return answer
        if now - looked >= LIFE:
            looked = now
            if not is_owned(path) and not (answer := requests.answer_to(path, name)):
                requests.withdraw(path, name)
                raise UserError(f"{path}: the run ended before it answered; python main.py runs tells how")
        time.sleep(LOOK)
    raise UserError(
        f"{path}: no answer within {wait} s; the request stays, and is carried out after the step, the validation or "
        "the save that is in progress"
    )
