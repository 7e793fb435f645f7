"""The place in the user's own code that an error comes from: that file and line first, our frames folded."""

import os
import re
import sys
import sysconfig
import traceback
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

from utils.errors import CodeError, ConfigError, GroupError, UserError
from utils.optional import debugger
from utils.runs.group import leave, take_turn
from utils.terminal import show
from utils.words import reason_of

__all__ = [
    "DEBUG",
    "answer",
    "code_error",
    "exit_error",
    "place_of",
    "place_of_attribute",
    "place_of_call",
    "place_of_method",
    "refuse_other",
    "refuses",
    "shown_place",
]

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)  # whether --debug was typed
ROOT = Path(__file__).parent.parent
# Rooms where one adds a file for each thing: models, datasets, tasks, losses, …. The rest of the house is ours.
OPEN_ROOMS = {"models", "data", "data/transforms", "data/loading/sampling", "trainer/tasks", "trainer/losses"}
OPEN_ROOMS |= {"trainer/metrics", "trainer/optimizers", "trainer/schedules", "trainer/watchers"}
CLOSED = {
    "basic_module.py",
    "protocol.py",
    "watcher.py",
    "__init__.py",
}  # the base classes and protocols of these rooms
OURS = ("trainer", "utils", "configs", "commands", "data", "models", "main.py")
LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
DEVICE = (
    "a tensor that forward makes lies on the CPU: make it with device=x.device, or in __init__ with register_buffer"
)
ADVICE = {  # a part of an error that users of torch see first, and the remedy
    "before Module.__init__() call": "call super().__init__() first",
    "to be on the same device": DEVICE,
    "is not on the expected device": DEVICE,
}
# Python's words for a call that does not fit: Mine.forward() missing 1 required positional argument: 'y'
MISFIT = re.compile(r"(\w+)\.(\w+)\(\) (?:takes|missing|got) ")
LONG = re.compile(r"\S{400,}")  # a word that nobody reads: a key of 10,000 letters
# Packages of requirements.txt, by the name that is imported.
REQUIRED = {
    "PIL",
    "cv2",
    "filelock",
    "fire",
    "matplotlib",
    "numpy",
    "simplejpeg",
    "sklearn",
    "tensorboardX",
    "torch",
    "torchnet",
}
REQUIRED |= {"torchvision", "tqdm", "visdom", "yaml"}


def answer(error: Exception) -> int:
    """Print a mistake of the user in a sentence, with --debug as a traceback, and return the exit code.

    Raises the error again if it is a bug of ours. After a crash --debug opens a debugger, on a terminal.
    """
    told = error if isinstance(error, UserError) else _loss(error) or _missing_package(error) or code_error(error)
    if DEBUG.get():
        sys.excepthook(type(error), error, error.__traceback__)
        if (crash := _crash(error) or (error if told is None else None)) is not None:
            _look_back(crash)
    else:
        take_turn(told)
        if told is None:
            raise error
        show(LONG.sub(lambda match: f"{match[0][:100]}…", str(told)), error=True)
    code = told.exit_code if told is not None else UserError.exit_code
    leave(code)
    return code


def _crash(error: BaseException | None) -> BaseException | None:
    """Return the error that came from the user's own code, or the one that it is told for; None for other mistakes."""
    while error is not None and (isinstance(error, UserError) or _users_frame(error) is None):
        error = error.__cause__
    return error


def _look_back(error: BaseException) -> None:
    """Open a debugger where an error was raised, on a terminal: in the user's own code if that is in it."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if "WORLD_SIZE" in os.environ or not all(stream is not None and stream.isatty() for stream in streams):
        return
    show("a debugger, where the error was raised: p shows a value, up and down go along the calls, q ends", error=True)
    debugger().post_mortem(_as_far_as_users(error.__traceback__))


def _as_far_as_users(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames behind the user's last one; the whole of it if it has none."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    last = max((i for i, one in enumerate(frames) if _is_users(one.tb_frame.f_code.co_filename)), default=len(frames))
    for one in reversed(frames[: last + 1]):
        trace = TracebackType(trace, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return trace


def _loss(error: Exception) -> GroupError | None:
    """Return the error about a lost process of the group that an error stands for; without a group there is none."""
    group = sys.modules.get("utils.dist")
    return group.loss_of(error) if group is not None else None


def _missing_package(error: Exception) -> ConfigError | None:
    """Return the sentence about a package of requirements.txt that is not installed."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in REQUIRED:
        return None
    return ConfigError(
        f"{name} is not installed in {sys.executable}; activate the environment: source .venv/bin/activate "
        "(or: pip install -r requirements.txt)"
    )


