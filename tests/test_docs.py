"""The documents: alike in both languages, links that lead somewhere, a current reference, commands that work."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_data import make_data

from commands._reference import PAGES as REFERENCE
from commands._reference import reference
from configs import COMPONENTS

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [ENGLISH, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRANSLATED = sorted((ROOT / "docs" / "zh").glob("*.md"))
ALL = [*PAGES, CHINESE, *TRANSLATED]
PROMISE = (
    "bit-exact on CPU, and on GPU with `deterministic: true`; otherwise exact in steps and data; "
    "given the same versions, thread count and world size"
)
PROMISED = (
    "在 CPU 上逐位一致，在 GPU 上设置 `deterministic: true` 时也逐位一致；否则步数与数据完全一致；"
    "前提是软件版本、线程数和进程数（world size）相同"
)
FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.M)
INLINE = re.compile(r"`((?:python main\.py|torchrun) [^`]+)`")
PLACEHOLDER = re.compile(r"\b(CONFIG|RUN|NAME|KEY|FILE|TOPIC|CHECKPOINT)\b")  # `help NAME` is a form, no command
TABLE = re.compile(r"^\| [A-Z]-\d\d \|.*$", re.M)  # of the rows of the sources: tests/test_rows.py runs their commands
GENERATED = re.compile(r"<!-- ([\w ]+): begin -->.*?<!-- \1: end -->", re.S)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)]+)\)")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks: what stands behind the fence, and the lines, without the indent of a list."""
    found = FENCE.findall(text(page))
    return [(info, "\n".join(line.removeprefix(indent) for line in body.splitlines())) for indent, info, body in found]


def files(page: Path) -> dict[str, str]:
    """The files that are shown in full, by their path."""
    return {info.partition(" ")[2]: body + "\n" for info, body in blocks(page) if " " in info}


def shown_in_full() -> dict[str, str]:
    """The files of all pages."""
    return {path: content for page in PAGES for path, content in files(page).items()}


def commands(page: Path) -> list[list[str]]:
    """Each line of a block `sh`, without its comment, and the commands in the text between; as words."""
    lines = [line for info, body in blocks(page) if info == "sh" for line in body.replace("\\\n", " ").splitlines()]
    prose = TABLE.sub("", FENCE.sub("", text(page)))
    lines += [line for line in INLINE.findall(prose) if not PLACEHOLDER.search(line)]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def anchors(words: str) -> list[str]:
    """What `#…` behind a link may be, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", words), re.M)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


# Both languages


def by_hand(page: Path) -> str:
    """The page without the tables that a program writes, which stand in the English one alone."""
    return GENERATED.sub("", text(page))


def place(page: Path, target: str) -> tuple[str, int]:
    """Where a link leads, in any language: the page's English name, and the number of the heading."""
    path, _, anchor = target.partition("#")
    other = (page.parent / path).resolve() if path else page
    name = other.relative_to(ROOT).as_posix().replace(".zh-CN", "").replace("docs/zh/", "docs/")
    return name, anchors(by_hand(other)).index(anchor) if anchor else 0


def links(page: Path) -> list[tuple[str, str | tuple[str, int]]]:
    """The links and pictures of a page; those to itself in the other language are left out."""
    found = [(mark, target) for mark, _, target in LINK.findall(FENCE.sub("", by_hand(page)))]
    twin = ENGLISH.name if page in (ENGLISH, CHINESE) else page.name
    others = [(mark, target) for mark, target in found if not re.match(rf"(\.\./|zh/|)({twin}|{CHINESE.name})", target)]
    return [(mark, target if target.startswith("http") else place(page, target)) for mark, target in others]


def bare(kind: str, body: str) -> str:
    """A block without comments, which may be translated; a program's output in Chinese is nothing to compare."""
    if kind == "text":
        return "" if re.search(r"[\u4e00-\u9fff]", body) else body
    return re.sub(r"(^|[ \t]+)#.*", "", body, flags=re.M) if kind in ("sh", "yaml") else body


