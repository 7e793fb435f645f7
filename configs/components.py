"""The source of each kind of component; names and arguments are read from it, without importing it."""

from pathlib import Path

from utils.config.library import Library
from utils.config.ranges import TORCH, TORCHVISION
from utils.config.registry import Registry, connect

__all__ = ["COMPONENTS"]

ROOT = Path(__file__).parent.parent
ZOO = Library("torchvision.models", "models", pattern=r"^@register_model\(\)[^:]*?\bdef (\w+)")

# Transforms of the book's time, and their present names.
RENAMED = {"Scale": "Resize", "RandomSizedCrop": "RandomResizedCrop"}

OPTIMIZERS = Library(
    "torch.optim",
    "optim",
    pattern=r"^class ([A-Z]\w+)\((?:Optimizer|Adam)\)",
    without=frozenset({"LBFGS", "SparseAdam", "Muon"}),
)
SCHEDULERS = Library(
    "torch.optim.lr_scheduler",
    "optim/lr_scheduler.py",
    # these take functions or other schedulers, which YAML cannot hold
    without=frozenset({"ChainedScheduler", "LambdaLR", "LRScheduler", "MultiplicativeLR", "SequentialLR"}),
)
TRANSFORMS = Library(
    "torchvision.transforms.v2",
    "transforms/v2",
    without=frozenset({"Transform", "Lambda", "LinearTransformation"}),  # these take a function, a matrix
)

# Transforms that move pixels, so that they take pictures which are normalised already; the sizes are the network's.
MOVING = (
    "FiveCrop|TenCrop|CenterCrop|Random(?:HorizontalFlip|VerticalFlip|Rotation|Affine|Perspective|Crop|ResizedCrop)"
)
VIEWS = Library("torchvision.transforms.v2", "transforms/v2", pattern=rf"^class ({MOVING})\(")

# output and positive have a single place, the config's section test; the others depend on the command.
FROM_COMMAND = frozenset({"output", "positive", "trained", "losses"})

# arguments that the engine hands to datasets, besides the facts of the training set
FROM_ENGINE = frozenset({"split", "transform", "whole", "ignore_index", "target_kind", "statistics", "folds"})

COMPONENTS = connect(
    {
        "model": Registry("models", ROOT / "models", here=True, variants={"torchvision": ZOO}),
        "data": Registry("data", ROOT / "data", here=True, from_trainer=FROM_ENGINE),
        "task": Registry("trainer.tasks", ROOT / "trainer" / "tasks", from_trainer=FROM_COMMAND),
        "sampler": Registry(
            "data.loading.sampling",
            ROOT / "data" / "loading" / "sampling",
            available=frozenset({"dataset", "batch"}),
            from_trainer=frozenset({"dataset", "batch"}),
        ),
        "watcher": Registry("trainer.watchers", ROOT / "trainer" / "watchers", available=frozenset()),
        "optim": Registry("torch.optim", None, [OPTIMIZERS], available=frozenset(), ranges=TORCH),
        "schedule": Registry(
            "trainer.optim.schedule",
            ROOT / "trainer" / "optim" / "schedule.py",
            [SCHEDULERS],
            available=frozenset({"max_lr", "total_steps", "T_max", "total_iters"}),
            from_trainer=frozenset({"last_epoch"}),
            ranges=TORCH,
        ),
        "view": Registry(
            "trainer.inference.views",
            ROOT / "trainer" / "inference" / "views.py",
            [VIEWS],
            available=frozenset(),
            ranges=TORCHVISION,
        ),
        "transform": Registry(
            "torchvision.transforms.v2",
            None,
            [TRANSFORMS],
            available=frozenset(),
            renamed=RENAMED,
            ranges=TORCHVISION,
        ),
    }
)
