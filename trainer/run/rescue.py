"""rescue.pth: the state of a run that crashed under --debug, so that its last steps are not lost."""

from pathlib import Path

from trainer.checkpointing.saver import Saver
from trainer.checkpointing.store import LAST, RESCUE, Store, read, read_newest
from trainer.state import RunState
from utils import dist
from utils.blame import DEBUG
from utils.errors import CheckpointError, UserError
from utils.sinks.console import Console
from utils.sinks.logger import Logger

__all__ = ["write_rescue"]


def write_rescue(state: RunState, saver: Saver, logger: Logger, console: Console) -> None:
    """Write and read back rescue.pth after a crash, if --debug was typed, or say why there is none."""
    if not DEBUG.get() or saver.folder is None:
        return
    saver.close()  # a save that is under way
    try:
        console.say(_rescued(state, saver.folder, logger))
    except (UserError, OSError, RuntimeError) as error:  # as a full disk, or a GPU that is gone
        console.say(f"no {RESCUE}: {error}")


def _rescued(state: RunState, folder: Path, logger: Logger) -> str:
    p, file = state.progress, folder / RESCUE
    saved = _step(folder)
    if dist.world_size() > 1:
        return (
            f"no {RESCUE}: the other processes, which have a part of the state, are elsewhere; {LAST} has step {saved}"
        )
    if saved == p.step:
        return f"no {RESCUE}: {folder / LAST} has the same step {p.step}"
    p.journal = logger.size()
    state.read_clock()
    Store(folder).save(state.state_dict(), [RESCUE], last=False)
    read(file)
    return (
        f"{file}: the weights and the optimizer after step {p.step}, before the step that failed; {LAST} has step "
        f"{saved}; random numbers and BatchNorm's statistics may have seen the failed step, so that only {LAST} "
        "resumes exactly"
    )


def _step(folder: Path) -> int | None:
    try:
        return int(read_newest(folder, (LAST,))[0]["progress"]["step"])
    except CheckpointError:
        return None
