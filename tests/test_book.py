"""The book and its repository as typed: each flag and command works here, or gets the one right hint."""

import shlex

import pytest
from conftest import dogcats

from configs.hints.book import CHECKPOINT, NAMED, NETWORKS, NO_GPU, READ, ROOT, SIZE

MEANT = "did you mean '{}'?"
# The attributes of each chapter's config in the book's repository, and how each is answered: a value that is accepted
# as it is, the key that is meant, or a sentence.
CHAPTERS = {
    "dogcat": {
        "env": "=a", "vis_port": "log.visdom_port", "model": "=ResNet34", "train_data_root": "=a",
        "test_data_root": "=a", "load_model_path": "=a", "batch_size": "=7", "use_gpu": "=auto", "num_workers": "=7",
        "print_freq": "=7", "debug_file": "=/tmp/debug", "result_file": "=a.csv", "max_epoch": "=7", "lr": "=0.01",
        "lr_decay": "=0.5", "weight_decay": "=0.1", "data_root": ROOT, "load_path": CHECKPOINT,
    },
    "anime_gan": {
        "data_path": ROOT, "num_workers": "=7", "image_size": SIZE, "batch_size": "=7", "max_epoch": "=7",
        "lr1": "optim.generator.lr", "lr2": "optim.discriminator.lr",
        "beta1": "the first of optim.generator.betas and of optim.discriminator.betas, as [0.5, 0.999]",
        "gpu": "train.use_gpu", "nz": "=7", "ngf": "=7", "ndf": "=7",
        "save_path": "pictures are written into the run's folder, checkpoints/NAME, named by --run=NAME",
        "vis": "log.visdom", "env": "=a", "plot_every": "log.print_freq", "debug_file": "=/tmp/debuggan",
        "d_every": "=1", "g_every": "=5", "decay_every": "train.keep_every", "save_every": "train.keep_every",
        "netd_path": NETWORKS, "netg_path": NETWORKS, "gen_img": "generate", "gen_num": "generate",
        "gen_search_num": "generate", "gen_mean": "generate", "gen_std": "generate",
    },
    "style_transfer": {
        "image_size": SIZE, "batch_size": "=7", "data_root": ROOT, "num_workers": "=7", "use_gpu": "=auto",
        "style_path": "=a", "lr": "=0.01", "env": "=a", "plot_every": "log.print_freq", "epoches": "train.max_epoch",
        "content_weight": "=1", "style_weight": "=1", "model_path": CHECKPOINT, "debug_file": "=/tmp/debugnn",
        "content_path": "generate", "result_path": "generate",
    },
    "poetry": {
        "data_path": ROOT, "pickle_path": "--data.dataset.root=tang.npz reads the book's file",
        "author": "poems are not chosen by author; data.dataset.files chooses files",
        "constrain": "poems are not chosen by length; data.dataset.length is the length of a window",
        "category": "data.dataset.files chooses files, as poet.tang.*.json", "lr": "=0.01", "weight_decay": "=0.1",
        "use_gpu": "=auto", "epoch": "train.max_epoch", "batch_size": "=7", "maxlen": "data.dataset.length",
        "plot_every": "log.print_freq", "use_env": "log.visdom", "env": "=a", "max_gen_len": "generate",
        "debug_file": "=/tmp/debugp", "model_path": CHECKPOINT, "prefix_words": "generate", "start_words": "generate",
        "acrostic": "generate", "model_prefix": NAMED,
    },
    "captions": {
        "caption_data_path": READ, "img_path": READ, "img_feature_path": READ, "scale_size": SIZE, "img_size": SIZE,
        "batch_size": "=7", "shuffle": "=true", "num_workers": "=7", "rnn_hidden": "model.decoder.width",
        "embedding_dim": "model.decoder.embedding", "num_layers": "model.decoder.layers",
        "share_embedding_weights": "model.decoder.shared_embedding", "prefix": NAMED, "env": "=a",
        "plot_every": "log.print_freq", "debug_file": "=/tmp/debugc", "model_ckpt": CHECKPOINT, "lr": "=0.01",
        "use_gpu": "=auto", "epoch": "train.max_epoch", "test_img": "generate",
    },
}  # fmt: skip


@pytest.mark.parametrize("config", CHAPTERS)
def test_every_attribute_of_a_chapter_works_or_gets_the_one_right_hint(run, config):
    for name, answer in CHAPTERS[config].items():
        flag = f"--{name.replace('_', '-')}{answer if answer[0] == '=' else '=7'}"
        done = run("check", config, flag)
        if answer[0] == "=":
            assert (done.code, done.out) == (0, f"{config}: no mistakes found\n"), flag
            continue
        if answer == "generate":
            answer = f"it is a flag of generate: python main.py generate CHECKPOINT {flag.partition('=')[0]}=…"
        hint = answer if " " in answer else MEANT.format(answer)
        assert done.code == 2 and done.err.count("\n") == 1 and done.err.endswith(f"; {hint}\n"), (flag, done.err)


