"""The command export with --format=pth: a run's last checkpoint, that lies in parts, as one file with its checksum."""

from pathlib import Path

from trainer.checkpointing.store import LAST, PREVIOUS, Store, read_newest
from utils.errors import ConfigError
from utils.files import output_file
from utils.runs.folder import CHECKPOINT_NAME, refuse_absent, run_path
from utils.runs.saves import folder_of
from utils.terminal import show

__all__ = ["export_single"]


def export_single(checkpoint: str, out: str | None) -> None:
    """Write the whole state of a run's last checkpoint, all that resuming needs, to one .pth file.

    Raises CheckpointError when none can be read, ConfigError for a name that the run itself writes, StorageError.
    """
    path = run_path(checkpoint)
    refuse_absent(path, checkpoint)
    state, source, rejected = read_newest(path, (LAST, PREVIOUS))
    for reason in rejected:
        show(f"passed over {reason}")
    run = folder_of(path)
    target = output_file("--out", Path(out) if out else run / "model.pth", [".pth"])
    of_a_run = (target.parent / "config.yaml").exists() or target.parent.resolve() == run.resolve()
    if CHECKPOINT_NAME.fullmatch(target.name) and of_a_run:
        raise ConfigError(f"--out={out}: a run's own checkpoint has that name; take another name or folder")
    step = state["progress"]["step"]
    target.parent.mkdir(parents=True, exist_ok=True)
    Store(target.parent).write(state, target.name)
    show(f"{target}: {target.stat().st_size / 1e6:.2g} MB, all of {source}, step {step}")
