"""Every key of a config file, with its type, its default, its meaning and its unit."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from utils.config.convert import Component, Roles
from utils.config.ranges import Count, Fraction, Range

__all__ = ["Config", "Data", "Log", "Mix", "Test", "Train", "Transforms"]

TransformList = Annotated[tuple[Component, ...], "transform"]
SamplerChoice = Annotated[Component | None, "sampler"]
ViewList = Annotated[tuple[Component, ...], "view"]
WatcherList = Annotated[tuple[Component, ...], "watcher"]
Model = Annotated[Roles, "model"]
Optim = Annotated[Roles, "optim"]
Schedule = Annotated[Roles, "schedule"]


@dataclass(frozen=True)
class Transforms:
    """The transforms of a picture before the network gets it; names from torchvision.transforms.v2."""

    train: TransformList = ()  # for training: random crops, flips, …
    eval: TransformList = ()  # for validation and test; a picture becomes a tensor in [0, 1] before Normalize


@dataclass(frozen=True)
class Mix:
    """Training batches in which each sample is mixed with another one, for classifiers; of two ways one a batch."""

    # mix two pictures, and their labels, in a share drawn from Beta(alpha, alpha); a number is that alpha, such as 0.2
    mixup: Annotated[float, Range(0.001, 1000)] | None = None
    # put a box of one picture into the other, as large as that share; a number is alpha, such as 1.0
    cutmix: Annotated[float, Range(0.001, 1000)] | None = None


@dataclass(frozen=True)
class Data:
    """The dataset, and how its batches are made."""

    dataset: Annotated[Component, "data"] = Component("Digits")  # a class in data/
    train_data_root: str | None = None  # folder with the files of the splits train and val
    test_data_root: str | None = None  # folder with the files of the split test
    transform: Transforms = field(default_factory=Transforms)  # how pictures are cropped, flipped, normalised
    # samples a step, of all processes together, which share them; auto: the most that fit, found by trial before the
    # run and kept
    batch_size: Annotated[int | Literal["auto"], Range(1)] = 32
    # samples of a batch of validation and test, of all processes together; null: batch_size
    eval_batch_size: Count | None = None
    # [k, n]: hold out part k of n, from 0, each class with its share, of a dataset that divides its files itself
    fold: tuple[int, int] | None = None
    group: str | None = None  # with fold: a column of the CSV; rows of one group are never divided
    fraction: Annotated[float, Range(0, 1)] | None = None  # train on that share of the samples, for a quick try
    # processes or threads that load data; 0: the training process does it
    num_workers: Annotated[int, Range(0, 256)] = 0
    loader: Literal["auto", "processes", "threads"] = "auto"  # auto: threads if the augmentation allows it
    # fast: usual transforms in one pass, JPEGs decoded at a reduced size where it suffices
    pixels: Literal["fast", "exact"] = "fast"
    # keep pictures decoded, as small as the crops allow; ram: for this run; disk: for all runs; gpu: small pictures
    # that lie in memory, as MNIST's
    cache: Literal["ram", "disk", "gpu"] | None = None
    shuffle: bool = True  # a new order of the training samples each epoch, a function of (seed, epoch)
    # how a new order is drawn; exact: torch's permutation, 8 bytes a sample in each process; walk: another one, that is
    # computed where it is read, for more than ten million samples
    order: Literal["exact", "walk"] = "exact"
    # the samples of an epoch, in place of each once in a new order: Weighted, ClassBalanced, Subset, Grouped
    sampler: SamplerChoice = None
    balance_classes: bool = False  # another name for sampler: ClassBalanced
    mix: Mix = field(default_factory=Mix)  # mixup and cutmix
    # a sample that cannot be read: raise ends the run; skip makes the batch smaller; replace takes another sample, a
    # function of (seed, epoch, index); quarantine does so, and never reads it again. bad_samples.csv lists all
    on_bad_sample: Literal["raise", "skip", "replace", "quarantine"] = "raise"
    max_bad: Annotated[int | float, Range(0)] = 0.05  # bad samples of a split that end the run: more than 10, or 0.05
    drop_last: bool = False  # leave out a last training batch that is not full
    pin_memory: bool = True  # with a GPU: copy batches while it computes
    # seconds without a batch until workers count as frozen; 0: never
    worker_timeout: Annotated[float, Range(0, 1_000_000)] = 300


@dataclass(frozen=True)
class Train:
    """The loop: its length, its device and its precision."""

    max_epoch: Count = 10  # passes over the training set
    max_steps: Count | None = None  # end after so many steps (a step is one batch)
    max_minutes: Annotated[float, Range(0)] | None = None  # end after so many minutes of training, with a save
    seed: Annotated[int, Range(0, 2**31)] = 0  # decides weights, order of samples, augmentation, dropout
    use_gpu: Literal["auto", True, False] = "auto"  # train on a GPU; auto: if there is one
    # processes that train together on this machine; auto: one for each GPU. A resumed run takes 1 unless it is told
    processes: Annotated[int | Literal["auto"], Range(1, 1024)] = 1
    devices: tuple[int, ...] | None = None  # numbers of the GPUs to train on, as [0, 1]; null: all
    dist_timeout: Annotated[float, Range(1, 86_400)] = 60  # seconds until a process that does not answer counts as lost
    # number format of the forward pass (autocast); auto: bf16 if the machine computes in it, otherwise fp16 on a GPU,
    # fp32 on a CPU
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    threads: Annotated[int, Range(1, 1024)] | None = None  # of the CPU for torch's operations; null: torch's choice
    tf32: bool = True  # on a GPU: multiply fp32 numbers with a fraction of 10 bits, several times as fast
    channels_last: Literal["auto", True, False] = "auto"  # layout of convolutions; auto: where bf16 or fp16 is fast
    keep_memory: bool = True  # keep freed memory for the next step, instead of asking Linux for the same pages again
    compile: bool = False  # torch.compile: pays on a GPU in long runs, needs a C++ compiler on a CPU
    deterministic: bool = False  # only algorithms that give the same bits each time; on a GPU others may not
    accumulate: Count = 1  # batches an optimizer step
    # of several processes: BatchNorm takes the statistics of the whole batch, not of each process's share
    sync_batchnorm: bool = False
    # the whole run once on one batch before it begins; auto: if an epoch is longer than a minute; only: and no run
    rehearse: Literal["auto", True, False, "only"] = "auto"
    overfit: Annotated[int, Range(0)] = 0  # so many batches again and again: is the loss near zero in 200 steps? 0: no
    # full: of several processes each holds a part of parameters, gradients and optimizer state, by torch's FSDP2
    shard: Literal["none", "full"] = "none"
    # compute the activations of each block again in the backward pass: less memory, about a third more time
    activation_checkpointing: bool = False
    # of both: patterns of the layers that are gathered, or computed again, as one; default: the blocks of ModuleLists
    # and Sequentials
    shard_units: tuple[str, ...] = ()
    oom: Literal["stop", "fit"] = "stop"  # out of memory: stop, or halve the batch, double accumulate and go on
    # largest norm of the gradient; a longer gradient is scaled down to it
    clip: Annotated[float, Range(0)] | None = None
    # check that gradients are finite; null: on a CPU, if clip computes their norm
    check_gradients: bool | None = None
    # stop, or leave the batch out: skip goes on, rollback returns to the last save
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    ema: Fraction | None = None  # decay of the averaged weights that val and test use, such as 0.999
    # at the end: average the weights of so many last epochs and validate them; averaged.pth, for val and test
    average_last: Annotated[int, Range(2, 1000)] | None = None
    # stochastic weight averaging: from that share of the epochs on, train at a constant rate and average the weights at
    # their ends, as {from: 0.75, lr: 1e-2}; at the end averaged.pth, for val and test
    swa: dict | None = None
    monitor: str | None = None  # validation metric that picks best.pth; null: the task's first
    early_stop: Count | None = None  # end after so many validations without a better one
    val_steps: Count | None = None  # steps between two validations; null: after each epoch
    save_steps: Count | None = None  # steps between two saves, besides one each epoch
    save_minutes: Annotated[float, Range(0)] | None = None  # minutes between two saves, besides one each epoch
    # [first, last]: these steps, counted from 1, under torch.profiler; trace.json and profile.txt in the run folder
    profile: tuple[int, int] | None = None
    save_in_background: bool = True  # write checkpoints while the next steps are computed; false: wait for each
    keep_top: Annotated[int, Range(0)] = 0  # number of the best epochs that stay as epoch-NNN.pth
    keep_every: Count | None = None  # epochs between two that stay as epoch-NNN.pth
    # first weights, by type of layer (its weight; Conv2d.bias: its bias) or pattern of names: a function of
    # torch.nn.init, as {Conv2d: kaiming_normal, "fc.weight": {name: normal, std: 0.01}}; the first match counts
    init: dict = field(default_factory=dict)
    # patterns of names that last.pth has: they do not learn, and their BatchNorm statistics stand still
    freeze: tuple[str, ...] = ()
    # by epoch, from 1: patterns of frozen names that learn from its beginning on, as {3: ["layer4.*"]}
    unfreeze: dict = field(default_factory=dict)
    load_model_path: str | None = None  # weights to begin with: a run's checkpoint or a state_dict
    # weights of several networks, each from a file of its own, as {generator: a.pth, discriminator: b.pth}
    load: dict = field(default_factory=dict)
    load_partly: bool = False  # take what fits, even if that is less than half of a network
    load_optimizer: bool = False  # with load_model_path: begin with the optimizer's state of that run, too


@dataclass(frozen=True)
class Log:
    """The outputs of numbers and pictures, besides the run folder's journal log.jsonl."""

    print_freq: Count = 20  # steps between two train rows
    visdom: bool = True  # live curves, if a visdom server listens
    visdom_host: str = "127.0.0.1"  # host of the visdom server
    visdom_port: Annotated[int, Range(1, 65535)] = 8097  # port of the visdom server
    env: str | None = None  # visdom environment; null: the run's name
    tensorboard: bool = False  # event files for TensorBoard, in tensorboard/ of the run folder
    histograms: Count | None = None  # steps between two histograms of weights and gradients; null: none
    pr_curves: bool = False  # for a classifier, in TensorBoard, at the end: precision over recall for each class
    embedding: bool = False  # the same, but the last layer's features of the validation samples
    graph: bool = False  # the same, but the graph of its network; needs the package tensorboard
    watchers: WatcherList = ()  # further observers of the run: classes of trainer/watchers/
    pictures: bool = True  # draw the first batch, and at the end curves, confusion matrix and predictions, as PNG
    # while this file, or debug in the run folder, is there, training stops in a debugger; delete it and type c
    debug_file: str = "/tmp/debug"


