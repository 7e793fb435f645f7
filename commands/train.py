"""train: train a config, or continue a run with --resume.

python main.py train [CONFIG] [--key=value …] | train --resume[=FOLDER]

CONFIG is a YAML file or a name in configs/; without it: default, or where
--train-data-root names a folder the config that fits its pictures.
Any key may be set: --optim.lr=0.01, or by its last name if that is
unique: --lr=0.01. A component is set by its name: --model=AlexNet.

  --run=NAME   the run's folder, checkpoints/NAME (default: config, model, time)
  --resume     continue the newest unfinished run; --resume=checkpoints/NAME
               continues that one
  --seed=N     same seed, same run
  --quiet      print only mistakes
  --json       print progress as JSON, one object a line, for scripts
  --debug      print a traceback with a mistake

Ctrl-C saves and stops; --resume continues at that very step.
--train.processes=2 trains in two processes, auto in one for each GPU; all
start again from the last save if one is killed. torchrun and srun work, too.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from commands._arguments import one_word, split
from configs import load, resolve
from configs.folders import config_of_folder
from configs.schema import Train
from utils.config.cli import Flag
from utils.errors import ConfigError
from utils.runs.children import end_with_parent
from utils.runs.folder import newest_unfinished, refuse_name, started
from utils.runs.group import end_with_launcher, join_srun, launched

__all__ = ["OPTIONS", "run"]

OPTIONS = ("config", "run", "resume", "quiet", "json", "debug")  # of the command itself, not of the config


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Train a new run, or continue one. Imports torch only after the config was checked.

    Raises ConfigError with one line for each mistake.
    """
    end_with_parent()
    join_srun()
    if launched():
        end_with_launcher()
    options, keys = split(flags, OPTIONS)
    config = one_word("train", words, options.get("config"))
    output = _output(options)
    if "resume" in options:
        if config or "run" in options:
            raise ConfigError(
                f"--resume: a run continues with its stored config and name; leave out {config or '--run'}"
            )
        where = _launched_resume(options["resume"], flags)
        from trainer.run import resume

        return resume.resume(where, keys, output)
    config, why = (config, "") if config else config_of_folder(keys)
    resolved = resolve(config, keys, OPTIONS)
    command = ["train", *words, *(flag.typed for flag in flags)]
    _launch(resolved.config.train, command, options.get("run"))
    if begun := started(options.get("run"), command):
        from trainer.run import resume

        return resume.resume(str(begun), [], output)
    from trainer.run import session
    from trainer.run.recorder import Origin

    places = {key: place for key, place in resolved.places().items() if place != "default"}
    return session.train(resolved.config, Origin(config, command, places, why), options.get("run"), output)


def _launch(train: Train, command: Sequence[str], run: str | None) -> None:
    """Train in several processes, if they are asked for, and end with their exit code."""
    if launched() or (train.processes == 1 and train.devices is None):
        return
    from trainer.parallel.launch import launch, number_of_processes

    if (processes := number_of_processes(train)) > 1:
        if run is not None:
            refuse_name(run)
        raise SystemExit(launch(processes, command, run))


def _launched_resume(where: str, flags: Sequence[Flag]) -> str:
    """Resume in several processes, if they are asked for, and end with their exit code. Returns the run's path."""
    where = "" if where == "true" else where
    asked = [flag for flag in flags if flag.key.rpartition(".")[2] in ("processes", "devices", "use_gpu")]
    if launched() or not asked:
        return where
    where = where or str(newest_unfinished())
    others = [flag.typed for flag in flags if flag.key != "resume"]
    _launch(load("default", asked).train, ["train", f"--resume={where}", *others], None)
    return where


def _output(options: Mapping[str, str]) -> Literal["text", "quiet", "json"]:
    """Return the form of the output."""
    quiet, json = (options.get(name) == "true" for name in ("quiet", "json"))
    if quiet and json:
        raise ConfigError("--quiet --json: one prints nothing, the other all; leave one out")
    return "quiet" if quiet else "json" if json else "text"
