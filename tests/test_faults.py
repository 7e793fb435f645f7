"""The fault campaign in small: its quick families, and a share of all; and what it is made of."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from tests.faults import __main__ as command
from tests.faults import report
from tests.faults.campaign import Family, Result, Trial, Violation, require, run_trial, spread, trials_of
from tests.faults.disk import Model
from tests.faults.syscalls import Call


def campaign(folder: Path, *arguments: str) -> dict:
    """What a campaign says of itself; a process of its own, since only one without threads can be forked."""
    target = folder / "faults.json"
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    given = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments, f"--json={target}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert target.exists(), given.stdout + given.stderr
    assert not list(folder.glob("faults-*")), "temporary folders are left"
    return {family["name"]: family | {"said": given.stdout} for family in json.loads(target.read_text())["families"]}


@pytest.fixture(scope="module")
def small(request, tmp_path_factory):
    """The campaign in small, of those families whose tests were chosen."""
    tests = [item for item in request.session.items if item.name.startswith("test_in_small")]
    names = dict.fromkeys(item.callspec.params["name"] for item in tests)
    return campaign(tmp_path_factory.mktemp("faults"), *names, "--small")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crash", "corrupt"])  # the quick ones; the share has the others
def test_in_small(small, name):
    family = small[name]
    assert family["trials"] == command.NAMES[name]
    assert not family["failures"], family["said"]
    assert all(family["controls"].values()) and len(family["controls"]) == 1, family["said"]


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A twentieth of the campaign, with two broken variants a family."""
    return campaign(tmp_path_factory.mktemp("faults"), "--scale=0.05", "--broken=2")


@pytest.mark.slow
@pytest.mark.parametrize("name", command.NAMES)
def test_a_share(larger, name):
    family = larger[name]
    assert family["good"] and family["trials"] > 2 and len(family["controls"]) == 2, family["said"]


# The campaign's own parts


def violating(t: Trial) -> str:
    require(t.broken or t.seed % 2, f"seed {t.seed}")
    require(t.broken != "found", "broken")
    if t.seed == 7:
        raise KeyError("x")
    return str(t.rng.random())


FAMILY = Family("fake", "a fault", "a promise", 10, violating, ("found", "missed"))


def test_a_trial_is_a_function_of_its_seed():
    one, two, other = (run_trial(FAMILY, seed) for seed in (3, 3, 5))
    assert one == two != other and one[0] == ""
    assert run_trial(FAMILY, 4) == ("seed 4", "")
    assert run_trial(FAMILY, 4, "missed")[0] == "" and run_trial(FAMILY, 4, "found")[0] == "broken"
    assert run_trial(FAMILY, 7)[0].startswith("the trial broke: KeyError: 'x'"), "that proves nothing"


def test_seeds_are_spread_over_all_or_begin_where_asked():
    assert spread(10, 5) == [0, 2, 4, 6, 8] and spread(3, 9) == [0, 1, 2] and spread(10, 0) == [0]
    assert trials_of(FAMILY, None, None, 1.0) == list(range(10))
    assert len(trials_of(FAMILY, None, None, 0.25)) == 3
    assert trials_of(FAMILY, None, 17, 1.0) == [17] and trials_of(FAMILY, 3, 17, 1.0) == [17, 18, 19]


def test_a_result_is_good_only_when_all_passed_and_every_control_failed():
    result = Result("fake", "a fault", "a promise", trials=2, passed=2, controls={"found": "broken"})
    assert result.good and not list(result.complaints())
    assert not Result("fake", "", "", trials=2, passed=1, failures=[{"seed": 4, "message": "x"}]).good
    result.controls["missed"] = ""
    assert not result.good and "'missed' was not found out" in next(result.complaints())


def test_a_failed_trial_is_told_with_the_command_that_repeats_it():
    failed = Result("kill", "", "", trials=1, failures=[{"seed": 17, "message": "two\nlines"}])
    assert "python -m tests.faults kill --seed=17" in "".join(failed.complaints())
    assert "two lines" in "".join(failed.complaints())


def test_families_are_known_by_name(capsys):
    with pytest.raises(SystemExit) as end:
        command.parse(["kil"])
    assert end.value.code == 2 and "no family kil; there are kill, steps" in capsys.readouterr().err


def test_the_table_is_written_between_its_marks(tmp_path):
    path = tmp_path / "text.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    result = Result("kill", "`kill -9`", "the same", trials=1500, passed=1499, controls={"a": "x", "b": ""}, seconds=90)
    report.write(path, [result])
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    row = r"\| \*\*kill\*\*: `kill -9` \| the same \| 1,500 \| 1,499 \| 1 of 2 \| \w+.*, \d{4}-\d\d-\d\d, 2 min \|"
    assert re.search(row, text) and re.search(r"On \d+ cores, .*torch \d", text)
    report.write(path, [replace(result, name="save")])
    assert re.search(row, path.read_text()) and "| **save**" in path.read_text()
    path.write_text("no marks")
    with pytest.raises(ValueError, match="no place for the table"):
        report.write(path, [result])


def test_the_shipped_text_has_a_place_for_the_table():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    promise = "*bit-exact on CPU, and on GPU with `deterministic: true`; otherwise exact in steps and data; given the "
    assert f"{promise}same versions, thread count and world size.*" in text


def test_a_power_cut_loses_what_was_not_synced():
    root, model = Path("/run"), Model()

    def call(name: str, path: str = "/run", target: str = "", data: bytes = b"") -> set:
        model.apply(Call(name, path, target, data), root)
        return set(model.states())

    assert call("create", "/run/a") == {(), (("a", b""),)}
    assert (("a", b"xy"),) in call("write", "/run/a", data=b"xy") and (("a", b"x"),) in set(model.states())
    call("fsync", "/run/a")
    assert call("fsync") == {(("a", b"xy"),)}
    assert call("replace", "/run/a", "/run/b") == {(("a", b"xy"),), (("b", b"xy"),)}
    assert call("fsync") == {(("b", b"xy"),)}


def test_renames_may_happen_in_another_order():
    root, model = Path("/run"), Model()
    for name in ("a", "b"):
        model.apply(Call("create", f"/run/{name}"), root)
    model.apply(Call("fsync", "/run"), root)
    for name, target in (("a", "c"), ("b", "d")):
        model.apply(Call("replace", f"/run/{name}", f"/run/{target}"), root)
    names = {tuple(name for name, _ in state) for state in model.states()}
    assert names == {("a", "b"), ("b", "c"), ("a", "d"), ("c", "d")}


def test_violations_are_not_mistaken_for_other_failures():
    with pytest.raises(Violation, match="broken"):
        violating(Trial("fake", 1, Path(), "found"))


def test_a_family_whose_trials_test_too_little_is_not_good(monkeypatch):
    from tests.faults import campaign as parts

    def half(t: Trial) -> str:
        return f"kind {t.seed % 2}"

    for least, good in ((0.5, True), (0.6, False)):
        family = Family("half", "a fault", "a promise", 100, half, (), None, {"kind 1": least})
        monkeypatch.setattr(parts, "load", lambda name, family=family: family)
        result = parts.run(family, range(100), 1, ())
        assert result.good is good, result
        assert list(result.complaints()) == ([] if good else ["  TOO FEW kind 1: the trials test too little"])