def code_error(error: BaseException, about: str = "") -> CodeError | None:
    """Return the error in one sentence behind the file and line of the user's code; None if no such code is in it.

    `about` names what was at work, such as a sample.
    """
    frame = _users_frame(error)
    if place := _place_of_misfit(error):
        caller = f" ({_shown(frame)})" if frame else ""
        return CodeError(f"{place}: {reason_of(error)}; its def does not fit its call{caller}")
    if frame is None:
        return None
    line = f"\n    {frame.line}" if frame.line else ""
    reason = reason_of(error)
    told = type(error).__name__ + (f": {reason}" if reason else "") + (f" ({about})" if about else "")
    told += next((f"; {advice}" for sign, advice in ADVICE.items() if sign in reason), "")
    return CodeError(f"{_shown(frame)}: in {frame.name}: {told}{line}")


def _place_of_misfit(error: BaseException) -> str:
    """Return the place of the user's method that was called with other arguments than it takes, by code of others."""
    called = MISFIT.match(str(error)) if type(error) is TypeError else None
    frames = traceback.extract_tb(error.__traceback__)
    if called is None or not frames or _is_users(frames[-1].filename):
        return ""
    for module in reversed(list(sys.modules.values())):  # a file that was read again is the last
        kind = getattr(module, called[1], None) if _is_users(getattr(module, "__file__", None) or "") else None
        if isinstance(kind, type) and (place := _place_of_source(vars(kind).get(called[2]))):
            return place
    return ""


def exit_error(error: SystemExit) -> CodeError | None:
    """Return the error about an exit that the user's own code asked for; None for one of ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(LIBRARIES)]
    if not frames or not _is_users(frames[-1].filename):
        return None
    return code_error(error, about="this would end the program as if all were done; raise an error instead")


def refuses(error: Exception) -> bool:
    """Return whether an error of a constructor refuses an argument: ValueError, TypeError, or a library's own error."""
    if isinstance(error, (ValueError, TypeError)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return not _is_users(frames[-1].filename)


def place_of(error: BaseException) -> str:
    """Return the file and line of the user's code in an error's traceback; empty if there is none."""
    frame = _users_frame(error)
    return _shown(frame) if frame else ""


def place_of_call() -> str:
    """Return the file and line of the user's code that is running now; empty if there is none."""
    frames = [frame for frame in traceback.extract_stack() if _is_users(frame.filename)]
    return _shown(frames[-1]) if frames else ""


def place_of_attribute(owner: object, name: str) -> str:
    """Return the file and line where the user's code sets `self.<name>`; empty if that is not in the user's code."""
    import inspect  # not with every command

    sets = re.compile(rf"\bself\.{re.escape(name)}\s*(:[^=]+)?=[^=]")
    for kind in type(owner).__mro__:
        try:
            lines, first = inspect.getsourcelines(kind)
            file = inspect.getsourcefile(kind) or ""
        except (OSError, TypeError):  # made in a session without source, or by C
            continue
        for number, line in enumerate(lines, first):
            if sets.search(line):
                return shown_place(file, number) if _is_users(file) else ""
    return ""


def place_of_method(owner: object, name: str) -> str:
    """Return the file and line of a method of an object, or of a class, of the user; empty if it is not theirs."""
    return _place_of_source(getattr(owner if isinstance(owner, type) else type(owner), name, None))


def refuse_other(thing: object, base: type) -> None:
    """Raises CodeError for a thing of the user's that is not of the class which its kind asks for."""
    if not isinstance(thing, base):
        name = type(thing).__name__
        place = _place_of_source(type(thing)) or name
        raise CodeError(f"{place}: {name} is no {base.__name__}: begin it with class {name}({base.__name__}):")


def _place_of_source(found: Any) -> str:
    """Return the file and line of a class or a function of the user; empty if it is not theirs."""
    import inspect

    try:
        found = inspect.unwrap(found)
        file, line = inspect.getsourcefile(found) or "", inspect.getsourcelines(found)[1]
    except (OSError, TypeError, AttributeError):  # made in a session without source
        return ""
    return shown_place(file, line) if _is_users(file) else ""


def _users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of the user's code."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return traceback.FrameSummary(error.filename, error.lineno or 1, "the file", line=(error.text or "").strip())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return frames[-1] if frames else None


def _shown(frame: traceback.FrameSummary) -> str:
    return shown_place(frame.filename, frame.lineno or 1)


def shown_place(path: str, line: int) -> str:
    """Return file:line, the file below the current folder or the house as a short path."""
    for folder in (os.getcwd(), str(ROOT)):
        if path.startswith(folder + os.sep):
            path = os.path.relpath(path, folder)
    return f"{path}:{line}"


def _is_users(file: str) -> bool:
    """Return whether a file is one that users write: in an open room, or outside of the house and of all libraries."""
    if file.startswith(str(ROOT) + os.sep):
        inside = os.path.relpath(file, ROOT)
        room, name = os.path.split(inside)
        if room in OPEN_ROOMS and not name.startswith("_") and name not in CLOSED:
            return True
        return inside.split(os.sep)[0] not in OURS and not inside.startswith(".")
    if file.startswith("<"):
        return file.startswith("<ipython")
    return os.path.isabs(file) and not file.startswith((*LIBRARIES, sys.prefix)) and "site-packages" not in file
