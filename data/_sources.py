"""Say where the data of the shipped configs come from, when they are not there yet."""

from pathlib import Path

__all__ = ["advice"]

# By the folder's name in the configs.
COMPETITIONS = {
    "dogcat": "dogs-vs-cats-redux-kernels-edition",
    "house_prices": "house-prices-advanced-regression-techniques",
    "titanic": "titanic",
    "digit_recognizer": "digit-recognizer",
}
DATASETS = {"anime_faces": "splcher/animefacedataset", "captions_flickr": "adityajn105/flickr8k"}
OTHERS = {
    "cifar10": "add --data.dataset.download",
    "photos": "put photos of your own there; for style transfer http://images.cocodataset.org/zips/val2017.zip will do",
    "poems": "git clone --depth=1 https://github.com/chinese-poetry/chinese-poetry, then copy poet.tang.*.json there",
    "segmentation_isbi": "git clone --depth=1 https://github.com/zhixuhao/unet, then copy unet/data/membrane/* there",
}


def advice(path: str) -> str:
    """Return how to get the data of a folder that a shipped config names, such as data/mnist; empty for others."""
    parts = Path(path).parts
    for i, name in enumerate(parts):
        shipped = parts[i - 1 : i] == ("data",) or parts[i - 2 : i] == ("data", "tabular")
        if shipped and (source := _source(name, Path(*parts[: i + 1]))):
            return f"; to get them: {source}"
    return ""


def _source(name: str, folder: Path) -> str:
    if name == "mnist":
        return f"python -c \"from torchvision.datasets import MNIST; MNIST('{folder}', download=True)\""
    if name in COMPETITIONS:
        return f"kaggle competitions download -c {COMPETITIONS[name]} -p {folder}, then unzip it there (docs/kaggle.md)"
    if name in DATASETS:
        return f"kaggle datasets download -d {DATASETS[name]} --unzip -p {folder}"
    return OTHERS.get(name, "")
