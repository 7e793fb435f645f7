"""Registries: names and arguments read from source, one file imported at a time, and words for what is wrong."""

import importlib.util
import inspect
import os
import sys
import textwrap
import types
from pathlib import Path
from typing import Any, Never

import pytest

from configs import COMPONENTS
from utils.config import source
from utils.config.convert import Component
from utils.config.places import Place
from utils.config.registry import Registry
from utils.config.tree import Problems, to_node
from utils.errors import ConfigError
from utils.words import is_slip, nearest, suggest


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Make a registry of files given as text by name."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "rooms"
    folder.mkdir()
    (folder / "__init__.py").write_text("")

    def make(**files: str) -> Registry:
        for name, text in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        return Registry("rooms", folder)

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "rooms"]:
        del sys.modules[name]


def mistakes(registry: Registry, name: str, **args: Any) -> list[str]:
    problems = Problems()
    given = {key: to_node(value, f"f:{i}") for i, (key, value) in enumerate(args.items(), 1)}
    registry.check(to_node(name, "f:0"), given, "room", problems)
    return [message for _, message in problems.found]


ONE = '''
    """One."""
    __all__ = ["One"]
    raise RuntimeError("imported")
    class One:
        """A room.

        With more to say.
        """
        def __init__(self, a: int, b: str = "x", *, c=None): ...
'''


def test_names_and_arguments_are_read_without_an_import(registry):
    rooms = registry(
        one=ONE, _hidden="__all__ = ['No']", empty="", two='__all__: list[str] = ["Two"]\ndef Two(): """2"""'
    )
    assert rooms.names() == {"One": "rooms.one", "Two": "rooms.two"} and rooms.all_names() == ["One", "Two"]
    assert (rooms.summary("One"), rooms.summary("Two"), rooms.summary("Three")) == ("A room.", "2", "")
    takes = rooms.arguments("One")
    assert {name: (p.type, p.required) for name, p in takes.items()} == {
        "a": (int, True),
        "b": (str, False),
        "c": (Any, False),
    }
    assert mistakes(rooms, "One", a="x", d=3) == [
        "One takes no 'room.d'; there is a, b, c, name",
        "room.a: expected a whole number, got 'x'",
    ]
    with pytest.raises(RuntimeError, match="imported"):
        rooms.get("One")


def test_only_the_file_asked_for_is_imported(registry):
    rooms = registry(one=ONE, two='__all__ = ["Two"]\nclass Two: ...', broken="def (")
    assert rooms.get("Two").__name__ == "Two" and "rooms.one" not in sys.modules
    assert mistakes(rooms, "Two") == []
    assert mistakes(rooms, "Three") == [
        "room: no 'Three' in rooms (broken.py was left out: line 1: invalid syntax); there is One, Two"
    ]


def test_a_broken_file_is_told_when_its_class_is_asked_for_and_breaks_no_other(registry):
    rooms = registry(one=ONE, two='__all__ = ["Two"]\n\n\nclass Two\n    pass')
    assert mistakes(rooms, "One", a=1) == []
    assert mistakes(rooms, "Two") == ["room: two.py, which defines 'Two', is no Python: line 4: expected ':'"]
    with pytest.raises(ConfigError, match=r"two.py, which defines 'Two', is no Python: line 4"):
        rooms.get("Two")


@pytest.mark.parametrize(
    "text",
    [
        '__all__ = ["One"]',
        "__all__ = ('One',)",
        '__all__: list[str] = ["One"]',
        '__all__ = [\n    "One",\n]',
        '__all__ = [  # of [all]\n    "One",\n]',
        "__all__=['One']",
        '"""As in __all__ = ["Two"].\n\n__all__ = ["Three"]\n"""\n__all__ = ["One"]',
        'One = 1; __all__ = ["One"]',
    ],
)
def test_public_names_are_found_however_they_are_written(registry, text):
    assert list(registry(one=text).names()) == ["One"]


@pytest.mark.parametrize(
    "text", ["", "__all__ = names()", "__all__ = ['One'", "__all__ = ['One', two]", "all = ['One']"]
)
def test_what_is_not_a_plain_list_names_nothing(registry, text):
    assert registry(one=text).names() == {}


def test_only_the_files_in_use_are_parsed(registry, monkeypatch):
    """Parsing is what takes long: one file of the folder for one component."""
    rooms = registry(one=ONE, two='__all__ = ["Two"]\nclass Two: ...', three='__all__ = ["Three"]\nclass Three: ...')
    parsed = []
    monkeypatch.setattr(source, "_parse", lambda text, parse=source._parse: parsed.append(text) or parse(text))
    assert mistakes(rooms, "Two") == [] and rooms.all_names() == ["One", "Three", "Two"]
    assert {text[:17] for text in parsed} == {'__all__ = ["Two"]'}


