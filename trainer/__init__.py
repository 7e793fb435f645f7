"""A training that resumes to the bit: the loop, the tasks it runs, and a room for each other concern.

In: a config. Out: a run in checkpoints/. Read trainer.py first: the loop; then task.py: the one thing to subclass.
"""

from importlib import import_module

PUBLIC = {"Trainer": "trainer.trainer", "fit": "trainer.run.fit"}


def __getattr__(name: str) -> object:
    """Return what `from trainer import …` takes, from the file that holds it."""
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
