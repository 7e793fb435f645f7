"""Keep with a run what it was made of: command, places of its keys, code, versions, hardware, data."""

import os
import platform
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from configs import COMPONENTS, Config
from data.protocol import identity_of
from trainer.watchers.watcher import Run, Watcher
from utils import dist
from utils.config.convert import flatten, to_plain
from utils.errors import StorageError
from utils.runs import record
from utils.runs.group import launch_id
from utils.runs.record import read_record, write_record

__all__ = ["Origin", "Recorder", "Place", "begin_record", "data_paths", "hardware"]

PATIENCE = 60  # s that the end of a run waits for the hashes of its data
NAMES = ("data.dataset", "task", "test.result_file")  # texts that name no data


class Origin(NamedTuple):
    """How a run was asked for."""

    config: str  # the name or path of its config; "python" for one from Python
    command: Sequence[str] = ()  # as it was typed
    places: Mapping[str, str] = {}  # by key: the file and line, or the flag, that set it; defaults are left out
    why: str = ""  # the reason for the config, where none was named


def begin_record(path: Path, origin: Origin) -> None:
    """Write how a new run was asked for. Raises StorageError."""
    known = {"command": list(origin.command), "places": dict(origin.places), "folder": os.getcwd()}
    write_record(path, known | ({"launch": launch_id()} if launch_id() else {}))


class Recorder(Watcher):
    """Completes the record of a new run, in a thread of its own: large data take a while to read."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None

    def begin(self, run: Run) -> None:
        """Begin to write reproduce.json and code.zip, unless the run has them: it was resumed."""
        folder = run.folder
        if folder is None or "versions" in (known := read_record(folder)):
            return
        loaders = {"train": run.train_loader, "val": run.val_loader}
        names = {
            f"{split} split": identity_of(loader.dataset) for split, loader in loaders.items() if loader is not None
        }
        known |= {"seed": run.cfg.train.seed, "hardware": hardware(run.device), "versions": record.versions()}
        self.thread = threading.Thread(target=_complete, args=(folder, known, names, run.cfg), daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Wait until the record is whole."""
        if self.thread is not None:
            self.thread.join(PATIENCE)


def _complete(folder: Path, known: dict[str, Any], names: Mapping[str, str], cfg: Config) -> None:
    """Write the code and the hashes of the data. Of a folder that is gone or full the run itself tells."""
    with suppress(StorageError, OSError):
        files = record.code_files()
        known |= {"commit": record.commit(), "code": record.hashes(files)}
        record.write_into(folder, record.CODE, record.archive(files))
        write_record(folder, known)
        known["data"] = {**names, **{place.text: record.content_of(place.path)["hash"] for place in data_paths(cfg)}}
        write_record(folder, known)


def hardware(device: torch.device) -> dict[str, str]:
    """Return what rounds the numbers of a run: processor, its instruction set, threads, device, processes."""
    return {
        "system": platform.system(),
        "processor": record.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": str(dist.world_size()),
    }


class Place(NamedTuple):
    """A file or folder that a config names."""

    key: str
    text: str  # as the config has it
    path: str  # where it lies


def data_paths(cfg: Config, elsewhere: str = "") -> list[Place]:
    """Return the files and folders that a config names and that are there, or below the folder `elsewhere`."""
    dataset, plain = cfg.data.dataset, to_plain(cfg)
    takes = COMPONENTS["data"].signature(dataset.name).parameters
    named = {f"data.dataset.{name}": parameter.default for name, parameter in takes.items()}
    named |= flatten({part: plain[part] for part in ("data", "task", "test")})
    named["train.load_model_path"] = cfg.train.load_model_path
    named |= {f"train.load.{role}": path for role, path in cfg.train.load.items()}
    found = []
    for key, text in named.items():
        if not isinstance(text, str) or not text.strip("./") or key in NAMES or key.endswith("name"):
            continue
        paths = [os.path.expanduser(text), os.path.join(elsewhere, text)]
        found += [Place(key, text, path) for path in paths if os.path.exists(path)][:1]
    return found