def test_a_file_that_changes_is_read_again(registry):
    rooms = registry(one='__all__ = ["One"]\nclass One: ...')
    assert rooms.all_names() == ["One"]
    path = Path(rooms.folder) / "one.py"
    path.write_text('__all__ = ["Other"]\nclass Other: ...')
    os.utime(path, ns=(1, 1))
    assert rooms.all_names() == ["Other"]


def test_what_a_newcomer_forgets_is_told(registry):
    rooms = registry(one="class One: ...", two='__all__ = ["Tow"]\nclass Two: ...')
    assert mistakes(rooms, "One") == [
        "room: no 'One' in rooms; one.py defines it, but its __all__ does not name it: add it there"
    ]
    with pytest.raises(ConfigError, match=r"two.py: __all__ names 'Tow', but the file does not define it"):
        rooms.get("Tow")
    with pytest.raises(ConfigError, match=r"two.py: 'Tow' is also in .*tow.py; a name may stand in one file only"):
        registry(tow='__all__ = ["Tow"]').get("Tow")


def test_two_files_with_one_name_stop_only_those_that_use_it(registry):
    text = '__all__ = ["{name}", "Both"]\nclass {name}: ...\nclass Both: ...'
    rooms = registry(one=text.format(name="One"), two=text.format(name="Two"))
    assert rooms.all_names() == ["Both", "One", "Two"]
    assert mistakes(rooms, "One") == [] and rooms.get("Two").__name__ == "Two"
    assert "'Both' is also in" in mistakes(rooms, "Both")[0]
    with pytest.raises(ConfigError, match=r"two.py: 'Both' is also in .*one.py; a name may stand in one file only"):
        rooms.get("Both")


@pytest.mark.parametrize(
    "annotation, kind",
    [
        ("int", int),
        ("'int'", int),
        ("float | Tensor", float),
        ("Optional[int]", int | None),
        ("Union[int, Sequence[int], None]", int | list[int] | None),
        ("tuple[float, float]", tuple[float, float]),
        ("tuple[int, ...]", list[int]),
        ("List['str']", list[str]),
        ("Annotated[int, 'unit']", int),
        ("Path | str", str),
        ("dict[str, int]", dict),
        ("numbers.Number", int | float),
        ("Literal['a', 'b']", None),
        ("Literal[A, B]", Any),
        ("Alias", Any),
        ("Alias | int", Any),
        ("torch.Tensor", Never),
        ("Callable[[int], int] | None", Never),
        ("Sequence[Callable]", list[Never]),
        ("'no python ('", Any),
        ("...", Any),
        ("lambda: 3", Any),
    ],
)
def test_annotations_say_what_a_value_may_be(registry, annotation, kind):
    rooms = registry(
        one=f'__all__ = ["One"]\nclass One:\n    def __init__(self, a: {annotation} = f(), b={{[]: 1}}): ...'
    )
    found = rooms.signature("One").parameters["a"]
    assert found.type == kind or (kind is None and found.type.__args__ == ("a", "b"))
    assert found.only_code == (kind is Never) and not found.required


BASES = '''
    """Bases."""
    from dataclasses import dataclass
    import other
    from other import Unknown
    from rooms._base import Base as Renamed
    from rooms.two import Two
    from torch import nn
    __all__ = ["A", "B", "C", "D", "E", "F", "G", "H"]
    class A(Renamed): metrics = {**{}, "x": "max"}
    class B(Two): ...
    class C(nn.Module): ...
    class D(Unknown): ...
    class E(other.E): ...
    @dataclass
    class F:
        a: int
    class G(A, Unknown):
        def __init__(self, **rest): ...
    class H(C): metrics: dict = {"y": "min"}
'''


def test_a_constructor_is_inherited_from_where_it_is(registry):
    base = "class Base:\n    metrics = {'loss': 'min'}\n    def __init__(self, width: int): ..."
    rooms = registry(one=BASES, _base=base, two='__all__ = ["Two"]\nfrom rooms._base import Base\nclass Two(Base): ...')
    signatures = {name: rooms.signature(name) for name in "ABCDEFGH"}
    assert {n: list(s.parameters) for n, s in signatures.items() if s.parameters} == {"A": ["width"], "B": ["width"]}
    assert {n for n, s in signatures.items() if s.open} == {"D", "E", "F", "G"}
    assert [rooms.literal(n, "metrics") for n in "ABCH"] == [None, {"loss": "min"}, None, {"y": "min"}]
    assert mistakes(rooms, "C", x=1) == ["C takes no 'room.x'; there is name"] and mistakes(rooms, "D", x=1) == []


