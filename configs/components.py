"""The source of each kind of component; names and arguments are read from it, without importing it."""

from pathlib import Path
from typing import Any, Literal

from configs.optimization import FUNCTIONS, Optimizers, Schedules, Tasks
from utils.config.library import Library
from utils.config.ranges import LOSSES, TORCH, TORCHVISION
from utils.config.registry import Registry, connect

__all__ = ["COMPONENTS", "LAYERS"]

ROOT = Path(__file__).parent.parent
ZOO = Library("torchvision.models", "models", pattern=r"^@register_model\(\)[^:]*?\bdef (\w+)")
TIMM = Library("timm", "models", pattern=r"^@register_model\ndef (\w+)\(", extra="timm", tags=True)

# Transforms of the book's time, and their present names.
RENAMED = {"Scale": "Resize", "RandomSizedCrop": "RandomResizedCrop"}

OPTIMIZERS = Library("torch.optim", "optim", pattern=r"^class ([A-Z]\w+)\((?:Optimizer|Adam)\)")
SCHEDULERS = Library(
    "torch.optim.lr_scheduler",
    "optim/lr_scheduler.py",
    # these take functions, which YAML cannot hold: a file of one's own does
    without=FUNCTIONS | {"LRScheduler"},
)
# LinearCrossEntropyLoss is a layer and a loss in one, and NLLLoss2d an old name.
TORCH_LOSSES = Library(
    "torch.nn",
    "nn/modules/loss.py",
    pattern=r"^class ([A-Z]\w+Loss)\(",
    without=frozenset({"LinearCrossEntropyLoss", "NLLLoss2d"}),
)
# Weights of classes are tensors in torch and lists in YAML; "balanced" computes them from the training split.
LOSS_TYPES: dict[str, Any] = dict.fromkeys(("weight", "pos_weight"), Literal["balanced"] | list[float] | None)
LOSS_TYPES |= {"reduction": Literal["mean", "sum", "batchmean"], "size_average": None, "reduce": None}
# Regression's words of before.
LOSS_NAMES: dict[str, tuple[str, dict[str, str]]] = {"mean": ("MSELoss", {}), "sum": ("MSELoss", {"reduction": "sum"})}

# Metrics with their k in the name, as competitions write them.
METRIC_NAMES: dict[str, tuple[str, dict[str, Any]]] = {f"map_at_{k}": ("map_at_k", {"k": k}) for k in (1, 3, 5, 10)}
METRIC_NAMES |= {f"top{k}": ("top_k", {"k": k}) for k in (2, 3, 5, 10)}

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

LAYERS = Library("torch.nn", "nn/modules")  # the types of layers
INIT = Library("torch.nn.init", "nn/init.py", pattern=r"^def ([a-z]\w*_)\(")

# output and positive have a single place, the config's section test; the others depend on the command.
FROM_COMMAND = frozenset({"output", "positive", "trained", "losses"})

# arguments that the engine hands to datasets, besides the facts of the training set
FROM_ENGINE = frozenset(
    {"split", "transform", "whole", "ignore_index", "target_kind", "statistics", "folds", "label_texts"}
)

COMPONENTS = connect(
    {
        "model": Registry("models", ROOT / "models", here=True, variants={"torchvision": ZOO, "timm": TIMM}),
        "data": Registry("data", ROOT / "data", here=True, from_trainer=FROM_ENGINE),
        "task": Tasks("trainer.tasks", ROOT / "trainer" / "tasks", from_trainer=FROM_COMMAND),
        "loss": Registry(
            "trainer.losses",
            ROOT / "trainer" / "losses",
            [TORCH_LOSSES],
            ranges=LOSSES,
            types=LOSS_TYPES,
            aliases=LOSS_NAMES,
        ),
        "sampler": Registry(
            "data.loading.sampling",
            ROOT / "data" / "loading" / "sampling",
            available=frozenset({"dataset", "batch"}),
            from_trainer=frozenset({"dataset", "batch"}),
        ),
        "metric": Registry(
            "trainer.metrics",
            ROOT / "trainer" / "metrics",
            available=frozenset(),
            aliases=METRIC_NAMES,
        ),
        "watcher": Registry("trainer.watchers", ROOT / "trainer" / "watchers", available=frozenset()),
        "optim": Optimizers(
            "trainer.optimizers",
            ROOT / "trainer" / "optimizers",
            [OPTIMIZERS],
            available=frozenset(),
            from_trainer=frozenset({"params"}),
            here=True,
            ranges=TORCH,
        ),
        "schedule": Schedules(
            "trainer.schedules",
            ROOT / "trainer" / "schedules",
            [SCHEDULERS],
            here=True,
            available=frozenset({"max_lr", "total_steps", "T_max", "total_iters"}),
            from_trainer=frozenset({"optimizer", "last_epoch"}),
            ranges=TORCH,
        ),
        "init": Registry(
            "torch.nn.init", None, [INIT], available=frozenset(), from_trainer=frozenset({"tensor", "generator"})
        ),
        "view": Registry(
            "trainer.inference.views",
            ROOT / "trainer" / "inference" / "views.py",
            [VIEWS],
            available=frozenset(),
            ranges=TORCHVISION,
        ),
        "transform": Registry(
            "data.transforms",
            ROOT / "data" / "transforms",
            [TRANSFORMS],
            available=frozenset(),
            here=True,
            renamed=RENAMED,
            ranges=TORCHVISION,
        ),
    }
)