def shape(page: Path) -> dict[str, list]:
    """What a page and its translation have in common."""
    plain = FENCE.sub("", by_hand(page))
    rows = [line for line in plain.splitlines() if line.startswith("|")]
    return {
        "commands": commands(page),
        "blocks": [(info, bare(info.partition(" ")[0], body)) for info, body in blocks(page)],
        "headings": re.findall(r"^#+(?= )", plain, re.M),
        "links": sorted(map(str, links(page))),
        "cells": [line.count("|") for line in rows],
        "figures": [sorted({*re.findall(r"\d[\d,.]*\d", line)}) for line in rows],
    }


PAIRS = [(ENGLISH, CHINESE), *((ROOT / "docs" / page.name, page) for page in TRANSLATED)]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[english.name for english, _ in PAIRS])
def test_a_page_says_the_same_in_both_languages(english, chinese):
    ours, theirs = shape(english), shape(chinese)
    for output, translated in zip(ours["blocks"], theirs["blocks"], strict=True):
        assert output == translated or translated == ("text", "")
    for what in ("commands", "headings", "links", "cells", "figures"):
        assert ours[what] == theirs[what], what


def test_chinese_pages_link_chinese_pages():
    """Of the English ones only their own is linked, at the top and for its tables, and what has no translation."""
    for english, page in PAIRS:
        others = {(page.parent / target.partition("#")[0]).resolve() for _, _, target in LINK.findall(text(page))}
        assert {*PAGES} & others <= {english, ROOT / "CONTRIBUTING.md"}, page


def test_each_page_is_there_in_both_languages_and_names_the_other():
    assert [page.name for page in TRANSLATED] == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
    for english, chinese in PAIRS[1:]:
        assert f"\n\n[中文](zh/{chinese.name})\n" in text(english), english
        assert f"\n\n[English](../{english.name})\n" in text(chinese), chinese


# What is written


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for _, _, target in LINK.findall(FENCE.sub("", text(page))):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(text(other)), f"{page.name}: no heading for {target}"


@pytest.mark.parametrize("language", REFERENCE)
def test_the_config_reference_is_current(language):
    assert text(REFERENCE[language]) == reference(language), "write it again: python -m commands._reference"


@pytest.mark.parametrize("page", ["README.md", "docs/reliability.md", "docs/design.md"])
def test_the_promise_is_in_the_same_words_everywhere(page):
    assert PROMISE.lower() in " ".join(text(ROOT / page).split()).lower()
    chinese = CHINESE if page == ENGLISH.name else ROOT / page.replace("docs/", "docs/zh/")
    assert "".join(PROMISED.split()) in "".join(text(chinese).split())


def test_the_features_page_counts_right():
    page = text(ROOT / "docs/features.md")
    for kind, word in (("data", "datasets"), ("model", "networks"), ("task", "tasks")):
        own = set(COMPONENTS[kind].names()) - set(COMPONENTS[kind].variants)
        assert re.search(rf"\b{len(own)} {word}", page), f"{len(own)} {word}"


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_a_block_says_what_it_is(page):
    kinds = {info.partition(" ")[0] for info, _ in blocks(page)}
    assert kinds <= {"sh", "text", "python", "yaml"}
    assert text(page).count("```") == 2 * len(blocks(page))


# What can be typed


def typed(page: Path, *names: str) -> list[list[str]]:
    """The arguments of those commands of main.py, each once."""
    found = [words[2:] for words in commands(page) if words[:2] == ["python", "main.py"] and words[2] in names]
    return [list(words) for words in dict.fromkeys(map(tuple, found))]


