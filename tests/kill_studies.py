"""A sweep of 12 children that is killed 10 times at random moments, and resumed to the table of one in a piece.

python -m tests.kill_studies [--kills=10] [--seed=0]      in an empty folder; also `make kills`
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
TYPED = [
    "--model=MLP",
    "--model.dropout=0.2",
    "--optim=Adam",
    "--max-epoch=3",
    "--print-freq=1",
    "--train.save_steps=5",
]
TYPED += ["--log.visdom=false", "--log.pictures=false", "--lr=1e-2,3e-3,1e-3,3e-4", "--seed=0..2", "--jobs=2"]


def start(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "main.py"), "sweep", *TYPED, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(folder / "told.txt", "a") as told:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=told, stderr=told)


def table(folder: Path, name: str) -> str:
    command = [sys.executable, str(ROOT / "main.py"), "runs", name]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def journals(folder: Path, name: str) -> dict[str, list[dict]]:
    """The rows of each child, without the times."""
    found = {}
    for path in sorted((folder / "checkpoints" / name).glob("*/log.jsonl")):
        rows = map(json.loads, path.read_text().splitlines())
        found[path.parent.name] = [{key: value for key, value in row.items() if key != "time"} for row in rows]
    return found


def finished(folder: Path, name: str) -> dict[str, int]:
    """The finished children, with the time of their last checkpoint."""
    found = {}
    for path in (folder / "checkpoints" / name).glob("*/status.json"):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text())["state"] == "finished":
                found[path.parent.name] = (path.parent / "last.pth").stat().st_mtime_ns
    return found


def kill(parent: subprocess.Popen, folder: Path, rng: random.Random) -> str:
    """SIGKILL to the parent, or to one of its children."""
    living = []
    for path in (folder / "checkpoints" / "cut").glob("*/status.json"):
        with suppress(OSError, ValueError):
            facts = json.loads(path.read_text())
            living += [facts["pid"]] if facts["state"] == "running" else []
    if living and rng.random() < 0.4:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(living), signal.SIGKILL)
        return "a child"
    parent.kill()
    parent.wait()
    return "the parent"


def main(kills: int, seed: int) -> None:
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp())
    began = time.monotonic()
    assert start(folder, "--run=whole").wait() == 0, (folder / "told.txt").read_text()
    length = time.monotonic() - began
    print(f"in a piece: {length:.0f} s", flush=True)
    parent, counts, resumes, kept = start(folder, "--run=cut"), {}, 0, {}
    for _ in range(kills):
        end = time.monotonic() + 1 + rng.random() * length / 6
        while time.monotonic() < end and parent.poll() is None:
            time.sleep(0.01)
        which = kill(parent, folder, rng) if parent.poll() is None else "nothing: it had ended"
        counts[which] = counts.get(which, 0) + 1
        if parent.poll() is not None:
            kept |= finished(folder, "cut")
            more = ["--resume=checkpoints/cut"] if (folder / "checkpoints/cut/study.json").exists() else ["--run=cut"]
            parent, resumes = start(folder, *more), resumes + 1
    while (code := parent.wait()) != 0:
        assert code in (137, 143), (code, (folder / "told.txt").read_text()[-2000:])
        parent, resumes = start(folder, "--resume=checkpoints/cut"), resumes + 1
        assert resumes < 3 * kills, "it does not come to an end"
    assert table(folder, "cut") == table(folder, "whole"), table(folder, "cut")
    assert journals(folder, "cut") == journals(folder, "whole")
    now = finished(folder, "cut")
    assert all(now[name] == at for name, at in kept.items()), "a finished child was trained again"
    told = ", ".join(f"{count} x {which}" for which, count in counts.items())
    print(
        f"killed {kills} times ({told}), resumed {resumes} times: the same table, {len(now)} journals without a change"
    )


if __name__ == "__main__":
    given = dict(word.removeprefix("--").split("=") for word in sys.argv[1:])
    main(int(given.get("kills", 10)), int(given.get("seed", 0)))
