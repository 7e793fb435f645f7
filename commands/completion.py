"""completion: a script with which bash or zsh complete commands, configs, keys, component names and run folders.

python main.py completion bash|zsh

  source <(python main.py completion bash)      in ~/.bashrc, or
  source <(python main.py completion zsh)       in ~/.zshrc, after compinit

Then the Tab key completes words after `python main.py`.
"""

import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from commands import found
from commands.help import LISTS, texts
from configs import COMPONENTS, known_keys
from configs.keys import schema_keys, type_of
from configs.layers import config_files
from utils.config.cli import Flag, as_flag
from utils.errors import ConfigError
from utils.runs.folder import ROOT
from utils.terminal import show
from utils.words import suggest

__all__ = ["candidates", "run"]

SCRIPTS = {
    # Bash splits words at = and :, and takes only the rest. If nothing is found, readline completes file names.
    "bash": r"""
_main_py() {
    local script="${COMP_WORDS[1]}" line="${COMP_LINE:0:COMP_POINT}" word before reply
    COMPREPLY=()
    [[ $COMP_CWORD -gt 1 && $script == *main.py ]] || return
    word="${line##* }"
    before="${word%"${word##*[=:]}"}"
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$before"}")
    done < <("${COMP_WORDS[0]}" "${script/#\~/$HOME}" completion words "${line#*"$script"}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:/] ]] && compopt -o nospace
}
complete -o default -F _main_py python python3
""",
    "zsh": r"""
_main_py() {
    local script="${words[2]}" line="${LBUFFER#*main.py}"
    if (( CURRENT < 3 )) || [[ $script != *main.py ]]; then _default; return; fi
    local -a known
    known=(${(f)"$("${words[1]}" "${script/#\~/$HOME}" completion words "$line" 2>/dev/null)"})
    if (( ! $#known )); then _files; return; fi
    compadd -Q -S '' -- ${(M)known:#*[=:/]}
    compadd -Q -- ${known:#*[=:/]}
}
compdef _main_py python python3
""",
}
# commands that take run folders, and those that take a config
RUNS = (
    "val",
    "test",
    "generate",
    "predict",
    "export",
    "features",
    "bundle",
    "reproduce",
    "runs",
    "diff",
    "plot",
    "dashboard",
)
CONFIGS = ("train", "kfold", "sweep", "check", "data", "selftest", "summary", "lr_find", "doctor")


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Print a shell's script; or, for `words` and the line typed so far, the completions of its last word.

    Raises ConfigError for another shell.
    """
    if words[:1] == ("words",) and len(words) == 2:
        for word in candidates(words[1]):
            show(word)
    elif len(words) == 1 and words[0] in SCRIPTS and not flags:
        show(SCRIPTS[words[0]].strip())
    else:
        typed = words[0] if words else ""
        raise ConfigError(f"completion takes the name of a shell{suggest(typed, SCRIPTS)}")


def candidates(line: str) -> list[str]:
    """Return the completions of a line's last word; the line is the text after `main.py`, with a space at its start."""
    words = line.split()
    typed = "" if line[-1:].isspace() else words.pop()
    if not words:
        return _starting(found(), typed)
    command, *given = words
    if typed.startswith("--") and "=" in typed:
        return _starting(_values(given, typed), typed)
    if typed.startswith("-"):
        return _starting(_flags(command, given, typed), typed)
    return _starting(_words(command), typed)


def _starting(known: Iterable[str], typed: str) -> list[str]:
    return sorted({word for word in known if word.startswith(typed)})


def _words(command: str) -> list[str]:
    if command in CONFIGS:
        return [*config_files()]
    if command in RUNS:
        return _runs()
    components = [name for registry in COMPONENTS.values() for name in registry.all_names()]
    topics = [*found(), *LISTS, "configs", *schema_keys(), *components]
    return {"help": topics, "completion": list(SCRIPTS)}.get(command, [])


def _runs() -> list[str]:
    return [str(path) for path in ROOT.glob("*") if path.is_dir() and not path.name.startswith(".")]


def _flags(command: str, given: Sequence[str], typed: str) -> list[str]:
    """Return the options in the command's help, then keys: by last name, in full too once some letters are typed."""
    _, _, more = texts(command) if command in found() else ("", "", "")
    options = re.findall(r"^  (--[\w.-]+=?)", more, re.MULTILINE)
    if command not in (*CONFIGS, "val", "test", "generate", "predict", "export", "features"):
        return options
    keys = _keys(given)
    last = [key.rpartition(".")[2] for key in keys]
    short = [name for name in last if last.count(name) == 1 or name in _last_names()]
    if "_" not in typed:
        short = [name.replace("_", "-") for name in short]
    return options + [f"--{key}=" for key in [*short, *(keys if len(typed) > len("--") else ())]]


def _last_names() -> set[str]:
    """Return the last names that mean a key of the schema, whatever components there are."""
    return {key.rpartition(".")[2] for key in schema_keys()}


def _keys(given: Sequence[str]) -> dict[str, Any]:
    """Return the keys of the config that a line names, or of its run, with the flags so far."""
    flags = [flag for word in given if isinstance(flag := as_flag(word), Flag)]
    named = [flag.text for flag in flags if flag.key == "config"] + [word for word in given if not word.startswith("-")]
    for name in [*(f"{name}/config.yaml" for name in named), *named, "default"]:
        try:
            return known_keys(name, flags)
        except ConfigError:
            continue  # no such file, or one that cannot be read
    return {}


def _values(given: Sequence[str], typed: str) -> list[str]:
    """Return the completions after the = of a flag."""
    head = typed.partition("=")[0]
    key = head[2:].replace("-", "_")
    if key in ("config", "resume"):
        own = _words("train") if key == "config" else _runs()
        return [f"{head}={name}" for name in own]
    types = [to for name, to in _keys(given).items() if key in (name, name.rpartition(".")[2])]
    return [f"{head}={choice}" for to in types for choice in _choices(to)]


def _choices(to: Any) -> list[str]:
    """Return the values of a type that has only a few, or the components that it may name."""
    inner, catalogue = type_of(to)
    if catalogue:
        registry = COMPONENTS[catalogue]
        variants = [f"{family}:{name}" for family, library in registry.variants.items() for name in library.names()]
        return [*(name for name in registry.all_names() if name not in registry.variants), *variants]
    options = [inner] if typing.get_origin(inner) in (None, Literal) else typing.get_args(inner)
    values = [v for one in options if typing.get_origin(one) is Literal for v in typing.get_args(one)]
    values += [v for one in options if one is bool for v in (True, False)]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
