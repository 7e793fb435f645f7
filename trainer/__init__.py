"""Running a config: the loop, and the tasks it runs."""


def __getattr__(name: str) -> object:
    if name == "Trainer":
        from trainer.trainer import Trainer

        return Trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