def test_what_the_trainer_brings_is_hidden_and_refused():
    for kind, hidden in {
        "optim": ("SGD", "params"),
        "schedule": ("StepLR", "optimizer"),
        "data": ("DogCat", "split"),
        "task": ("Classification", "model"),
    }.items():
        name, argument = hidden
        assert argument in COMPONENTS[kind].signature(name).parameters
        assert argument not in COMPONENTS[kind].arguments(name)
        assert f"'room.{argument}' comes from the trainer; no config can set it" in mistakes(
            COMPONENTS[kind], name, **{argument: 1}
        )


def test_the_libraries_hold_what_one_may_write():
    assert COMPONENTS["optim"].all_names() == ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax",
                                               "LBFGS", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
                                               "SparseAdam"]  # fmt: skip
    assert {"StepLR", "OneCycleLR", "ReduceLROnPlateau", "DecayOnRise"} <= set(COMPONENTS["schedule"].all_names())
    assert {"SequentialLR", "ChainedScheduler"} <= set(COMPONENTS["schedule"].all_names())
    assert not {"LambdaLR", "MultiplicativeLR", "LRScheduler"} & set(COMPONENTS["schedule"].all_names())
    for kind in ("optim", "schedule", "transform"):
        for name in COMPONENTS[kind].all_names():
            signature = COMPONENTS[kind].signature(name)
            needed = [p for p in signature.parameters.values() if p.required and p.only_code]
            assert not signature.open and len(needed) <= {"optim": 1, "schedule": 1}.get(kind, 0), name


def test_every_class_of_a_library_can_be_read_as_it_is_when_it_runs():
    """The arguments read from source are those of the class itself."""
    for kind, name in [(kind, name) for kind, registry in COMPONENTS.items() for name in registry.all_names()]:
        name = f"{name}:resnet18" if name in COMPONENTS[kind].variants else name
        if name.startswith("timm:") and not importlib.util.find_spec("timm"):
            continue  # an extra
        there = inspect.signature(COMPONENTS[kind].get(name)).parameters.values()
        there = [p for p in there if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        there = [p for p in there if COMPONENTS[kind].types.get(p.name, p) is not None]  # not for a config
        read = COMPONENTS[kind].signature(name).parameters
        assert [p.name for p in there] == list(read), name
        assert [p.default is p.empty for p in there] == [p.required for p in read.values()], name


def test_build_says_where_a_missing_argument_comes_from(registry):
    text = """
    from torch import nn
    __all__ = ["One"]
    class One:
        def __init__(self, a: int, net: nn.Module):
            if a < 0:
                raise ValueError("a is negative")
            self.a, self.net = a, net
    """
    rooms = registry(one=text)
    built = rooms.build(Component("One", {"a": 1}), "room", net=types, other=3, a=2)
    assert (built.a, built.net) == (1, types)  # the config's word counts, and only what is taken is given
    for args, offered, message in (
        ({}, {"net": 1}, "room: One: missing a required argument: 'a'; set it with --room.a=…"),
        ({"a": 1}, {}, "room: One: missing a required argument: 'net'; it is a network, as the config's model.net"),
        ({"a": 1, "b": 2}, {"net": 1}, "room: One: got an unexpected keyword argument 'b'"),
        ({"a": -1}, {"net": 1}, "room: One: a is negative"),
    ):
        with pytest.raises(ConfigError) as error:
            rooms.build(Component("One", args), "room", **offered)
        assert str(error.value).startswith(message)


# Words


@pytest.mark.parametrize("typed", ["lr", "l", "r", "rl", "lrr", "lx", "xlr", "LR"])
def test_a_slip_finds_its_word_even_in_two_letters(typed):
    assert nearest(typed, ["eps", "lr", "betas", "foreach", "name"]) == "lr"


def test_a_slip_goes_before_likeness_and_nothing_is_near_to_nothing():
    assert is_slip("nmae", "name") and is_slip("name", "name") and not is_slip("naem1", "name")
    assert nearest("max_epochs", ["max_steps", "max_epoch"]) == "max_epoch"
    assert nearest("", ["p"]) == nearest("q", ["p"]) == nearest("zzz", ["lr"]) == nearest("x", []) == ""
    assert suggest("zzz", ["a", "b"]) == "; there is a, b" and suggest("zzz", map(str, range(20))) == ""
    assert suggest("lrr", ["lr"], "optim.") == "; did you mean 'optim.lr'?"


def test_a_locked_folder_of_components_counts_as_empty(tmp_path, monkeypatch):
    """As root no folder is locked: the system's answer is made."""
    (tmp_path / "mine.py").write_text('__all__ = ["Mine"]\n\n\ndef Mine():\n    pass\n')
    place = Place("locked_here", tmp_path, ours=False)
    assert place.public() == {"Mine": tmp_path / "mine.py"}

    def locked(path="."):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.listdir", locked)
    assert (place.public(), place.files()) == ({}, [])
