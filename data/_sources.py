"""Say where the data of the shipped configs come from, when they are not there yet."""

from pathlib import Path

__all__ = ["advice"]

KAGGLE = "kaggle competitions download -c {} -p {{}}, then unzip it there (docs/kaggle.md)"
DATASET = "kaggle datasets download -d {} --unzip -p {{}}"
# By the folder's name in the configs; {} is its path.
SOURCES = {
    "mnist": "python -c \"from torchvision.datasets import MNIST; MNIST('{}', download=True)\"",
    "cifar10": "add --data.dataset.download",
    "dogcat": KAGGLE.format("dogs-vs-cats-redux-kernels-edition"),
    "house_prices": KAGGLE.format("house-prices-advanced-regression-techniques"),
    "titanic": KAGGLE.format("titanic"),
    "digit_recognizer": KAGGLE.format("digit-recognizer"),
    "anime_faces": DATASET.format("splcher/animefacedataset"),
    "captions_flickr": DATASET.format("adityajn105/flickr8k"),
    "photos": "put photos of your own there; for style transfer http://images.cocodataset.org/zips/val2017.zip will do",
    "poems": "git clone --depth=1 https://github.com/chinese-poetry/chinese-poetry, then copy poet.tang.*.json there",
    "segmentation_isbi": "git clone --depth=1 https://github.com/zhixuhao/unet, then copy unet/data/membrane/* there",
}


def advice(path: str) -> str:
    """Return how to get the data of a folder that a shipped config names, such as data/mnist; empty for others."""
    parts = Path(path).parts
    for i, name in enumerate(parts):
        if name in SOURCES and (parts[i - 1 : i] == ("data",) or parts[i - 2 : i] == ("data", "tabular")):
            return f"; to get them: {SOURCES[name].format(Path(*parts[: i + 1]))}"
    return ""
