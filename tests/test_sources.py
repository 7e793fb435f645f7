"""Where the data of the shipped configs come from is said where they are not there."""

import os

import pytest

from data._sources import COMPETITIONS, DATASETS, OTHERS, advice
from utils.language.translate import translated

CONFIGS = {  # by config: the folder, and how to get what belongs there
    "mnist": ("mnist", "MNIST('data/mnist', download=True)"),
    "mnist_gan": ("mnist", "MNIST('data/mnist', download=True)"),
    "cifar10": ("cifar10", "--data.dataset.download"),
    "dogcat": ("dogcat/train", "kaggle competitions download -c dogs-vs-cats-redux-kernels-edition -p data/dogcat,"),
    "titanic": ("tabular/titanic", "kaggle competitions download -c titanic -p data/tabular/titanic,"),
    "house_prices": (
        "tabular/house_prices",
        "-c house-prices-advanced-regression-techniques -p data/tabular/",
    ),
    "digit_recognizer": ("tabular/digit_recognizer", "-c digit-recognizer -p data/tabular/digit_recognizer,"),
    "anime_gan": ("anime_faces", "kaggle datasets download -d splcher/animefacedataset --unzip -p data/anime_faces"),
    "captions": ("captions_flickr", "download -d adityajn105/flickr8k --unzip -p data/captions_flickr"),
    "poetry": ("poems", "https://github.com/chinese-poetry/chinese-poetry"),
    "unet": ("segmentation_isbi", "https://github.com/zhixuhao/unet"),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("there", [False, True], ids=["absent", "empty"])
def test_a_config_without_its_data_says_where_to_get_them(run, tmp_path, config, there):
    folder, told = CONFIGS[config]
    if there:
        os.makedirs(tmp_path / "data" / folder)
    given = run("train", config, "--log.visdom=false", *(["--weights=none"] if config == "captions" else []))
    assert given.code == 3 and told in given.err and len(given.err.strip().splitlines()) == 1, given.err


def test_other_folders_get_no_advice():
    assert [advice(path) for path in ("nowhere", "mnist", "photos/mnist", "data/mine", "data/mine/mnist")] == [""] * 5
    assert advice("/home/me/data/mnist").endswith("MNIST('/home/me/data/mnist', download=True)\"")
    assert "data/photos" not in advice("data/photos") and advice("data/photos")
    tried = {folder.removesuffix("/train").rpartition("/")[2] for folder, _ in CONFIGS.values()}
    assert tried | {"photos"} == {*COMPETITIONS, *DATASETS, *OTHERS, "mnist"}


@pytest.mark.parametrize("folder", ["titanic", "mnist", "anime_faces", "poems", "photos"])
def test_advice_is_given_in_chinese_and_its_command_can_still_be_pasted(folder):
    english = advice(f"data/{folder}")
    told = translated(f"data/{folder}: is not there{english}")
    assert "；获取方法：" in told
    command = english.removeprefix("; to get them: ").partition(", then")[0]
    assert command in told or folder == "photos"
