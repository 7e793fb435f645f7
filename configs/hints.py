"""What a key that is not there may have meant."""

from collections.abc import Iterable, Sequence

from configs.components import COMPONENTS
from configs.keys import argument_types, schema_keys, type_of
from utils.config.convert import Hint
from utils.config.tree import Node
from utils.words import is_slip, nearest

__all__ = ["key_hint"]

# What other frameworks call it. They are not accepted, so that there is one name for a thing, but they are understood.
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
    """A function that ends the message on an unknown key: of the key as written, and the names that its section has.

    `options` are what a command takes besides keys.
    """

    def hint(key: str, names: Iterable[str]) -> str:
        section, _, leaf = key.rpartition(".")
        leaf = leaf.replace("-", "_")
        leaf = SYNONYMS.get(leaf, leaf)
        own = [f"{section}.{name}" if section else name for name in names]
        sections = [k.rpartition(".")[0] for k in schema_keys() if "." in k]
        known = [*reversed(argument_types(tree)), *sections, *reversed(schema_keys()), *options, *own]
        leaves = {k.rpartition(".")[2]: k for k in known}  # of two with that name the later one
        near = nearest(leaf, [name for name in leaves if leaves[name] in own]) or nearest(leaf, leaves)
        if leaf in leaves:
            near = leaf
        elif not is_slip(leaf, near) and (taking := _taken_by(leaf, tree)):
            return taking
        return f"; did you mean '{leaves[near]}'?" if near else "; python main.py help lists the keys"

    return hint


def _taken_by(argument: str, tree: Node) -> str:
    """The end of the message when components that were not chosen take an argument of that name."""
    places = {"schedule": "schedule", "optim": "optim", "data.dataset": "data", "model": "model", "task": "task"}
    places |= {key: kind for key, to in argument_types(tree).items() if (kind := type_of(to)[1])}
    for key, kind in places.items():
        registry = COMPONENTS[kind]
        taking = [name for name in registry.all_names() if argument in registry.arguments(name)]
        if taking:
            return f"; it is an argument of {' and '.join(taking[:3])}: add --{key}={taking[0]}"
    return ""
