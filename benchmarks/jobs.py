"""The same whole job in a plain script and in each peer, in the way that its documentation shows.

python -m benchmarks.jobs PEER PHOTOS EPOCHS      in an empty folder, where the checkpoint is left
"""

import os
import random
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from models import ResNet34

__all__ = ["ACCURACIES", "BATCH", "FIRST_STEP", "JOBS", "LR", "MOMENTUM"]

BATCH, LR, MOMENTUM = 32, 0.01, 0.9
SIZE, RESIZED, SCALE = 64, 72, (0.35, 1.0)  # as in configs/dogcat_small.yaml
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FIRST_STEP, ACCURACIES = "first_step.txt", "accuracies.txt"  # what a job leaves besides its checkpoint

# What the jobs share


class Photos(Dataset):
    """Photos named cat.N.jpg and dog.N.jpg, with labels 0 and 1."""

    def __init__(self, paths: Sequence[Path], transform: Callable | None = None) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.paths[index]
        image = Image.open(path).convert("RGB")
        return self.transform(image) if self.transform else image, int(path.name.startswith("dog"))


def split(folder: Path) -> tuple[list[Path], list[Path]]:
    """70 % of the photos for training, 30 % for validation."""
    paths = sorted(folder.glob("*.jpg"))
    random.Random(0).shuffle(paths)
    cut = len(paths) - round(0.3 * len(paths))
    return paths[:cut], paths[cut:]


def datasets(folder: Path) -> tuple[Photos, Photos]:
    """Training and validation set with torchvision's v1 transforms."""
    from torchvision import transforms as T

    last = [T.ToTensor(), T.Normalize(MEAN, STD)]
    crop, flip = T.RandomResizedCrop(SIZE, SCALE), T.RandomHorizontalFlip()
    train, val = split(folder)
    middle = [T.Resize(RESIZED), T.CenterCrop(SIZE)]
    return Photos(train, T.Compose([crop, flip, *last])), Photos(val, T.Compose([*middle, *last]))


def loaders(folder: Path) -> tuple[DataLoader, DataLoader]:
    """Loaders of both, without worker processes."""
    train, val = datasets(folder)
    return DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(val, batch_size=BATCH)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """The optimizer as one writes it."""
    return torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)


@cache
def first_step() -> None:
    """Called after each optimizer step: the first call leaves a file, written now, the others do nothing."""
    Path(FIRST_STEP).touch()


def tell(accuracy: float) -> None:
    """Leave an epoch's validation accuracy, a fraction."""
    with open(ACCURACIES, "a") as file:
        print(float(accuracy), file=file)


# The jobs: each takes a folder of photos and the number of epochs, and leaves its checkpoint in the current folder.


def by_hand(photos: Path, epochs: int) -> None:
    """A plain script."""
    train, val = loaders(photos)
    net = ResNet34(2)
    optimizer = sgd(net)
    for _ in range(epochs):
        net.train()
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            first_step()
        net.eval()
        with torch.no_grad():
            right = sum((net(x).argmax(1) == y).sum().item() for x, y in val)
        tell(right / len(val.dataset))  # type: ignore[arg-type]
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, "job.pth")


def with_lightning(photos: Path, epochs: int) -> None:
    """Lightning: a LightningModule and `Trainer.fit`; it saves after each epoch by default."""
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = ResNet34(2)

        def training_step(self, batch: Any, number: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

        def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
            first_step()

        def on_validation_epoch_end(self) -> None:
            tell(self.trainer.callback_metrics["accuracy"].item())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self)

    off = {"num_sanity_val_steps": 0, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", logger=CSVLogger("."), **off)
    trainer.fit(Module(), *loaders(photos))


def with_timm(photos: Path, epochs: int) -> None:
    """In the manner of timm's training script: its network, loaders, optimizer, meters and checkpoints in a loop."""
    from timm import create_model
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2
    from timm.utils import AverageMeter, CheckpointSaver, accuracy

    load = partial(create_loader, batch_size=BATCH, input_size=(3, SIZE, SIZE), num_workers=0, mean=MEAN, std=STD)
    load = partial(load, device=torch.device("cpu"), persistent_workers=False, interpolation="bilinear")
    files, val_files = split(photos)
    train = load(Photos(files), is_training=True, scale=SCALE, color_jitter=0.0)
    val = load(Photos(val_files), crop_pct=SIZE / RESIZED)
    net = create_model("resnet34", num_classes=2)
    optimizer = create_optimizer_v2(net, opt="momentum", lr=LR, momentum=MOMENTUM)
    saver = CheckpointSaver(net, optimizer, checkpoint_dir=".", recovery_dir=".")
    for epoch in range(epochs):
        net.train()
        losses, top1 = AverageMeter(), AverageMeter()
        for x, y in train:
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.update(loss.item(), x.size(0))
            first_step()
        net.eval()
        with torch.inference_mode():
            for x, y in val:
                top1.update(accuracy(net(x), y)[0].item(), x.size(0))
        tell(top1.avg / 100)
        saver.save_checkpoint(epoch, metric=top1.avg)


def with_fastai(photos: Path, epochs: int) -> None:
    """Fastai: a DataBlock with its own transforms and a Learner, without bar; its optimizer wraps torch's."""
    from fastai.vision import all as fastai

    class First(fastai.Callback):
        def after_step(self) -> None:
            first_step()

    train, val = split(photos)
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock),
        get_items=lambda source: train + val,
        get_y=lambda path: path.name[:3],
        splitter=fastai.IndexSplitter(range(len(train), len(train) + len(val))),
        item_tfms=[fastai.RandomResizedCrop(SIZE, min_scale=SCALE[0]), fastai.FlipItem()],
        batch_tfms=fastai.Normalize.from_stats(MEAN, STD),
    )
    data = block.dataloaders(photos, bs=BATCH, num_workers=0, drop_last=False, device=torch.device("cpu"))
    optimizer = partial(fastai.OptimWrapper, opt=torch.optim.SGD, momentum=MOMENTUM)
    parts = {"loss_func": nn.CrossEntropyLoss(), "opt_func": optimizer, "metrics": fastai.accuracy, "cbs": [First()]}
    learner = fastai.Learner(data, ResNet34(2), lr=LR, path=Path("."), **parts)
    with learner.no_bar():
        learner.fit(epochs)
    for row in learner.recorder.values:
        tell(row[-1])
    learner.save("job")


