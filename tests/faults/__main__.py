"""The command: python -m tests.faults [FAMILY …] [--trials=N] [--seed=S] [--scale=0.1] [--json=PATH] [--write=PATH]."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the networks are tiny, and two trials run at a time
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's threads could not be forked

import argparse
import json
import shutil
import sys
from pathlib import Path

from tests.faults import campaign

NAMES = ("kill", "steps", "save", "crash", "corrupt", "storage", "signals", "owners", "fuzz", "workers")


def main(arguments: list[str]) -> int:
    """Run the families' trials; 0 when every promise was kept and every broken variant found out."""
    options = parse(arguments)
    results = []
    try:
        for name in options.families or NAMES:
            family = campaign.load(name)
            seeds = campaign.trials_of(family, options.trials, options.seed, options.scale)
            results.append(campaign.run(family, seeds, options.jobs, controls=options.seed is None))
            print("\n".join([results[-1].line(), *results[-1].complaints()]), flush=True)
    finally:
        if not os.environ.get("FAULTS_KEEP"):
            shutil.rmtree(campaign.SCRATCH, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([result.as_dict() for result in results], indent=1) + "\n")
    return 0 if all(result.good for result in results) else 1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(NAMES))
    parser.add_argument("--trials", type=int, help="so many of each family, evenly spread over all")
    parser.add_argument(
        "--seed", type=int, help="begin with this one; one trial unless --trials says more, no controls"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the whole campaign")
    parser.add_argument("--jobs", type=int, default=campaign.JOBS, help="trials at a time")
    parser.add_argument("--json", type=Path, help="write what came of it to this file")
    parser.add_argument("--write", type=Path, help="fill the table in this file")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.families if name not in NAMES]:
        parser.error(f"no family {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