def test_make_has_each_target():
    targets = {word for page in ALL for words in commands(page) if words[0] == "make" for word in words[1:]}
    targets = {target for target in targets if "=" not in target}
    there = re.findall(r"^([\w%-]+):", text(ROOT / "Makefile"), re.M)
    known = {target for target in targets if any(fnmatch(target, name.replace("%", "*")) for name in there)}
    assert len(targets) > 4 and targets == known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_config_and_flag_that_is_shown_is_right(page, run, tmp_path):
    for path, content in shown_in_full().items():
        if path.endswith(".yaml"):  # a config that a page adds, and that needs a file of its own
            (tmp_path / Path(path).name).write_text(content)
    for command, *arguments in typed(page, "train", "check", "selftest"):
        own = any(flag in " ".join(arguments) for flag in OWN) or "line" in arguments
        if not own:
            flags = [
                a for a in arguments if not (command == "selftest" and a.startswith(("--trials", "--steps", "--only")))
            ]
            result = run("check", *flags)
            assert (result.code, result.err) == (0, ""), (command, arguments)
    for command, *arguments in typed(page, "help"):
        assert run(command, *arguments).code == 0, arguments


def test_the_mistakes_that_are_shown_are_told_like_that(run):
    (wrong,) = [arguments for arguments in typed(ENGLISH, "check") if "--lr=fast" in arguments]
    result = run(*wrong)
    assert result.code == 2 and result.err.strip() in [body for info, body in blocks(ENGLISH) if info == "text"]


# What is typed works, on tiny data

LEFT_OUT = {  # how a command begins, and why it is not run here
    "git clone": "fetches what is here already, from an address",
    "make": "makes environments, runs these tests, campaigns; that the targets exist is looked at above",
    "pip": "installs",
    "kaggle": "needs an account",
    "unzip": "there is nothing to unpack without kaggle",
    "python -m commands._reference": "writes a document; a test above compares it",
    "benchmarks/.venv/bin/python -m benchmarks": "needs an environment with the peers in it",
    "python -m tests.faults": "a campaign; tests/test_faults.py runs a part of it",
    "python main.py kfold": "five trainings; tests/test_studies.py trains folds",
    "python main.py sweep": "four trainings; tests/test_studies.py sweeps",
    "python main.py test checkpoints/folds": "of those folds",
    "python main.py runs folds": "of those folds",
    "python main.py plot checkpoints/folds": "of those folds",
    "python main.py dashboard": "a server that runs until it is stopped; tests/test_dashboard.py starts it",
    "python main.py train dogcat --model=torchvision:resnet18 --model.weights=DEFAULT": "downloads weights",
}
SHORTER = {  # what is added, or set to other values, so that a training takes seconds
    "train": [
        "--train.max_steps=2",
        "--train.rehearse=false",
        "--batch-size=4",
        "--data.eval_batch_size=64",
        "--num-workers=0",
        "--log.visdom=false",
        "--log.pictures=false",
    ],
    "train --resume": ["--train.max_steps=3", "--log.visdom=false"],  # of what `interrupted` has begun
    "selftest": [
        "--only=resume",
        "--trials=1",
        "--steps=4",
        "--batch-size=4",
        "--data.eval_batch_size=64",
        "--num-workers=0",
    ],
    "lr_find": ["--model=LeNet"],  # of small batches it would find nothing
}
OWN = (
    "--resume",
    "TinyNet",
    "DeepHead",
    "InverseRoot",
    "LogCosh",
    "Animals",
    "--lr=fast",
)  # need a run, or a file of a page
WRONG = ["--lr=fast"]  # a command with this flag shows what a mistake looks like
SERVER = """
import json, os, signal, sys, traceback
sys.path.insert(0, "")
import torch, torchvision, main
for line in sys.stdin:
    if not (child := os.fork()):
        signal.alarm(300)
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        code = 1
        try:
            code = main.main(json.loads(line)) or 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)  # taking torch down would take longer than most commands
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def shortened(words: list[str]) -> list[str]:
    """The command with what SHORTER says in the place of its own flags of those names."""
    after = " ".join(words).partition("main.py ")[2]
    kind = next((kind for kind in ("train --resume", "train", "selftest", "lr_find") if after.startswith(kind)), "")
    added = SHORTER.get(kind, [])
    if any(word.startswith("--train.swa") for word in words):  # it averages at the ends of epochs
        added = [flag for flag in added if leaf(flag) != "max_steps"]
    replaced = {leaf(flag) for flag in added}
    return [*(word for word in words if not word.startswith("--") or leaf(word) not in replaced), *added]


def leaf(flag: str) -> str:
    """The last name of a flag's key: max_steps of --train.max-steps=2."""
    return flag.removeprefix("--").partition("=")[0].rpartition(".")[2].replace("-", "_")


