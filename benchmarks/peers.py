"""The same training in each peer, in the plain way that its documentation shows, with everything extra off."""

import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.ready import BATCH, LOG_EVERY, LR, MOMENTUM, Pair, Pass, Stream, as_loader, network, sgd

__all__ = ["PEERS"]

# Each function takes (batches, a folder for what the peer writes, whether a row is logged each LOG_EVERY steps).


def with_lightning(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Lightning: a LightningModule and `Trainer.fit`; rows by `self.log` and its CSVLogger."""
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, number: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            if logged:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.net)

    off = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    module, stream = Module(), Stream(batches)

    def run() -> None:
        logger = CSVLogger(folder) if logged else False
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=logger, log_every_n_steps=LOG_EVERY, **off)
        trainer.fit(module, stream)

    return stream, run


def with_ignite(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Ignite: `create_supervised_trainer`; rows by a RunningAverage and a handler."""
    from ignite.engine import Events, create_supervised_trainer
    from ignite.metrics import RunningAverage

    net, stream = network(), Stream(batches)
    trainer = create_supervised_trainer(net, sgd(net), F.cross_entropy)
    if logged:
        RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
        write = _writer(folder)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(every=LOG_EVERY),
            lambda engine: write(engine.state.iteration, engine.state.metrics["loss"]),
        )
    return stream, lambda: trainer.run(stream, max_epochs=1)


def with_accelerate(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Accelerate: a loop of one's own around a prepared network and optimizer; rows by its tracker."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, log_with="tensorboard" if logged else None, project_dir=str(folder))
    accelerator.init_trackers("run")
    net = network()
    net, optimizer = accelerator.prepare(net, sgd(net))
    stream = Stream(batches)

    def run() -> None:
        net.train()
        total = torch.zeros(())
        for step, (x, y) in enumerate(stream, 1):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            accelerator.backward(loss)
            optimizer.step()
            if logged:
                total += loss.detach()
                if step % LOG_EVERY == 0:
                    accelerator.log({"loss": total.item() / LOG_EVERY}, step=step)
                    total.zero_()

    return stream, run


def with_transformers(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Transformers: its Trainer over a module that gives its loss; rows as `logging_steps` prints them."""
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.net(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Ready(Trainer):
        def get_train_dataloader(self) -> Any:
            return as_loader(stream)

    model, stream = Model(), Stream(batches, lambda x, y: {"x": x, "labels": y})
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=len(stream),
        per_device_train_batch_size=BATCH,
        max_grad_norm=0.0,
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="steps" if logged else "no",
        logging_steps=LOG_EVERY,
    )

    def run() -> None:
        optimizer = sgd(model)
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        Ready(model, arguments, train_dataset=stream, optimizers=(optimizer, constant)).train()

    return stream, run


def with_fastai(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Fastai: a Learner over plain loaders, without bar; rows by a callback."""
    import fastai.callback.progress  # noqa: F401 - gives the Learner its no_bar
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    write = _writer(folder)

    class Rows(Callback):
        def after_batch(self) -> None:
            if self.training and (self.train_iter + 1) % LOG_EVERY == 0:
                write(self.train_iter, float(self.smooth_loss))

    stream = Stream(batches)
    optimizer = partial(OptimWrapper, opt=torch.optim.SGD, momentum=MOMENTUM, fused=True)
    learner = Learner(
        DataLoaders(as_loader(stream), as_loader(batches[:1])),
        network(),
        loss_func=F.cross_entropy,
        opt_func=optimizer,
        lr=LR,
        cbs=[Rows()] if logged else [],
        path=folder,
    )

    def run() -> None:
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)

    return stream, run


def with_keras(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Keras on torch: its own layers, loss and SGD, the same sizes; rows by a callback."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    write = _writer(folder)

    class Rows(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (batch + 1) % LOG_EVERY == 0:
                write(batch, float(logs["loss"]))

    layers = [keras.Input((784,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(LR, momentum=MOMENTUM), loss=loss)
    stream = Stream(batches)
    loader, callbacks = as_loader(stream), [Rows()] if logged else []
    return stream, lambda: model.fit(loader, epochs=1, verbose=0, callbacks=callbacks)


def with_skorch(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """Skorch: NeuralNet without callbacks; rows by one."""
    from skorch import NeuralNet
    from skorch.callbacks import Callback

    write, stream = _writer(folder), Stream(batches)

    class Rows(Callback):
        def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
            losses = net.history[-1, "batches", slice(-LOG_EVERY, None), "train_loss"]
            count = len(net.history[-1, "batches"])
            if count % LOG_EVERY == 0:
                write(count, sum(losses) / len(losses))

    net = NeuralNet(
        network(),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=MOMENTUM,
        optimizer__fused=True,
        lr=LR,
        max_epochs=1,
        iterator_train=lambda dataset, **kwargs: stream,
        train_split=None,
        verbose=0,
        callbacks=[("rows", Rows())] if logged else "disable",
    ).initialize()
    return stream, lambda: net.partial_fit(stream)


def with_torchtnt(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """TorchTNT: a TrainUnit and `train`; rows by its JSONLogger."""
    from torchtnt.framework.state import State
    from torchtnt.framework.train import train
    from torchtnt.framework.unit import TrainUnit
    from torchtnt.utils.loggers import JSONLogger

    logger = JSONLogger(str(folder / "log.json"), steps_before_flushing=1) if logged else None

    class Unit(TrainUnit[Any]):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.optimizer = sgd(self.net)
            self.total = torch.zeros(())

        def train_step(self, state: State, data: Any) -> None:
            loss = F.cross_entropy(self.net(data[0]), data[1])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            if logger is not None:
                self.total += loss.detach()
                step = self.train_progress.num_steps_completed + 1
                if step % LOG_EVERY == 0:
                    logger.log("loss", self.total.item() / LOG_EVERY, step)
                    self.total.zero_()

    unit, stream = Unit(), Stream(batches)
    return stream, lambda: train(unit, stream, max_epochs=unit.train_progress.num_epochs_completed + 1)


def with_timm(batches: Sequence[Pair], folder: Path, logged: bool) -> Pass:
    """In the manner of timm's training script: its AverageMeter and scheduler around a loop, which come in any case."""
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter

    net, stream, write = network(), Stream(batches), _writer(folder)
    optimizer = sgd(net)
    schedule = CosineLRScheduler(optimizer, t_initial=10_000_000, t_in_epochs=False)

    def run() -> None:
        net.train()
        losses, times, end = AverageMeter(), AverageMeter(), time.time()
        for step, (x, y) in enumerate(stream, 1):
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), x.size(0))
            optimizer.zero_grad()
            now = time.time()
            times.update(now - end)
            if logged and step % LOG_EVERY == 0:
                write(step, losses.avg)
            schedule.step_update(num_updates=step, metric=losses.avg)
            end = now

    return stream, run


PEERS: dict[str, Callable[[Sequence[Pair], Path, bool], Pass]] = {
    "lightning": with_lightning,
    "pytorch-ignite": with_ignite,
    "accelerate": with_accelerate,
    "transformers": with_transformers,
    "fastai": with_fastai,
    "keras": with_keras,
    "skorch": with_skorch,
    "torchtnt": with_torchtnt,
    "timm": with_timm,
}


def _writer(folder: Path) -> Callable[[int, float], None]:
    """Appends a row of JSON to a file, for peers that bring no file of their own."""
    stream = open(folder / "log.jsonl", "a", buffering=1)  # noqa: SIM115 - open as long as the process

    def write(step: int, loss: float) -> None:
        stream.write(json.dumps({"step": step, "loss": loss}) + "\n")

    return write
