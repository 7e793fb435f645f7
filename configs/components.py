"""Where each kind of component is found; names and arguments are read from source, nothing is imported."""

from pathlib import Path

from utils.registry import Library, Registry

__all__ = ["COMPONENTS"]

ROOT = Path(__file__).parent.parent
ZOO = Library("torchvision.models", "models", pattern=r"^@register_model\(\)[^:]*?\bdef (\w+)")

# The transforms of the book's day, and what they are called now.
RENAMED = {"Scale": "Resize", "RandomSizedCrop": "RandomResizedCrop", "ToTensor": "ToImage"}

COMPONENTS = {
    "model": Registry("models", ROOT / "models", variants={"torchvision": ZOO}),
    "data": Registry("data", ROOT / "data"),
    "task": Registry("trainer.tasks", ROOT / "trainer" / "tasks"),
    "optim": Registry(
        "torch.optim",
        None,
        [Library("torch.optim", "optim", without=frozenset({"Optimizer", "LBFGS", "SparseAdam", "Muon"}))],
        offered=frozenset({"params"}),
    ),
    "schedule": Registry(
        "trainer.schedule",
        ROOT / "trainer" / "schedule.py",
        [
            Library(
                "torch.optim.lr_scheduler",
                "optim/lr_scheduler.py",
                # these take functions or other schedulers, which no YAML can write
                without=frozenset({"ChainedScheduler", "LambdaLR", "LRScheduler", "MultiplicativeLR", "SequentialLR"}),
            )
        ],
        offered=frozenset({"optimizer", "max_lr", "total_steps", "T_max", "total_iters"}),
    ),
    "transform": Registry(
        "torchvision.transforms.v2",
        None,
        [Library("torchvision.transforms.v2", "transforms/v2", without=frozenset({"Transform"}))],
        offered=frozenset(),
        renamed=RENAMED,
    ),
}