def test_there_are_87_attributes_and_more():
    assert sum(map(len, CHAPTERS.values())) >= 87


COMMANDS = {  # as their READMEs have them, and how they end: the exit code and what is said
    "train --train-data-root=data/train/ --lr=0.005 --batch-size=4 --model='LeNet' --max-epoch=20": (
        0, "config: dogcat, as data/train/ holds photos named cat.N.jpg and dog.N.jpg\n"),
    "train --train-data-root=./data/train --use-gpu --env=classifier": (2, "there is no GPU that torch can use"),
    "train --data-root=./data/train --use-gpu=True --env=classifier": (2, ROOT),
    "--data-root=./data/test --use-gpu=False --batch-size=256": (2, "the first word is a command, such as train"),
    "test --data-root=./data/test --use-gpu=False --batch-size=256 --load-path='checkpoints/squeezenet.pth'": (
        2, "which checkpoint? e.g. python main.py test checkpoints/squeezenet.pth\n"),
    "test --test-data-root=data/test1 --load-model-path='checkpoints/resnet34_00:23:05.pth' --batch-size=128": (
        4, "there is no such run folder or checkpoint"),
    "test --dataset='path'": (2, "which checkpoint? e.g. python main.py test checkpoints/NAME\n"),
    "train --gpu --vis=False": (2, "'train.use_gpu'?\n--vis=False: no key 'vis'; did you mean 'log.visdom'?\n"),
    "check anime_gan --nogpu": (2, NO_GPU),
    "generate --nogpu --vis=False --netd-path=checkpoints/netd_200.pth --netg-path=checkpoints/netg_200.pth": (
        2, "which checkpoint? e.g. python main.py generate checkpoints/NAME; a run holds both networks\n"),
    "train --use-gpu --data-root=data --batch-size=2": (2, ROOT),
    "stylize --model-path='transformer.pth' --content-path='amber.jpg' --result-path='output2.png'": (
        2, "no command 'stylize'; did you mean 'generate'?\n"),
    "generate --model-path='transformer.pth' --content-path='amber.jpg'": (
        2, "python main.py generate transformer.pth\n"),
    "train --plot-every=150 --batch-size=128 --pickle-path='tang.npz' --lr=1e-3 --env='poetry3' --epoch=50": (
        2, "--epoch=50: no key 'epoch'; did you mean 'train.max_epoch'?\n"),
    "gen --model-path='checkpoints/tang_199.pth' --pickle-path='tang.npz' --start-words='深度学习' --nouse-gpu": (
        2, "no command 'gen'; did you mean 'generate'?\n"),
    "train --img_path='caption_train_images_20170902/' --img_features_path='../results.pth'": (2, READ),
    "help": (0, "python main.py train [CONFIG]"),
}  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_works_or_says_what_to_type(run, tmp_path, line):
    dogcats(tmp_path / "data/train", 6)
    code, told = COMMANDS[line]
    short = ["--train.max_steps=1", "--num-workers=0"] if line.startswith("train") and not code else []
    short += ["--data.transform.train=[{name: Resize, size: [32, 32]}]"] * bool(short)
    short += ["--data.transform.eval=[{name: Resize, size: [32, 32]}]"] * bool(short)
    done = run(*shlex.split(line), *short)
    assert done.code == code and told in done.out + done.err, done
    assert "Traceback" not in done.err


def test_a_folder_without_a_config_tells_the_config(run, tmp_path):
    dogcats(tmp_path / "flat")
    for name in ("classes/a", "classes/b", "splits/train/a", "splits/train/b", "splits/val/a", "splits/val/b", "one/a"):
        dogcats(tmp_path / name)
    (tmp_path / "empty").mkdir()
    chosen = {"flat": "dogcat", "classes": "image_folder", "splits": "image_folder"}
    for folder, config in chosen.items():
        done = run("check", f"--train-data-root={folder}", "--print")
        assert done.code == 0 and done.out.startswith(f"config: {config}, as {folder} holds "), done
        assert f"\ndata.train_data_root: {folder}  #" in done.out and f"\n{config}: no mistakes found" in done.out
    for folder in ("empty", "one"):
        done = run("check", f"--train-data-root={folder}")
        assert done.code == 2 and "name one, as in train csv_images" in done.err
    assert run("check", "--train-data-root=absent").code == 3
    for words in (["mnist"], ["--dataset=DogCat"], ["--config=dogcat"]):  # named: the folder is not looked at
        assert run("check", *words, "--train-data-root=absent").code == 0
