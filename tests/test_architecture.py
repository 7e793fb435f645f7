"""The rules of the house that a machine can read: who imports whom, how long things are, what is never written."""

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

from conftest import ROOT

from tests import prose

FOLDERS = ("utils", "configs", "models", "data", "trainer", "commands")
FILES = sorted([ROOT / "main.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
SOURCES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FILES}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}

# Who may import whom: each tier what stands above it, and its own.
TIERS = (
    ("utils/",),
    ("configs/",),
    ("models/", "data/"),
    ("data/loading/", "data/looking/"),
    ("trainer/metrics/",),
    ("trainer/task.py", "trainer/progress.py", "trainer/signals.py", "trainer/setup.py", "trainer/messages.py"),
    ("trainer/losses/", "trainer/tasks/", "trainer/optimizers/", "trainer/schedules/"),
    ("trainer/parallel/", "trainer/parameters/", "trainer/optim/", "trainer/checkpointing/"),
    ("trainer/control/",),
    ("trainer/evaluate.py", "trainer/features.py", "trainer/build.py", "trainer/state.py", "trainer/last_epochs.py"),
    ("trainer/watchers/watcher.py",),
    ("trainer/trainer.py",),
    ("trainer/watchers/", "trainer/inference/", "trainer/submission/"),
    ("trainer/deploy/",),
    ("trainer/run/", "trainer/checks/", "trainer/looking/", "trainer/__init__.py"),
    ("commands/",),
    ("main.py",),
)
APART = (("models/", "data/"), ("data/", "models/"))  # of one tier, and yet none imports the other
ROOM = 12  # files of a room beside its __init__
NO_ROOMS = ("models", "data", "commands")  # where one adds a file for each thing
# Read before torch is there; so is what they import, which a process of its own shows.
LIGHT = (
    "main.py",
    "commands/__init__.py",
    "commands/_arguments.py",
    "commands/train.py",
    "commands/val.py",
    "commands/test.py",
    "commands/check.py",
    "commands/help.py",
    "commands/runs.py",
    "commands/diff.py",
    "commands/completion.py",
    "commands/ctl.py",
    "utils/config/",
    "utils/runs/",
    "configs/",
)
HEAVY = {"torch", "torchvision", "torchnet", "tensorboardX", "visdom", "numpy", "PIL", "sklearn", "matplotlib", "tqdm"}
# Where only rank 0 acts: it writes what runs and checkpoints leave behind. Others ask utils/dist to do it on rank 0.
MAIN_RANK = {"utils/dist.py", "trainer/checkpointing/store.py", "trainer/run/session.py"}
HANDED = {"split", "transform", "whole", "statistics", "classes", "alphabet", "ignore_index", "target_kind", "folds"}
HANDED |= {"separator", "label_texts"}
TOLD = {"num_classes", "in_channels", "image_size", "vocabulary_size"}  # by the data
PRIVATE = "utils/torch_private.py"  # the one place for private names of torch

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that a file imports anywhere in it, with the name that is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions() -> Iterator[tuple[str, Function]]:
    for name, tree in TREES.items():
        yield from ((f"{name}:{n.lineno} {n.name}", n) for n in ast.walk(tree) if isinstance(n, Function))


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def each(names: Iterable[str]) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """Make one test of a check of each file: thousands of tests would take longer than what they look at."""

    def of(check: Callable[[str], None]) -> Callable[[], None]:
        def test() -> None:
            failed = {}
            for name in names:
                try:
                    check(name)
                except AssertionError as error:
                    failed[name] = str(error)
            assert not failed, failed

        test.__doc__ = check.__doc__
        return test

    return of


# Who may import whom


def tier(name: str) -> tuple[int, str]:
    """The tier of a file, and the entry of it that names it most exactly."""
    places = ((number, place) for number, tier in enumerate(TIERS) for place in tier if name.startswith(place))
    return max(places, key=lambda found: len(found[1]))


def imported_files(name: str) -> set[str]:
    """The files of ours that a file imports anywhere in it, be it only for a type checker."""
    found = set()
    for dotted in imports(TREES[name]):
        parts = dotted.split(".")
        if parts[0] in (*FOLDERS, "main"):
            places = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
            files = [file for place in places for file in (f"{place}.py", f"{place}/__init__.py") if file in SOURCES]
            found |= set(files[:1])
    return found - {name}


