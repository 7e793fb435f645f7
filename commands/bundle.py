"""bundle: put the program, a run and a notebook into one zip, for a kernel without internet.

python main.py bundle [RUN] --out=FILE.zip [--wheels=NAME,…] [--key=value …]

The zip holds the code, your own files in models/, data/ and configs/, the
config and the checkpoint of RUN (its best, otherwise its last), and
notebook.ipynb with three cells: unpack, test, show the submission. Without
RUN the notebook trains. Keys, such as --test-data-root=FOLDER, go into the
command in the notebook. No package has to be installed beside those of
Kaggle's image; the program goes on without fire, torchnet, visdom and
tensorboardX.

  --out=FILE.zip   the zip to write
  --wheels=NAME,…  download these packages, which your own code imports
"""

from collections.abc import Sequence

from commands._arguments import one_word, split
from utils.config.cli import Flag
from utils.errors import ConfigError

__all__ = ["run"]


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Write a bundle. Raises ConfigError without a name for it."""
    options, keys = split(flags, ("out", "wheels"))
    if not options.get("out"):
        raise ConfigError("bundle: which file? e.g. python main.py bundle checkpoints/NAME --out=bundle.zip")
    packages = [name.strip() for name in options.get("wheels", "").split(",") if name.strip()]
    checkpoint = one_word("bundle", words)
    from trainer.deploy.bundle import bundle

    bundle(checkpoint, options["out"], packages, keys)
