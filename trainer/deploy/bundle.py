"""The command bundle: code, config and checkpoint in one zip, with a notebook, for a machine without internet."""

import ast
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from configs import resolve
from trainer.deploy.notebook import notebook
from trainer.inference.trained import LoadedRun
from utils.blame import ROOT
from utils.config.cli import Flag
from utils.config.places import own_folder
from utils.errors import ConfigError, DataError
from utils.files import write_atomic
from utils.terminal import show
from utils.words import count_of

__all__ = ["bundle"]

ROOMS = ("commands", "configs", "data", "models", "trainer", "utils")
OWN = ("configs", "data", "models")  # folders of a user, in the current folder
CODE = (".py", ".yaml", ".yml")
# Packages that Kaggle's image has, by the name that is imported, as far as networks and data want them.
THERE = {
    "PIL",
    "albumentations",
    "cv2",
    "filelock",
    "fsspec",
    "h5py",
    "joblib",
    "matplotlib",
    "nltk",
    "numpy",
    "pandas",
}
THERE |= {"requests", "safetensors", "scipy", "sklearn", "skimage", "tensorboard", "timm", "torch", "torchaudio"}
THERE |= {"torchvision", "tqdm", "transformers", "yaml"}


def bundle(checkpoint: str, out: str, packages: Sequence[str], flags: Sequence[Flag]) -> None:
    """Write the zip. `packages` are downloaded as wheels; `flags` go to the command of the notebook.

    Raises ConfigError for an impossible `out` or package, CheckpointError for a run without a checkpoint.
    """
    target = Path(out)
    if target.suffix.lower() != ".zip" or target.is_dir():
        raise ConfigError(f"--out={out}: a bundle is a zip; give a name that ends in .zip")
    files = {f"deeptrain/{path.relative_to(ROOT)}": path for path in _program()}
    here = own_folder()
    own = {str(path.relative_to(here)): path for path in _code(here, OWN)} if here.resolve() != ROOT.resolve() else {}
    for note in _lacking(own, packages):
        show(note)
    kept: dict[str, Path] = {}
    if not checkpoint:
        config = next((flag.text for flag in flags if flag.key == "config"), "default")
        flags = [flag for flag in flags if flag.key != "config"]
        resolve(config, flags, ("run",))
        words = ["train", config]
    else:
        run = LoadedRun(checkpoint)
        run.load_task(flags)  # now, not on the machine without internet
        folder = f"checkpoints/{run.source.parent.name}"
        kept = {f"{folder}/{path.name}": path for path in _of_run(run.source)}
        words = ["test", f"{folder}/{run.source.name}"]
    with TemporaryDirectory() as place:
        wheels = {f"wheels/{path.name}": path for path in _wheels(packages, Path(place))}
        every = {**files, **own, **kept, **wheels}
        text = notebook(target.name, [*words, *(flag.typed for flag in flags)])
        data = _zipped(every, {"notebook.ipynb": text, "bundle.json": json.dumps({"command": words})})
    write_atomic(target, data)
    parts = [f"{count_of(len(files), 'file')} of the program", f"{len(own)} of your own", *kept]
    show(f"{target}: {len(data) / 1e6:.2g} MB: {', '.join(parts)}, notebook.ipynb")
    told = ", ".join(path.rpartition("/")[2] for path in wheels)
    show(
        f"wheels: {told}" if told else "wheels: none, for what Kaggle's image lacks (fire, visdom, …) is optional here"
    )
    show("upload the zip as a dataset, then notebook.ipynb as a kernel; docs/kaggle.md says how")


def _program() -> Iterator[Path]:
    """Yield the files of the program: those of rooms, and no data that lie among them."""
    yield from (path for name in ("main.py", "pyproject.toml", "LICENSE") if (path := ROOT / name).is_file())
    for room in ROOMS:
        rooms = [ROOT / room, *(path.parent for path in sorted((ROOT / room).rglob("__init__.py")))]
        for folder in dict.fromkeys(rooms):
            yield from sorted(path for path in folder.iterdir() if path.suffix in CODE and path.is_file())


def _code(folder: Path, rooms: Sequence[str]) -> Iterator[Path]:
    """Yield the code in rooms of a folder, as the command line finds it there."""
    for room in rooms:
        yield from sorted(path for path in (folder / room).glob("*") if path.suffix in CODE and path.is_file())


def _of_run(source: Path) -> Iterator[Path]:
    """Yield the checkpoint with its checksum, and the small files that tell about the run."""
    yield from sorted(path for path in source.parent.glob(f"{source.name}*") if not path.name.endswith(".tmp"))
    yield from (path for name in ("config.yaml", "data.txt") if (path := source.with_name(name)).is_file())


def _lacking(own: dict[str, Path], packages: Sequence[str]) -> Iterator[str]:
    """Yield a note about each package that one's own code imports, which Kaggle's image may lack."""
    known = {*sys.stdlib_module_names, *ROOMS, *THERE, *packages}
    for name, path in own.items():
        if path.suffix != ".py":
            continue
        try:
            nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        except (SyntaxError, UnicodeDecodeError):  # other commands tell of it
            continue
        found = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        found |= {(n.module or "").partition(".")[0] for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
        for package in sorted(found - known):
            yield f"note: {name} imports {package}; if Kaggle lacks it: --wheels={package}"


def _wheels(packages: Sequence[str], place: Path) -> list[Path]:
    """Download packages as wheels, without those that they need. Raises DataError where pip has none."""
    if not packages:
        return []
    if odd := [name for name in packages if name.startswith("-")]:
        raise ConfigError(f"--wheels={odd[0]}: is no package")
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--no-deps", "-q", "-d", str(place)]
    done = subprocess.run([*command, "--disable-pip-version-check", *packages], capture_output=True, text=True)
    if done.returncode:
        reason = next(
            (line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip()[-200:]
        )
        raise DataError(f"--wheels={','.join(packages)}: pip cannot download it: {reason}")
    return sorted(place.glob("*.whl"))


def _zipped(files: dict[str, Path], texts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.writestr(name, path.read_bytes())
        for name, text in texts.items():
            archive.writestr(name, text)
    return buffer.getvalue()