def narrow(network: str) -> str:
    """The source of a network with an eighth of the channels: most commands train ResNet34, and save 260 MB."""
    return re.sub(r"\b(64|128|256|512)\b", lambda width: str(int(width[0]) // 8), network)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the project with the files that are shown in full, and tiny data where documents say that data lie."""
    skip = shutil.ignore_patterns(".*", "checkpoints", "tests", "benchmarks", "__pycache__", "docs", "tree")
    copy = Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("docs") / "house", ignore=skip))
    shutil.rmtree(copy / "data/dogcat", ignore_errors=True)
    networks = {"models/resnet34.py": (ROOT / "models/resnet34.py").read_text(encoding="utf-8")}
    for path, content in (networks | shown_in_full()).items():
        (copy / path).write_text(narrow(content) if path.startswith("models/") else content, encoding="utf-8")
    make_data(copy / "data")
    yield copy
    shutil.rmtree(copy)


def run_typed(house: Path, words: list[str]) -> subprocess.CompletedProcess:
    """The words as a process of its own."""
    starts = {"python": [sys.executable], "torchrun": [sys.executable, "-m", "torch.distributed.run"]}
    command = [*starts.get(words[0], words[:1]), *words[1:]]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, timeout=300)


def clear(house: Path) -> None:
    """Remove the runs that no words name, but for the last of them: each of a ResNet34 has 570 MB."""
    unnamed = [run for run in (house / "checkpoints").glob("*-*") if re.search(r"-\d{4}-\d{6}$", run.name)]
    for run in sorted(unnamed, key=lambda run: run.stat().st_mtime)[:-1]:
        shutil.rmtree(run)


def interrupt(house: Path) -> None:
    """A run that was stopped in the middle, for `train --resume`."""
    flags = ["--run=interrupted", "--model=MLP", "--max-epoch=100000", "--train.save_steps=1", "--log.visdom=false"]
    process = subprocess.Popen([sys.executable, "main.py", "train", *flags, "--quiet"], cwd=house)
    while not (house / "checkpoints/interrupted/last.pth").exists() and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 143


@pytest.mark.slow
def test_what_is_shown_in_full_works_in_its_folder(house):
    typed_here = [w for page in PAGES for w in commands(page) if {"--run=tiny1", "--run=line1"} & set(w)]
    assert len(typed_here) == 2
    for words in typed_here:
        done = run_typed(house, shortened([word.replace("1", "0") if "--run" in word else word for word in words]))
        assert done.returncode == 0, done.stderr


@pytest.fixture
def typing(house):
    """Run words as they would be typed: what they exit with, and what they say on stderr."""
    options = {"cwd": house, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER], **options) as server:

        def command(words: list[str]) -> tuple[int, str]:
            clear(house)
            if words[:2] != ["python", "main.py"]:
                done = run_typed(house, words)
                return done.returncode, done.stderr
            print(json.dumps(words[2:]), file=server.stdin, flush=True)
            return int(server.stdout.readline()), (house / "stderr").read_text()

        yield command


@pytest.mark.slow
def test_every_command_works_as_it_is_typed(house, typing):
    """All documents' commands in their order, each once, in one folder; what one needs, one before it has made."""
    failed, typed = [], set()
    for words in (words for page in PAGES for words in commands(page)):
        short = shortened(words)
        if " ".join(words).startswith(tuple(LEFT_OUT)) or tuple(short) in typed:
            continue
        typed.add(tuple(short))
        if words[2:] == ["train", "--resume"]:
            interrupt(house)
        code, told = typing(short)
        print(code, *short)  # shown when something fails
        if code != (2 if any(flag in words for flag in WRONG) else 0):
            failed.append(f"{' '.join(short)}: exit {code}: {told[-500:]}")
    assert not failed, "\n".join(failed)
