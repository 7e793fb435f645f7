"""check: report all mistakes in a config and its flags, and start nothing.

python main.py check [CONFIG] [--key=value …] [--print] [--data]

CONFIG and flags are those of train: replace train by check.

  --print      every key, its value and the place of the value; then the first,
               highest and last learning rate
  --data       read the data, too, and print what they are taken for; a folder
               that is missing, or data that training would refuse: exit 3
"""

from collections.abc import Sequence

from commands._arguments import one_word, split
from configs import resolve
from configs.folders import config_of_folder
from configs.rates import rates_in_words
from utils.config.cli import Flag
from utils.config.convert import flatten, to_plain
from utils.config.yaml_text import dump_line
from utils.terminal import show

__all__ = ["run"]

# with train's options: a user checks that command first
OPTIONS = ("config", "run", "quiet", "json", "print", "data", "debug")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print that the config is right; with --print also all its values, with --data what the data are taken for.

    Raises ConfigError with a line for each mistake, DataError for data that training would refuse.
    """
    options, keys = split(flags, [o for o in OPTIONS if o != "data" or _asks_data(flags)])
    name, every = one_word("check", words, options.get("config")), options.get("print") == "true"
    name, why = (name, "") if name else config_of_folder(keys)
    if why:
        show(why)
    resolved = resolve(name, keys, OPTIONS)
    if "run" in options:
        from utils.runs.folder import refuse_name  # which loads the locks of files

        refuse_name(options["run"])
    places = resolved.places() if every else {}
    for key, value in flatten(to_plain(resolved.config)).items() if every else ():
        show(f"{key}: {dump_line(value)}  # {places[key]}")
    for line in rates_in_words(resolved.config) if every else ():
        show(f"# {line}")
    if options.get("data") == "true":
        from trainer.checks.data_check import check_data

        check_data(resolved.config, show)
    show(f"{name}: no mistakes found")


def _asks_data(flags: Sequence[Flag]) -> bool:
    """Return whether --data is the command's option; --data=DogCat is a mistake in a key of the config."""
    return any(flag.key == "data" and flag.text in ("true", "false") for flag in flags)
