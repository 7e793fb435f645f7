"""Measure this project beside its peers: python -m benchmarks [GROUP …] [--quick] [--write FILE] [--json FILE]."""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from benchmarks.rows import Options, Row, missing

GROUPS = (
    "step",
    "loader",
    "start",
    "logging",
    "checkpoint",
    "pixels",
    "memory",
    "precision",
    "ranks",
    "order",
    "shards",
    "gpu",
    "job",
)
WHEN_NAMED = ("job",)  # takes longer than all the others


def main(words: list[str]) -> int:
    """Measure the groups that are named, or all but the longest; gives 1 if one of them failed."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for every process that is started, too
    arguments = _arguments(words)
    import torch

    from benchmarks import machine, report

    torch.set_num_threads(1)
    described = machine.describe()
    print("; ".join(f"{name}: {value}" for name, value in described.items()))
    print(f"load on the machine before: {os.getloadavg()[0]:.1f}; it should be near 0", flush=True)
    groups = [name for name in GROUPS if name in (arguments.groups or set(GROUPS) - set(WHEN_NAMED))]
    options = Options(quick=arguments.quick, photos=arguments.photos.absolute())
    rows: list[Row] = []
    told: list[Row] = []
    broken = []
    for group in groups:
        broken += [group] * (not _measure(group, options, rows))
        told = rows
        if arguments.json:  # after each group: what comes last may take long, and fail
            kept = report.kept_rows(arguments.json, described, {row.group for row in rows})
            told = sorted(kept + rows, key=lambda row: GROUPS.index(row.group))
            report.write_json(arguments.json, described, arguments.quick, told)
    if arguments.write:
        report.write_table(arguments.write, described, arguments.quick, told)
    return int(bool(broken))


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this project beside its peers.")
    names = f"{', '.join(GROUPS)}; default: all but {', '.join(WHEN_NAMED)}"
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=names)
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it work? the numbers say nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table in this Markdown file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows; groups not measured now stay in it")
    parser.add_argument("--photos", type=Path, default=Path("data/dogcat/train"), metavar="FOLDER", help="JPEG photos")
    found = parser.parse_intermixed_args(words)
    if unknown := set(found.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return found


def _measure(group: str, options: Options, rows: list[Row]) -> bool:
    """Add a group's rows, printed as they come; False if it failed, which its last row says."""
    begin = time.perf_counter()
    try:
        for row in importlib.import_module(f"benchmarks.{group}").measure(options):
            print(row, flush=True)
            rows.append(row)
    except (Exception, KeyboardInterrupt) as error:  # what was measured is written all the same
        rows.append(missing(group, "the rest of this group", f"it failed ({type(error).__name__}: {error})"))
        print(rows[-1], flush=True)
        return False
    print(f"{group}: {time.perf_counter() - begin:.0f} s in all", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