@dataclass(frozen=True)
class Test:
    """The file with the test split's predictions."""

    result_file: str | None = None  # the CSV; null: submission.csv in the run folder
    # the output of a classifier; rle: run-length masks, of several classes a column for each but the first
    output: Literal["probability", "label", "class", "rle"] = "probability"
    positive: str | None = None  # the class whose probability, or run-length mask, is written; null: the data's
    sample: str | None = None  # Kaggle's sample_submission.csv: gives header, ids and their order
    competition: str | None = None  # its name in the line that uploads; null: that of the archive beside the sample
    # the predictions for these are averaged with those for the pictures themselves: hflip, vflip, rot90, rot180,
    # rot270, scale, and transforms that move pixels, as {name: FiveCrop, size: 56}
    views: ViewList = ()
    average: Literal["mean", "geometric", "rank", "climb"] = "mean"  # of several runs; climb: weights by hill climbing
    clip: Annotated[float, Range(0, 0.5)] | None = None  # probabilities are written from clip to 1 - clip, as 1e-5
    mirror: bool = True  # check that the validation split, written in the same way, gives validation's metrics again


@dataclass(frozen=True)
class Config:
    """One run."""

    task: Annotated[Component, "task"] = Component("Classification")  # the training task: a class in trainer/tasks/
    model: Model = field(default_factory=lambda: {"model": Component("ResNet34")})  # a class in models/
    data: Data = field(default_factory=Data)  # dataset, transforms, loader
    optim: Optim = field(default_factory=lambda: {"model": Component("SGD")})  # the optimizer: a class in torch.optim
    schedule: Schedule = field(default_factory=dict)  # the learning rate's scheduler: torch's or the book's; null: none
    train: Train = field(default_factory=Train)  # the loop
    log: Log = field(default_factory=Log)  # curves and pictures
    test: Test = field(default_factory=Test)  # predictions
