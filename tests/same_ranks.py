"""Train cases one after the other, as one process or as a rank of two: `same_ranks.py RANK WORLD PORT`, in a folder.

Each case is a run of the name of its case, and of the number of processes. Its predictions lie in out/.
"""

import os
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMON = ["--train.rehearse=false", "--train.precision=fp32", "--num-workers=0", "--print-freq=1", "--log.visdom=false"]
COMMON += ["--log.pictures=false", "--log.watchers=[]", "--train.save_steps=1000"]
EPOCHS = "--train.max_epoch=2"
SGD = ["--optim=SGD", "--optim.momentum=0.9", "--schedule=null"]
RESIZED = "--data.transform.{}=[{{name: Resize, size: [{}, {}]}}]"


def resized(height: int, width: int) -> list[str]:
    return [RESIZED.format(split, height, width) for split in ("train", "eval")]


NORM = "--train.sync_batchnorm=true"
NET = ["--model=MLP", "--model.hidden=[8]"]
PHOTOS = [*SGD, "--lr=0.01"]
TEXTS = [*SGD, "--lr=0.1", "--data.eval_batch_size=50"]
GPT = ["--model.width=16", "--model.heads=2", "--model.layers=2", "--data.dataset.length=16"]
STYLE = ["--optim=SGD", "--schedule=null", "--lr=1e-9", "--style-path=data/candy.jpg", "--weights=none"]
STYLE += ["--train.max_steps=null"]
ROLES = [f"--optim.{role}=SGD" for role in ("generator", "discriminator")]
FACES = [*ROLES, "--optim.generator.lr=0.01", "--optim.discriminator.lr=0.01", "--model.discriminator.ndf=4"]
FACES += ["--model.generator.ngf=4", "--model.generator.nz=8"]
SLOW_FACES = [flag.replace("lr=0.01", "lr=1e-4") for flag in FACES]
TABLE = [*SGD, "--lr=0.01", "--model.dropout=0", "--batch-size=7"]
CAPTIONS = ["--optim.decoder=SGD", "--optim.decoder.lr=0.1", "--schedule.decoder=Constant", "--weights=none"]
CAPTIONS += ["--model.encoder.variant=resnet18", "--model.decoder.feature_size=512", "--model.decoder.dropout=0"]
CAPTIONS += ["--model.decoder.width=16", "--model.decoder.embedding=16"]
MNIST = [*SGD, "--lr=0.01", "--batch-size=15"]
LINES = ["--model.width=4", "--model.hidden=8", NORM]
STRINGS = ["--batch-size=15", "--data.dataset.strings=50", "--data.dataset.held_out=23"]
# Each: what is typed behind `train`.
CASES: dict[str, list[str]] = {
    "cifar10": ["cifar10", *SGD, "--lr=0.01", "--batch-size=7"],
    "csv_images": ["csv_images", *SGD, "--lr=0.01", "--model.dropout=0", "--batch-size=5"],
    "digit_recognizer": ["digit_recognizer", *MNIST],
    "digit_strings": ["digit_strings", *SGD, "--lr=0.01", *LINES, *STRINGS],
    "dogcat": ["dogcat", *PHOTOS, *NET, "--batch-size=7", "--data.pixels=exact"],
    "dogcat_small": ["dogcat_small", *PHOTOS, *NET, "--batch-size=6", "--data.pixels=fast"],
    "house_prices": ["house_prices", *TABLE],
    "image_folder": ["image_folder", *PHOTOS, *NET, "--batch-size=9"],
    "linear_regression": ["linear_regression", "--batch-size=33"],
    "mnist": ["mnist", *MNIST],
    "mnist_lstm": ["mnist_lstm", *MNIST, "--model.width=16"],
    "poetry": ["poetry", *TEXTS, "--model.width=16", "--model.embedding=16", "--batch-size=63"],
    "shakespeare": ["shakespeare", *TEXTS, *GPT, "--batch-size=63"],
    "style_transfer": ["style_transfer", *STYLE, *resized(32, 32), "--batch-size=21"],
    "table": ["table", *TABLE, "--data.dataset.root=data/tabular/titanic", "--data.dataset.target=Survived"],
    "titanic": ["titanic", *TABLE],
    "two_layer": ["two_layer", "--data.dataset.passes=2", "--batch-size=49", "--lr=1e-5"],
    "captions": ["captions", *CAPTIONS, *resized(32, 32), "--batch-size=6"],
}
CASES |= {  # the other tasks, losses and samplers
    "multi_label": ["csv_images", *SGD, *NET, "--lr=0.01", "--task=MultiLabel", "--train-data-root=data/several"],
    "captchas": [
        "digit_strings",
        *SGD,
        "--lr=0.01",
        *LINES,
        "--data.dataset={name: TextLines, root: data/captchas}",
        "--batch-size=5",
    ],
    "masks_ignored": ["unet", *SGD, "--lr=0.01", *resized(32, 32), "--batch-size=5", "--task.ignore_index=255"],
    "triplets": ["image_folder", *PHOTOS, "--task=Supervised", "--data.dataset=Triplets", *resized(16, 16)],
    "balanced": [*SGD, *NET, "--lr=0.05", "--task.loss={name: CrossEntropyLoss, weight: balanced}", "--batch-size=7"],
    "sum": [*SGD, *NET, "--lr=1e-3", "--task.loss={name: CrossEntropyLoss, reduction: sum}", "--batch-size=7"],
    "weighted": [*SGD, *NET, "--lr=0.05", "--data.sampler={name: Weighted, weights: [9, 1, 1, 1, 1, 1, 1, 1, 1, 1]}"],
    "skipped": ["image_folder", *PHOTOS, *NET, "--train-data-root=data/broken", "--data.on_bad_sample=skip"],
    "replaced": ["image_folder", *PHOTOS, *NET, "--train-data-root=data/broken", "--data.on_bad_sample=replace"],
}
CASES["multi_label"] += ["--data.dataset={name: CSVImages, labels: trainLabels.csv}", "--batch-size=7"]
CASES["masks_ignored"] += ["--model.width=2", "--task.dice_weight=0", "--data.dataset.root=data/masks", NORM]
CASES["triplets"] += ["--model={name: MLP, num_classes: 6, hidden: [8]}", "--batch-size=9"]
CASES["triplets"] += ["--loss={name: TripletMarginLoss, margin: 0.5}"]
for bad in ("skipped", "replaced"):
    CASES[bad] += ["--data.max_bad=0.5", "--batch-size=9"]
