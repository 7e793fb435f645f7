"""Guess the meaning of an unknown key."""

from collections.abc import Iterable, Sequence

from configs.components import COMPONENTS
from configs.keys import argument_types, schema_keys, type_of
from utils.config.convert import Hint
from utils.config.tree import Node
from utils.words import is_slip, nearest

__all__ = ["key_hint"]

# Names from other frameworks. They are not accepted, so that a thing has one name, but lead to a suggestion.
SYNONYMS = {
    "amp": "precision",
    "batch": "batch_size",
    "bs": "batch_size",
    "checkpoint": "load_model_path",
    "cuda": "use_gpu",
    "device": "use_gpu",
    "epoch": "max_epoch",
    "epochs": "max_epoch",
    "gpu": "use_gpu",
    "grad_clip": "clip",
    "img_size": "transform",
    "input_size": "transform",
    "learning_rate": "lr",
    "max_epochs": "max_epoch",
    "name": "run",
    "num_epochs": "max_epoch",
    "optimizer": "optim",
    "patience": "early_stop",
    "pretrained": "weights",
    "scheduler": "schedule",
    "steps": "max_steps",
    "transforms": "transform",
    "wd": "weight_decay",
    "workers": "num_workers",
}


def key_hint(tree: Node, options: Sequence[str] = ()) -> Hint:
    """Return a function that makes the end of the message about an unknown key, from the key and its section's names.

    `options` are the command's own flags, which are no keys.
    """

    def hint(key: str, names: Iterable[str]) -> str:
        section, _, leaf = key.rpartition(".")
        leaf = leaf.replace("-", "_")
        leaf = SYNONYMS.get(leaf, leaf)
        own = [f"{section}.{name}" if section else name for name in names]
        sections = [k.rpartition(".")[0] for k in schema_keys() if "." in k]
        known = [*reversed(argument_types(tree)), *sections, *reversed(schema_keys()), *options, *own]
        leaves = {k.rpartition(".")[2]: k for k in known}  # of two keys with that last name, the later one
        near = nearest(leaf, [name for name in leaves if leaves[name] in own]) or nearest(leaf, leaves)
        if leaf in leaves:
            near = leaf
        elif not is_slip(leaf, near) and (taking := _components_taking(leaf, tree)):
            return taking
        return f"; did you mean '{leaves[near]}'?" if near else "; python main.py help lists the keys"

    return hint


def _components_taking(argument: str, tree: Node) -> str:
    """Return the end of the message, if components that were not chosen take an argument of that name."""
    places = {"schedule": "schedule", "optim": "optim", "data.dataset": "data", "model": "model", "task": "task"}
    places |= {key: kind for key, to in argument_types(tree).items() if (kind := type_of(to)[1])}
    for key, kind in places.items():
        registry = COMPONENTS[kind]
        taking = [name for name in registry.all_names() if argument in registry.arguments(name)]
        if taking:
            return f"; it is an argument of {' and '.join(taking[:3])}: add --{key}={taking[0]}"
    return ""
