"""kfold: train a config once for each fold of the data, each time validated on the part that was held out.

python main.py kfold [CONFIG] --folds=5 [--key=value …]
python main.py kfold --resume=checkpoints/NAME

Each fold is a run of its own, checkpoints/NAME/fold0 and so on, in a process
of its own. oof.csv then holds a prediction for each training row, by the run
that did not see it; test checkpoints/NAME averages the folds.

  --folds=5       the number of folds; classes are spread evenly over them
  --seeds=1       train each fold with so many seeds
  --group=COLUMN  rows with the same value there stay together (tables, CSVs)
  --jobs=1        folds that are trained at the same time
  --run=NAME      the folder, checkpoints/NAME
  --resume=checkpoints/NAME  goes on with the unfinished ones
  --on=ray        trains on the Ray cluster that is there (RAY_ADDRESS)
  --on=slurm      writes an array job for a cluster instead of training

Ctrl-C saves and stops. A fold that fails does not end the others; the exit
code is then that of the first that failed.
"""

from collections.abc import Mapping, Sequence

from commands._studies import Given, Listed, add_child, given, go_on, new_study, pool_of, stored
from utils.config.cli import Flag, as_count
from utils.errors import ConfigError
from utils.runs.study import Child, Study
from utils.terminal import show

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Train the folds, write oof.csv and print the leaderboard.

    Raises ConfigError for mistakes in the config or the flags, SystemExit with the code of a fold that failed.
    """
    asked = given("kfold", words, flags, ("folds", "seeds", "group"))
    pool = pool_of(asked.options)  # before anything is made
    study = stored(asked) or _new(asked)
    if asked.options.get("on") == "slurm":
        from commands._clusters import hand_over

        return hand_over(study)
    go_on(study, pool, Listed(study))
    from trainer.run.oof import write_oof

    for line in write_oof(study):
        show(line)
    show(f"next: python main.py test {study.path}")
    return None


def _new(asked: Given) -> Study:
    """Return a new study with a child for each fold and seed."""
    folds = as_count("folds", asked.options.get("folds", "5"))
    seeds = as_count("seeds", asked.options.get("seeds", "1"))
    if folds < 2 or seeds < 1:
        raise ConfigError(f"--folds={folds} --seeds={seeds}: two folds and one seed are the least")
    for flag in asked.flags:
        if flag.key in ("fold", "data.fold"):
            raise ConfigError(f"{flag.typed}: kfold sets it for each fold; --folds=5 says how many there are")
    first = asked.load([*asked.flags, *_extra(asked, {"data.fold": f"[0,{folds}]"})])
    study = new_study(asked, first.task.name, {"folds": folds, "seeds": seeds})
    for seed in range(first.train.seed, first.train.seed + seeds):
        for fold in range(folds):
            keys = {"data.fold": f"[{fold},{folds}]"} | ({"train.seed": str(seed)} if seeds > 1 else {})
            others = [flag for flag in asked.flags if seeds == 1 or flag.key not in ("seed", "train.seed")]
            name = f"fold{fold}" + (f"-seed{seed}" if seeds > 1 else "")
            add_child(study, Child(name, keys), asked.load([*others, *_extra(asked, keys)]))
    return study


def _extra(asked: Given, keys: Mapping[str, str]) -> list[Flag]:
    """Return the flags of a child beside those that were typed."""
    group = asked.options.get("group")
    keys = {**keys, **({"data.group": group} if group else {})}
    return [Flag(key, value, f"--{key}={value}") for key, value in keys.items()]
