"""A run that goes on: from its newest good checkpoint, as the same run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs import COMPONENTS, Config, differences, load_stored, more_metrics
from trainer.build import NOTHING, Given, build
from trainer.checkpointing.store import BEST, Store, read, read_newest
from trainer.inference.trained import LoadedRun
from trainer.last_epochs import asks_for_mean
from trainer.messages import explain_torch_errors
from trainer.progress import Monitor, Progress
from trainer.run.inherited import CHANGEABLE, PLACES
from trainer.run.result import Result
from trainer.run.session import run_fitting
from utils import dist
from utils.config.cli import Flag, as_typed
from utils.config.yaml_text import dump_line
from utils.errors import CheckpointError, ConfigError, DataError
from utils.runs.folder import RunFolder, newest_unfinished, refuse_unless_run, run_path
from utils.runs.saves import folder_of, newest_save
from utils.sinks.console import Console, Output

__all__ = ["go_on", "resume"]


def resume(where: str, flags: Sequence[Flag], output: Output = "text") -> None:
    """Continue a run, as the command does. Raises SystemExit, after saving, when a signal stopped it."""
    if code := go_on(where, flags, output).stopped:
        raise SystemExit(code)


def go_on(where: str, flags: Sequence[Flag], output: Output = "text", given: Given = NOTHING) -> Result:
    """Continue a run from its newest good checkpoint; `where` is its folder, a .pth in it, or "" for the newest.

    A finished run is left as it is. Raises CheckpointError for a run that cannot go on, ConfigError for a flag that
    would make it another run.
    """
    console = Console(dist.of_main(output) or "quiet")
    path = run_path(where) if where else newest_unfinished()
    folder = RunFolder(folder_of(path))
    refuse_unless_run(path, f"--resume={where}")
    if path.is_file() and folder.goes_on():
        console.say(f"{path} was the beginning of this launch, which has saved since then")
        path = folder.path
    dist.on_main(folder.own)
    try:
        return _go_on(path, folder, flags, console, given)
    finally:
        folder.release()


def _go_on(path: Path, folder: RunFolder, flags: Sequence[Flag], console: Console, given: Given) -> Result:
    dist.on_main(Store(folder.path).remove_partial)
    state, source, rejected = read_newest(path)
    for reason in rejected:
        console.say(f"passed over {reason}")
    given.refuse_others(state, source)
    cfg = _changed(state["config"], source, flags, console)
    if each := state.get("each_process"):
        console.say(f"data.batch_size: {each} in each process -> {cfg.data.batch_size} in all processes together")
    metrics = COMPONENTS["task"].get(cfg.task.name).metrics if given.task is None else given.task.metrics
    progress, monitor = (
        Progress.from_state(state["progress"]),
        Monitor(cfg.train, {**metrics, **more_metrics(cfg.task)}),
    )
    monitor.earlier_best = _earlier_best(folder.path / BEST, progress)
    if _is_finished(progress, cfg, folder):
        on = progress.continued_by(cfg.train)
        console.say(f"{folder.path} is finished at epoch {progress.epoch}, step {progress.step}; {on}")
        last = str(newest_save(folder.path) or source)
        return Result(folder.path, monitor.best(progress)[0], lambda: LoadedRun(last, given).load_task([])[1])
    with explain_torch_errors(cfg):
        parts = build(cfg, console.say, state, given)
        parts.state.monitor.earlier_best = monitor.earlier_best
        moved = [key for key in PLACES if key in differences(load_stored(state["config"], source), cfg)]
        same = _compare_data(state, parts.state.about, moved, console)
        _compare_fingerprints(state.get("fingerprint", {}), parts.state.about["fingerprint"], same, console)
        for schedule in parts.state.update.schedules():
            if schedule.end < schedule.length:
                console.say(
                    f"the learning rate's schedule was made for {schedule.end} {schedule.unit}s: its last rate stays"
                )
        console.say(f"resuming {source} at step {progress.step} (epoch {progress.epoch + 1}, batch {progress.batch})")
        return run_fitting(parts, dist.of_main(folder), folder.path, console, given)


def _is_finished(progress: Progress, cfg: Config, folder: RunFolder) -> bool:
    """Return whether nothing is left to train, to validate or to average; its status says so from then on."""
    told = folder.status().get("state") == "finished"
    done = progress.validated == progress.step and not asks_for_mean(cfg.train)
    finished = progress.finished(cfg.train) and (told or done)
    if finished and not told:  # it was killed while it drew its pictures, for example
        dist.on_main(folder.finish)
    return finished


def _changed(stored: dict[str, Any], source: Path, flags: Sequence[Flag], console: Console) -> Config:
    """Return the stored config overridden by the flags, and print each change.

    Raises ConfigError for a change that would make it another run.
    """
    stored = {**stored, "train": {**stored.get("train", {}), "processes": dist.local_size()}}
    cfg = load_stored(stored, source, flags)
    changed = differences(load_stored(stored, source), cfg)
    if wrong := [key for key in changed if not key.startswith(CHANGEABLE) and key not in PLACES]:
        allowed = ", ".join([*CHANGEABLE, *PLACES]).replace("log.", "log.*")
        raise ConfigError(
            "\n".join(
                f"{as_typed(k, flags)}: a resumed run keeps its {k} {dump_line(changed[k][0])}; "
                f"only {allowed} may change"
                for k in wrong
            )
        )
    for key, (old, new) in changed.items():
        console.say(f"{key}: {dump_line(old)} -> {dump_line(new)}")
    return cfg


def _earlier_best(best: Path, progress: Progress) -> Progress | None:
    """Return where an earlier run stood that ended inside an epoch and wrote a better best.pth, which is kept."""
    if not best.exists():
        return None
    try:
        found = Progress.from_state(read(best)["progress"])
    except CheckpointError:  # damaged: the next one takes its place
        return None
    better = found.best is not None and (progress.best is None or found.best < progress.best)
    return found if better else None


def _compare_data(stored: dict[str, Any], now: dict[str, Any], moved: Sequence[str], console: Console) -> bool:
    """Return whether the samples are those that the run began with, as far as their names and classes tell.

    Raises DataError when other ones lie where the flags say that the data are now.
    """
    old, new = stored.get("data", {}), now["data"]
    others = [split for split in new if old.get(split, new[split]) != new[split]]
    how = _difference(stored.get("names", {}), now["names"], others) or "names, classes or their number differ"
    if others and moved:
        raise DataError(
            f"{', '.join(moved)}: other data lie there than the run was trained on, in {' and '.join(others)}: {how}; "
            "give the folder that holds the same files"
        )
    if replaced := _replaced(stored.get("names", {}), now["names"], others):
        console.say(
            f"note: samples of {' and '.join(replaced)} have the names of before and another content: from here on it "
            "is another run, on other data"
        )
    if others:
        console.say(
            f"note: the samples of {' and '.join(others)} are not those of before: {how}; from here on it is another "
            "run, on other data"
        )
    return not others and not replaced


def _replaced(old: dict[str, Any], new: dict[str, Any], others: Sequence[str]) -> list[str]:
    """Return the splits of the same names as before and another content: sizes of files, pixels, or cells."""
    both = [split for split in new if split in old and split not in others and len(old[split]) > 2]
    return [split for split in both if old[split][2] and new[split][2] and old[split][2] != new[split][2]]


def _difference(old: dict[str, Any], new: dict[str, Any], others: Sequence[str]) -> str:
    """Return in words how the samples of splits differ from those of before; empty where that was not noted."""
    if not old or any(split not in old for split in others):
        return ""
    together = [sum(names for _, names, *_ in splits.values()) % 2**63 for splits in (old, new)]
    if together[0] == together[1] and any(old[split] != new[split] for split in others):
        return "the same files, which have moved from one split to another"
    told = []
    for split in others:
        (before, names, *sizes), (count, others_now, sizes_now) = old[split], new[split]
        if count != before:
            told.append(f"{split} has {count:,} samples, {before:,} before")
        elif names != others_now and sizes_now and sizes == [sizes_now]:
            told.append(f"in {split} the same files as before, of which some are renamed")
        elif names != others_now and sizes_now and any(sizes):
            told.append(f"in {split} as many files as before, of which some are others")
        elif names != others_now:
            told.append(f"in {split} as many samples as before, of which some are renamed or others")
        else:
            told.append(f"in {split} the same names, with other classes or in another order")
    return ", ".join(told)


def _compare_fingerprints(old: dict[str, Any], new: dict[str, Any], same_data: bool, console: Console) -> None:
    different = [f"{key} {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]
    if not different:
        return
    promise = "exact in steps and data, not in bits" if same_data else "not exact: steps and samples are others"
    console.say(f"not the same set-up ({', '.join(different)}): from here on {promise}")