for digits in ("balanced", "sum", "weighted"):
    CASES[digits] += ["--data.fraction=0.2"]
CASES["weighted"] += ["--batch-size=22"]
NORMED = {  # with BatchNorm, or drawn numbers
    "default": ["--optim=SGD", "--schedule=null", NORM, "--lr=1e-5", "--data.fraction=0.05", "--batch-size=36"],
    "unet": ["unet", *SGD, NORM, "--lr=0.01", *resized(64, 64), "--model.width=2", "--batch-size=5"],
    "anime_gan": ["anime_gan", *SLOW_FACES, NORM, "--batch-size=8"],
    "wgan_gp": ["mnist_gan", *FACES, NORM, "--schedule=null", "--batch-size=15", "--task.loss=wgan-gp"],
    "mnist_gan": ["mnist_gan", *FACES, NORM, "--schedule=null", "--batch-size=15"],
}
NORMED["wgan_gp"] += ["--model.discriminator.norm=instance"]
EVERY = {name: [*flags, *COMMON, EPOCHS] for name, flags in (CASES | NORMED).items()}


# accumulation of these is a larger batch: each statistic of a BatchNorm is of one batch
ACCUMULATED = [name for name, flags in CASES.items() if NORM not in flags]
# Those that have a test split, and what is typed behind `test`.
TESTED = {
    name: [] for name in ("cifar10", "csv_images", "digit_recognizer", "dogcat", "house_prices", "mnist", "titanic")
}
TESTED |= {"linear_regression": [], "two_layer": [], "captchas": []}
TESTED |= {"multi_label": ["--test-data-root=data/several"], "skipped": ["--test-data-root=data/photos"]}
TESTED |= {"captions": ["--test-data-root=data/captions_flickr/images"], "shakespeare": []}


def in_parts(flags: list[str]) -> list[str]:
    """Return the flags for batches of a part of the size, and windows of as many of them."""
    size = next(int(flag.partition("=")[2]) for flag in flags if flag.startswith("--batch-size"))
    parts = next(count for count in (2, 3, 5, 7, 11) if size % count == 0)
    others = [flag for flag in flags if not flag.startswith("--batch-size")]
    return [*others, f"--batch-size={size // parts}", f"--train.accumulate={parts}"]


def noise_of(real, nz: int):
    """Return noise that belongs to each picture, so that it is the same on any rank."""
    flat = real.flatten(1)
    return flat[:, :: flat.shape[1] // nz][:, :nz, None, None]


def middle(*size: int, **options):
    """Return numbers that are the same on any rank, in the place of drawn ones."""
    import torch

    drawn = torch.empty(*size, **options)
    return drawn.uniform_(generator=options["generator"]) if "generator" in options else drawn.fill_(0.5)


def run_all(names: list[str]) -> None:
    import torch

    import main
    from trainer.tasks.gan import GAN
    from utils import dist

    torch.set_num_threads(1)
    stop, world = dist.stop, int(os.environ.get("WORLD_SIZE", 1))
    dist.stop = lambda failed=False: dist.gather(0)  # one group trains them all; the first one writes the checkpoint
    GAN._noise = lambda self, real: noise_of(real, self.fixed_noise.shape[1])
    Path("out").mkdir(exist_ok=True)

    def typed(*words: str) -> None:
        print("==", *words, flush=True)
        if code := main.main([*words]):
            raise SystemExit(f"{words}: {code}")

    for name in names:
        rand, torch.rand = torch.rand, middle if name == "wgan_gp" else torch.rand
        typed("train", *EVERY[name], f"--run={name}-{world}")
        if world == 1 and name in ACCUMULATED:
            typed("train", *in_parts(EVERY[name]), f"--run={name}-parts")
        torch.rand = rand
        if name in TESTED:
            typed("test", f"checkpoints/{name}-{world}", f"--result-file=out/{name}-{world}.csv", *TESTED[name])
    dist.stop = stop
    dist.stop()


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    rank, world, port, *chosen = sys.argv[1:]
    if world != "1":
        os.environ |= {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    try:
        run_all(chosen or list(EVERY))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(1)
