"""What `make gpu-wheels` and `make gpu` do: gather packages here, use them on a machine that has a GPU but no network.

python installer/gpu.py wheels FOLDER
python installer/gpu.py run FOLDER [--photos=FOLDER] [--rehearse]

`run` needs nothing but Python, its pip and torch. Its results are in the folder that the variable OUT names.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).parent.parent
LIMIT = 40.0  # MB, of all wheels
PYTHON = "3.12"  # of the machine with the GPU
SOURCES = ("torchnet", "visdom")  # published without wheels
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
GRACE = 10  # s that a part has for its last words
PARTS = {  # seconds, 450 in all, and what is run
    "tests": (160, "-m pytest -m gpu -rs -p no:xdist {tests}"),
    "faults": (110, "-m tests.faults steps {device} --minutes=1.5 --jobs={jobs} --json={out}/faults.json"),
    "benchmarks": (180, "-m benchmarks gpu --photos={photos} --json={out}/benchmarks.json --write={table}"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="installer/gpu.py")
    parser.add_argument("command", choices=("wheels", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", default="data/dogcat/train", help="JPEG photos of dogs and cats, to measure with")
    parser.add_argument("--rehearse", action="store_true", help="go on without a GPU: tests are skipped")
    options = parser.parse_args()
    if options.command == "wheels":
        return gather(options.folder)
    return run(options.folder, options.photos, options.rehearse)


# Here


def gather(folder: Path) -> int:
    """Fill the folder with the wheels; 1 when they are too large."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    names = re.findall(r"^[\w-]+", Path(__file__).with_name("gpu-wheels.txt").read_text(), re.M)
    chosen = [pinned(name) for name in names if name not in SOURCES]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms, "-d", str(folder)]
    subprocess.run([*pip, "download", *options, *chosen], check=True)
    made = [pinned("torchnet"), str(ROOT / "installer" / "visdom")]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), *made], check=True)
    wheels = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{folder}: {len(wheels)} wheels, {size:.1f} MB of at most {LIMIT:.0f}")
    return int(size > LIMIT)


def pinned(name: str) -> str:
    """NAME==VERSION, where a version was tested."""
    lists = "\n".join((ROOT / file).read_text() for file in ("constraints.txt", "requirements-dev.txt"))
    found = re.search(rf"^{name}==\S+", lists, re.M | re.I)
    return found[0] if found else name


# There


def run(folder: Path, photos: str, rehearse: bool) -> int:
    """Install, then run each part for as long as it may take; 1 when one of them failed or was stopped."""
    if complaint := missing(folder, rehearse):
        print(f"make gpu: {complaint}", file=sys.stderr)
        return 1
    out = Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="gpu-")).absolute()
    table = out / "gpu.md" if "OUT" in os.environ else ROOT / "docs" / "performance.md"
    # Others import what such a machine may lack.
    tests = [str(path) for path in sorted(ROOT.glob("tests/test_*.py")) if "pytest.mark.gpu" in path.read_text()]
    jobs, device = min(8, os.cpu_count() or 1), "--deterministic" if rehearse else "--gpu"
    given = {"out": out, "photos": photos, "table": table, "tests": " ".join(tests), "jobs": jobs, "device": device}
    ended: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as site:
        install(folder, site)
        for name, (seconds, words) in PARTS.items():
            command = words.format(**given).split()
            ended[name] = follow(name, command, seconds, site, out / f"{name}.log")
    print(f"results: {out}; " + "; ".join(f"{name}: {end}" for name, end in ended.items()))
    return int(any(end != "done" for end in ended.values()))


def missing(folder: Path, rehearse: bool) -> str:
    """Say in a sentence what this machine lacks, "" if nothing."""
    try:
        import torch
    except ImportError:
        return f"{sys.executable} has no torch; make gpu GPU_PYTHON=… takes another Python"
    if not torch.cuda.is_available() and not rehearse:
        return f"torch {torch.__version__} finds no GPU here"
    return "" if any(folder.glob("*.whl")) else f"there are no wheels in {folder}; make gpu-wheels, with a network"


def install(folder: Path, site: str) -> None:
    """Put into `site` those of the wheels whose packages this Python does not have."""
    named = {wheel.name.partition("-")[0]: str(wheel) for wheel in sorted(folder.glob("*.whl"))}
    wanted = {name: wheel for name, wheel in named.items() if not installed(name)}
    print(f"taken from {folder}: {', '.join(wanted) or 'nothing'}", flush=True)
    options = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", site]
    if wanted:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, *wanted.values()], check=True)


def installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def follow(name: str, command: list[str], seconds: float, site: str, log: Path) -> str:
    """Run a part, show and keep what it says; how it ended."""
    print(f"== {name}, at most {seconds:.0f} s", flush=True)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), site]), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    timers = [Timer(seconds, stop, (process, signal.SIGINT)), Timer(seconds + GRACE, stop, (process, signal.SIGKILL))]
    for timer in timers:
        timer.start()
    with log.open("w") as kept:
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.write(line)
    code, late = process.wait(), not timers[0].is_alive()
    for timer in timers:
        timer.cancel()
    return f"stopped after {seconds:.0f} s" if late else "done" if code in (0, 5) else f"failed ({code})"


def stop(process: subprocess.Popen, number: int) -> None:
    """Signal a part and all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main())
