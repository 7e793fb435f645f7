"""The command: see --help."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the networks are tiny, and two trials run at a time
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's threads could not be forked

import argparse
import json
import math
import shutil
import sys
import time
from pathlib import Path

from tests.faults import campaign, report

NAMES = {  # as in the table; and how many trials `--small` makes of each, some seconds' worth
    "kill": 4,
    "steps": 4,
    "save": 12,
    "crash": 150,
    "corrupt": 200,
    "storage": 4,
    "signals": 4,
    "workers": 4,
    "nonfinite": 4,
    "owners": 2,
    "ranks": 4,
    "fuzz": 40,
    "hostile": 8,
    "accepted": 8,
    "meaning": 12,
    "parts": 4,
}


def main(arguments: list[str]) -> int:
    """Run the families' trials; 0 when every promise was kept and every broken variant found out."""
    options = parse(arguments)
    results, began = [], time.monotonic()
    if options.gpu or options.deterministic:
        campaign.DEVICE += [f"--use-gpu={options.gpu}", "--train.deterministic"]
    if not options.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    campaign.end = began + 60 * options.minutes if options.minutes else math.inf
    try:
        for name in options.families or NAMES:
            family = campaign.load(name)
            trials = NAMES[name] if options.small else options.trials
            seeds = campaign.trials_of(family, trials, options.seed, options.scale)
            whole = options.seed is None and not options.minutes
            controls = family.controls[: 1 if options.small else options.broken] if whole else ()
            results.append(campaign.run(family, seeds, options.jobs, controls))
            print("\n".join([results[-1].line(), *results[-1].complaints()]), flush=True)
    finally:
        if not os.environ.get("FAULTS_KEEP"):
            shutil.rmtree(campaign.SCRATCH, ignore_errors=True)
    good = all(result.good for result in results)
    if options.json:
        content = {**report.circumstances(), "good": good, "families": [result.as_dict() for result in results]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.write:
        report.write(options.write, results)
    print(f"{'every promise kept' if good else 'FAILED'}: {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults, and what must come of them.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"{', '.join(NAMES)}; left out: all")
    parser.add_argument("--trials", type=int, help="so many of each family, evenly spread over all")
    parser.add_argument(
        "--seed", type=int, help="begin with this one; one trial unless --trials says more, no controls"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the whole campaign")
    parser.add_argument("--broken", type=int, help="at most so many broken variants of each family; left out: all")
    parser.add_argument("--small", action="store_true", help="a minute's worth, with one broken variant each")
    parser.add_argument("--gpu", action="store_true", help="train on a GPU, with train.deterministic; fewer trials")
    parser.add_argument("--deterministic", action="store_true", help="the same on the CPU")
    parser.add_argument("--minutes", type=float, help="begin no trial after so many; in any order, no controls")
    parser.add_argument("--jobs", type=int, default=campaign.JOBS, help="trials at a time")
    parser.add_argument("--json", type=Path, help="write what came of it to this file")
    parser.add_argument("--write", type=Path, help="fill the table in this file")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.families if name not in NAMES]:
        parser.error(f"no family {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
