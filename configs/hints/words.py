"""Words of the field that are no key here: the key that does it, or the sentence that there is none."""

from collections.abc import Collection

from configs.hints.book import BOOK

__all__ = ["ABSENT", "ARGUMENTS", "ELSEWHERE", "SYNONYMS", "absent", "meaning"]

# Names from other frameworks. They are not accepted, so that a thing has one name, but lead to a suggestion.
SYNONYMS = {
    "accumulate_grad_batches": "accumulate",
    "amp": "precision",
    "batch": "batch_size",
    "bs": "batch_size",
    "checkpoint": "load_model_path",
    "cuda": "use_gpu",
    "decay_every": "keep_every",
    "device": "use_gpu",
    "early_stopping": "early_stop",
    "epoch": "max_epoch",
    "epochs": "max_epoch",
    "eval_every": "val_steps",
    "fp16": "precision",
    "gpu": "use_gpu",
    "grad_clip": "clip",
    "gradient_accumulation_steps": "accumulate",
    "gradient_clip_val": "clip",
    "half": "precision",
    "image_size": "transform",
    "img_size": "transform",
    "input_size": "transform",
    "learning_rate": "lr",
    "lr_sched": "schedule",
    "lr_scheduler": "schedule",
    "log_every": "print_freq",
    "log_every_n_steps": "print_freq",
    "log_interval": "print_freq",
    "max_epochs": "max_epoch",
    "mixed_precision": "precision",
    "name": "run",
    "num_epochs": "max_epoch",
    "optimizer": "optim",
    "param_groups": "groups",
    "patience": "early_stop",
    "plot_every": "print_freq",
    "pretrained": "weights",
    "print_every": "print_freq",
    "save_every": "keep_every",
    "scheduler": "schedule",
    "steps": "max_steps",
    "test_root": "test_data_root",
    "train_root": "train_data_root",
    "transforms": "transform",
    "val_split": "val_fraction",
    "warmup_epochs": "warmup",
    "val_every": "val_steps",
    "validation_split": "val_fraction",
    "wd": "weight_decay",
    "workers": "num_workers",
}
EXPORT = (
    "python main.py export CHECKPOINT --format=onnx writes the network; torch_export, torchscript, safetensors, pth"
)
SPLITS = "the folders train, val and test below data.dataset.root are found by their names"
RUN = "a run's folder is checkpoints/NAME, named by --run=NAME"
PROCESSES = "torchrun --nproc-per-node=2 main.py train run=NAME trains on several GPUs of one machine"
# Features, each with a sentence: how the same is done here, or that it is not. Keys and commands are not looked up.
ABSENT = {
    "augment": "data.transform.train lists what is done to a picture",
    "augmentation": "data.transform.train lists what is done to a picture",
    "callbacks": "there are no callbacks; log.watchers names watchers, which look on",
    "data_dir": "--data.dataset.root names a folder for all splits, --train-data-root and --test-data-root for one",
    "deepspeed": f"models are not sharded; {PROCESSES}",
    "devices": PROCESSES,
    "ensemble": "test RUN RUN … averages runs: python main.py help test",
    "fsdp": f"models are not sharded; {PROCESSES}",
    "gpus": PROCESSES,
    "log_dir": RUN,
    "lr_finder": "python main.py lr_find CONFIG suggests a learning rate",
    "mlflow": "log.tensorboard and log.visdom show curves; MLflow is not supported",
    "num_gpus": PROCESSES,
    "onnx": EXPORT,
    "out_dir": RUN,
    "output_dir": RUN,
    "profiler": "--train.profile=[10,20] profiles these steps with torch.profiler",
    "prune": "networks are not pruned",
    "quantize": "networks are not quantized",
    "save_dir": RUN,
    "search": "sweep trains several values of keys: python main.py help sweep",
    "shuffle": "training data are shuffled in each epoch, other splits never",
    "torchscript": EXPORT,
    "tpu": "it runs on CPU and CUDA only",
    "tta": "test.views=[hflip] averages over views of each picture",
    "val_data_root": SPLITS,
    "val_dir": SPLITS,
    "val_root": SPLITS,
    "wandb": "log.tensorboard and log.visdom show curves; W&B is not supported",
    "work_dir": RUN,
}
# Commands of other programs, and ours.
ELSEWHERE = {"eval": "val", "evaluate": "val", "fit": "train", "infer": "test", "inference": "test"}
ELSEWHERE |= {"gen": "generate", "stylize": "generate"}  # the book's
ELSEWHERE |= {"resume": "train --resume", "tensorboard": "dashboard", "validate": "val", "visualize": "plot"}
# The meaning of arguments of a library's components; of our own ones the docstring tells.
ARGUMENTS = {
    "alpha": "smoothing constant",
    "amsgrad": "use the maximum of past squared gradients",
    "betas": "decay rates of the running means of the gradient and of its square",
    "dampening": "dampening of the momentum",
    "eps": "small number added to a denominator",
    "epochs": "how many epochs the scheduler takes in a list of several",
    "eta_min": "the smallest learning rate",
    "groups": "arguments for parameters by name, as [{match: 'fc.*', lr: 0.01}]; the first that matches counts",
    "gamma": "factor by which the learning rate is multiplied",
    "layer_decay": "factor of the learning rate from each layer to the one below it",
    "lr": "learning rate, the size of a step",
    "max_lr": "the largest learning rate",
    "milestones": "epochs after which the learning rate falls",
    "momentum": "share of the last step that is kept in the next one",
    "nesterov": "look ahead along the momentum",
    "no_decay": "parameters without weight decay: bias, norm, or patterns of names",
    "patience": "validations without a better one that are waited for",
    "pct_start": "share of the training in which the learning rate rises",
    "rest": "the optimizer of the parameters that this one does not take",
    "schedulers": "a list of schedulers, with their epochs where they act in turn",
    "step_size": "epochs between two falls of the learning rate",
    "warmup": "epochs in which the learning rate rises linearly, before any scheduler",
    "weight_decay": "strength of the pull of all weights towards zero",
}


def absent(word: str, known: Collection[str] = ()) -> str:
    """Return the sentence about a feature that is not there, or is elsewhere; empty for any other word.

    `known` are keys, arguments and commands, of which none is absent.
    """
    word = word.replace("-", "_").lower()
    return "" if word in known else BOOK.get(word) or ABSENT.get(word, "")


def meaning(argument: str) -> str:
    """Return what an argument of a library's component means; empty if that is not known."""
    return ARGUMENTS.get(argument, "")