@each(TREES)
def test_imports_go_one_way(name):
    own, place = tier(name)
    for other in imported_files(name):
        their, where = tier(other)
        lazy = other.endswith("__init__.py") and name.startswith(other.removesuffix("__init__.py"))
        assert lazy or their <= own, f"{name} imports {other}"
        assert (place, where) not in APART, f"{name} imports {other}"


def test_a_task_knows_little():
    """It says what one batch does, and so does one that a user writes."""
    known = ("trainer/task.py", "trainer/tasks/", "trainer/losses/", "trainer/metrics/", "models/", "utils/")
    tasks = [name for name in TREES if name.startswith("trainer/tasks/")]
    assert tasks and not {(name, o) for name in tasks for o in imported_files(name) if not o.startswith(known)}


def test_no_imports_go_in_a_circle():
    """Not even those that are only for a type checker: a circle of files has to be understood as one."""
    graph = {name: {o for o in imported_files(name) if not o.endswith("__init__.py")} for name in TREES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_only_a_run_imports_the_trainer():
    users = {name for name in TREES if "trainer/trainer.py" in imported_files(name)}
    assert users == {f"trainer/{name}.py" for name in ("run/session", "checks/equivalences", "checks/rehearsal")}


def test_a_room_holds_at_most_12_files_and_says_what_it_is_for():
    for folder in sorted({path.parent for path in FILES if path.parent != ROOT}):
        room = str(folder.relative_to(ROOT))
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= ROOM or room in NO_ROOMS, f"{room}: {len(files)} files"
        told = ast.get_docstring(TREES[f"{room}/__init__.py"]) or ""
        named = re.findall(r"\b(\w+\.py)\b", told)
        assert "In: " in told and "Out: " in told and named and set(named) <= {*files, "trainer.py"}, room


@each([name for name in TREES if name != PRIVATE])
def test_private_names_of_torch_stand_in_one_file(name):
    tree = TREES[name]
    private = [i for i in imports(tree) if i.startswith("torch") and any(p.startswith("_") for p in i.split("."))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            text = ast.unparse(node)
            if text.startswith(("torch.", "nn.", "dist.")) or ".loader._" in text:
                private.append(text)
    assert not private


@each([name for name in TREES if name != "data/protocol.py"])
def test_datasets_are_asked_through_the_protocol_only(name):
    for call in calls(TREES[name]):
        if ast.unparse(call.func) in ("getattr", "hasattr"):
            assert ast.unparse(call.args[0]).split(".")[-1] != "dataset", f"{name}:{call.lineno}"


def test_the_trainer_is_small():
    """What it holds is seen in its constructor, and all of it fits on a few screens."""
    (trainer,) = [n for n in TREES["trainer/trainer.py"].body if isinstance(n, ast.ClassDef)]
    assert SOURCES["trainer/trainer.py"].count("\n") <= 200
    made: dict[str, set[str]] = {}
    for method in trainer.body:
        if isinstance(method, Function):
            stored = (n for n in ast.walk(method) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
            made[method.name] = {n.attr for n in stored if ast.unparse(n.value) == "self"}
    assert len(made["__init__"]) <= 12 and set().union(*made.values()) == made["__init__"]


@each([name for name in TREES if name.startswith(LIGHT)])
def test_what_is_read_first_imports_nothing_heavy(name):
    assert not {i.split(".")[0] for i in imports(TREES[name])} & HEAVY


def test_importing_the_rooms_loads_nothing_heavy(tmp_path):
    rooms = ", ".join(
        [
            "main",
            *FOLDERS,
            "configs.flags",
            "commands.train",
            "commands.val",
            "commands.test",
            "commands.help",
            "commands.check",
            "commands.runs",
            "commands.diff",
            "commands.completion",
            "commands.ctl",
            "commands.plot",
        ]
    )
    code = f"import sys, {rooms}; print(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_a_name_from_a_lazy_room_loads_its_file_only(tmp_path):
    code = (
        "import sys; from models import MLP; print(sorted(m for m in sys.modules if m.startswith(('models', 'data.'))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.stdout == "['models', 'models._matching', 'models.basic_module', 'models.mlp']\n"


# Sizes


def test_files_have_at_most_300_lines():
    assert not {name: n for name, text in SOURCES.items() if (n := text.count("\n")) > 300}


def test_functions_are_short():
    lengths = {name: length(node) for name, node in functions()}
    assert not {name: n for name, n in lengths.items() if n > 50}
    deciles = statistics.quantiles(lengths.values(), n=10)
    assert statistics.median(lengths.values()) <= 8 and deciles[8] <= 25


def test_constructors_take_at_most_8_arguments():
    long = {}
    for name, node in functions():
        names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        # the arguments of a dataset and of a model are the user's keys; those that are handed to it come on top
        handed = HANDED if name.startswith("data/") else TOLD if name.startswith("models/") else set()
        count = len([arg for arg in names if arg not in handed]) - 1
        if node.name == "__init__" and count > 8:
            long[name] = count
    for name, tree in TREES.items():
        for node in ast.walk(tree) if name != "configs/schema.py" else ():  # a section is what is passed instead
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                needed = [item for item in node.body if isinstance(item, ast.AnnAssign) and item.value is None]
                long |= {f"{name} {node.name}": len(needed)} if len(needed) > 8 else {}
    assert not long


def test_main_is_short():
    assert SOURCES["main.py"].count("\n") <= 60


# Manners


@each(TREES)
def test_a_module_opens_with_one_sentence(name):
    first = (ast.get_docstring(TREES[name]) or "").partition("\n\n")[0].replace("\n", " ")
    assert first.endswith((".", "`")) and len(first) <= 200


@each(TREES)
def test_what_is_public_says_what_it_is(name):
    tops = [node for node in TREES[name].body if isinstance(node, Function | ast.ClassDef)]
    public = [node for node in tops if not node.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]


@each(TREES)
def test_importing_does_no_work(name):
    plain = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)
    for node in TREES[name].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        guard = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        setting = isinstance(node, ast.Expr) and "add_representer" in ast.unparse(node)  # of our own YAML dumper
        assert isinstance(node, plain) or docstring or guard or setting, f"{name}:{node.lineno}"


def test_only_where_things_are_written_is_it_asked_who_is_rank_0():
    found = {name for name, tree in TREES.items() for node in ast.walk(tree) if getattr(node, "attr", "") == "is_main"}
    found |= {name for name, tree in TREES.items() for i in imports(tree) if i.endswith(".is_main")}
    compared = re.compile(r'rank(\(\))? (==|!=|>|is) 0|not dist\.rank\(\)|dist\.rank\(\)( else| or| and|:)|"RANK"')
    before = {"utils/runs/group.py"}  # the group, before torch is there
    found |= {name for name, text in SOURCES.items() if compared.search(text)} - before
    assert found <= MAIN_RANK


@each(TREES)
def test_nothing_read_from_a_file_is_run(name):
    for call in calls(TREES[name]):
        text, keywords = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert text not in ("eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads"), text
        assert text != "yaml.load" or "Loader" in keywords
        assert text != "torch.load" or keywords.get("weights_only") == "True"
        assert keywords.get("weights_only") != "False" and keywords.get("allow_pickle") != "True"
        assert keywords.get("shell") != "True" and text != "os.system"


def test_nothing_uses_what_the_ancestors_left_behind():
    signs = re.compile(r"import ipdb|\.state_dict = |(?<!Distributed)DataParallel\(|set_default_tensor_type")
    assert not {name: found for name, text in SOURCES.items() if (found := signs.findall(text))}
    seeds = {name for name, text in SOURCES.items() if re.search(r"\brandom\.seed\(|torch\.manual_seed\(", text)}
    assert not {name for name in seeds if not name.startswith(("trainer/", "utils/randomness"))}, "of all runs, that is"


# Sentences

MOST = {  # of each pattern that a reader reads twice; these numbers only fall
    "no verb": 0,
    "else for otherwise": 1,
    "but for, for except": 0,
    "what or who as a noun": 0,
    "say for for example": 0,
    "be it": 0,
}


def test_sentences_are_plain():
    found = prose.found()
    assert found.keys() == MOST.keys()
    for kind, places in found.items():
        assert len(places) <= MOST[kind], "\n".join([f"{kind} ({len(places)}):", *places])