def with_transformers(photos: Path, epochs: int) -> None:
    """Transformers: its Trainer over a module that gives its loss, with evaluation and a checkpoint each epoch."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ResNet34(2)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.net(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class First(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            first_step()

    class Named(Photos):
        def __getitem__(self, index: int) -> Any:
            return dict(zip(("x", "labels"), super().__getitem__(index), strict=True))

    size = {"per_device_train_batch_size": BATCH, "per_device_eval_batch_size": BATCH, "num_train_epochs": epochs}
    each = {"eval_strategy": "epoch", "save_strategy": "epoch", "report_to": []}
    constant = {"learning_rate": LR, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    arguments = TrainingArguments("job", use_cpu=True, disable_tqdm=True, **size, **each, **constant)
    train, val = (Named(photos.paths, photos.transform) for photos in datasets(photos))
    model = Model()
    trainer = Trainer(
        model,
        arguments,
        train_dataset=train,
        eval_dataset=val,
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()},
        callbacks=[First()],
        optimizers=(sgd(model), None),  # its own SGD is not offered with momentum
    )
    trainer.train()
    for row in trainer.state.log_history:
        if "eval_accuracy" in row:
            tell(row["eval_accuracy"])


def with_keras(photos: Path, epochs: int) -> None:
    """Keras on torch: the same network in its TorchModuleWrapper; its own loss, SGD and `fit` over torch's loaders."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    train, val = loaders(photos)
    model = keras.Sequential([keras.Input((3, SIZE, SIZE)), keras.layers.TorchModuleWrapper(ResNet34(2))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(LR, momentum=MOMENTUM), loss=loss, metrics=["accuracy"])
    first = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: first_step())
    saved = keras.callbacks.ModelCheckpoint("job.weights.h5", save_weights_only=True)
    history = model.fit(train, validation_data=val, epochs=epochs, verbose=2, callbacks=[first, saved])
    for accuracy in history.history["val_accuracy"]:
        tell(accuracy)


def with_ignite(photos: Path, epochs: int) -> None:
    """Ignite: an engine for training, one for validation, and its ModelCheckpoint after each epoch."""
    from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
    from ignite.handlers import ModelCheckpoint
    from ignite.metrics import Accuracy

    train, val = loaders(photos)
    net = ResNet34(2)
    optimizer = sgd(net)
    trainer = create_supervised_trainer(net, optimizer, F.cross_entropy)
    evaluator = create_supervised_evaluator(net, {"accuracy": Accuracy()})
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), first_step)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: tell(evaluator.run(val).metrics["accuracy"]))
    saver = ModelCheckpoint(".", "job", require_empty=False)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, saver, {"model": net, "optimizer": optimizer})
    trainer.run(train, max_epochs=epochs)


JOBS: dict[str, Callable[[Path, int], None]] = {
    "a plain script": by_hand,
    "lightning": with_lightning,
    "timm": with_timm,
    "fastai": with_fastai,
    "transformers": with_transformers,
    "keras": with_keras,
    "pytorch-ignite": with_ignite,
}


def _main(peer: str, photos: str, epochs: str) -> None:
    torch.manual_seed(0)
    JOBS[peer](Path(photos), int(epochs))


if __name__ == "__main__":
    _main(*sys.argv[1:])
