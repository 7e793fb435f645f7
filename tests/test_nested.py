"""Arguments of components that are components themselves: in files, flags and stored configs, and when built."""

import sys
import textwrap
from pathlib import Path

import pytest
from config_text import as_flags, at

import configs
from configs import COMPONENTS, Component, differences, known_keys, load, load_stored, resolve
from utils.config.convert import flatten, to_plain
from utils.config.registry import Registry
from utils.config.yaml_text import dump_yaml
from utils.errors import ConfigError

LOSSES = '''
    """Losses."""
    from collections.abc import Callable
    from typing import Annotated
    __all__ = ["CrossEntropy", "Focal", "Sum"]
    class CrossEntropy:
        """Cross-entropy."""
        def __init__(self, smoothing: float = 0.0, num_classes: int = 0):
            self.smoothing, self.num_classes = smoothing, num_classes
    class Focal:
        """Cross-entropy that looks at the hard ones."""
        def __init__(self, gamma: float = 2.0, alpha: float | None = None):
            if gamma < 0:
                raise ValueError("gamma is negative")
            self.gamma, self.alpha = gamma, alpha
    class Sum:
        """A loss that is made of others."""
        def __init__(
            self, first: Annotated[Callable, "loss"], rest: tuple[Annotated[Callable, "loss"], ...] = (), by: int = 1
        ):
            self.first, self.rest, self.by = first, rest, by
'''
TASKS = '''
    """Tasks."""
    from collections.abc import Callable
    from typing import Annotated, Optional
    __all__ = ["Fit", "Plain"]
    class Fit:
        """A task whose loss one may choose."""
        metrics = {"loss": "min"}
        def __init__(
            self,
            model: Callable,
            loss: Annotated[Callable, "loss"],
            teacher: "Annotated[Callable, 'model'] | None" = None,
            extra: Optional[list[Annotated[Callable, "loss"]]] = None,
            size: Annotated[int, "loss"] = 3,
            note: Annotated[Callable, "no kind"] = print,
        ):
            self.model, self.loss, self.teacher, self.extra = model, loss, teacher, extra
    class Plain:
        """A task with a loss of its own."""
        metrics = {"loss": "min"}
        def __init__(self, model: Callable):
            self.model = model
'''
FIT = "task: {name: Fit, loss: {name: Focal, gamma: 3}}\n"


@pytest.fixture(autouse=True)
def catalogues(tmp_path, monkeypatch):
    """A catalogue of losses, and tasks that take one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for kind, text in (("loss", LOSSES), ("task", TASKS)):
        folder = tmp_path / f"nested_{kind}"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "all.py").write_text(textwrap.dedent(text))
        available = frozenset() if kind == "loss" else None
        registry = Registry(folder.name, folder, available=available, catalogues=COMPONENTS)
        monkeypatch.setitem(COMPONENTS, kind, registry)
    yield
    for name in [name for name in sys.modules if name.startswith("nested_")]:
        del sys.modules[name]


def test_the_long_and_the_short_form():
    assert at(FIT).task == Component("Fit", {"loss": Component("Focal", {"gamma": 3.0})})
    for cfg in (
        at("task: {name: Fit, loss: Focal}"),
        at("task: {name: Fit, loss: {name: Focal}}"),
        at("task: {name: Fit, loss: Focal, teacher: null, extra: null}"),
        at("", "--task=Fit", "--task.loss=Focal"),
        at("", "--task.loss=Focal", "--task=Fit"),
        at("", "--loss=Focal", "--task=Fit"),
        at("", "--task={name: Fit, loss: Focal}"),
    ):
        assert cfg.task.args["loss"] == Component("Focal")


def test_a_list_of_components_and_components_in_components():
    cfg = at(
        "task: {name: Fit, extra: [Focal, {name: Focal, gamma: 1}], loss: {name: Sum, first: Focal, rest: [Focal]}}"
    )
    assert cfg.task.args["extra"] == (Component("Focal"), Component("Focal", {"gamma": 1.0}))
    assert cfg.task.args["loss"] == Component("Sum", {"first": Component("Focal"), "rest": (Component("Focal"),)})
    assert at("task: {name: Fit, loss: {name: Sum, first: {name: Focal, gamma: 1}}}", "--gamma=5").task.args[
        "loss"
    ] == Component("Sum", {"first": Component("Focal", {"gamma": 5.0})})


@pytest.mark.parametrize(
    "flags",
    [
        ["--task.loss=Focal", "--task.loss.gamma=2"],
        ["--task.loss=Focal", "--gamma=2"],
        ["--loss=Focal", "--gamma=2"],
        ["--loss=Focal", "--task.loss.gamma=2"],
        ["--task.loss.name=Focal", "--gamma=2"],
        ["--task.loss={name: Focal, gamma: 2}"],
    ],
)
@pytest.mark.parametrize("text", ["", "task: {name: Fit, loss: CrossEntropy}", "task: {name: Plain}", FIT])
@pytest.mark.parametrize("order", [1, -1])
def test_flags_in_any_order(text, flags, order):
    assert at(text, *["--task=Fit", *flags][::order]).task.args == {"loss": Component("Focal", {"gamma": 2.0})}


def test_a_bare_flag_is_an_argument_that_is_unique_with_what_constructors_take_by_default():
    assert at("task: {name: Fit, loss: Focal}", "--alpha=0.5").task.args["loss"].args == {"alpha": 0.5}
    two = "task: {name: Fit, loss: {name: Sum, first: Focal}, teacher: {name: MLP}}\nmodel: MLP"
    assert at(two, "--alpha=0.5").task.args["loss"].args["first"].args == {"alpha": 0.5}
    assert at(two, "--hidden=[3]") == [
        "--hidden=[3]: could be --model.hidden or --task.teacher.hidden: write it in full",
    ]
    assert at(FIT, "--smoothing=0.1") == [
        "--smoothing=0.1: no key 'smoothing'; it is an argument of CrossEntropy: add --task.loss=CrossEntropy"
    ]


def test_a_name_that_changes_starts_without_the_arguments_it_would_inherit():
    Path("b.yaml").write_text(
        "task: {name: Fit, loss: {name: Focal, gamma: 3, alpha: 0.1}, teacher: {name: MLP, hidden: [3]}}\n"
    )

    def loss(text: str, *flags: str) -> Component:
        return at(f"base: b.yaml\n{text}", *flags).task.args["loss"]

    both = Component("Focal", {"gamma": 3.0, "alpha": 0.1})
    assert loss("") == loss("task: {loss: Focal}") == loss("", "--task.loss=Focal") == loss("task: Fit") == both
    assert loss("task: {loss: {gamma: 1}}") == Component("Focal", {"gamma": 1.0, "alpha": 0.1})
    assert loss("", "--gamma=1") == loss("task: {loss: {name: Focal}}", "--task.loss.gamma=1")
    for cfg in (
        loss("task: {loss: CrossEntropy}"),
        loss("", "--task.loss=CrossEntropy"),
        loss("", "--loss=CrossEntropy"),
        loss("task: {loss: {name: CrossEntropy}}"),
    ):
        assert cfg == Component("CrossEntropy")
    assert loss("task: {loss: {name: CrossEntropy, smoothing: 0.1}}") == Component("CrossEntropy", {"smoothing": 0.1})
    assert at("base: b.yaml\ntask: {teacher: null}").task.args["teacher"] is None
    assert at("base: b.yaml", "--teacher=null").task.args["teacher"] is None
    assert at("base: b.yaml", "--teacher=null", "--task.teacher.hidden=[3]") == [
        "--task.teacher.hidden=[3]: task.teacher: needs a name, as in {name: ResNet34}"
    ]
    assert at("base: b.yaml\ntask: Plain").task == Component("Plain")


def test_an_argument_of_the_lone_network_is_no_role(monkeypatch, tmp_path):
    folder = tmp_path / "nested_model"
    folder.mkdir()
    text = "from typing import Annotated\n__all__ = ['Wrap', 'Small']\n"
    text += "class Small:\n    def __init__(self, width=1): ...\n"
    text += "class Wrap:\n    def __init__(self, encoder: Annotated[Small, 'model']): ...\n"
    (folder / "wrap.py").write_text(text)
    monkeypatch.setitem(COMPONENTS, "model", Registry(folder.name, folder, catalogues=COMPONENTS))
    Path("b.yaml").write_text("task: Plain\nmodel: {name: Wrap, encoder: {name: Small, width: 2}}\n")
    expected = Component("Wrap", {"encoder": Component("Small", {"width": 2})})
    for cfg in (
        at("base: b.yaml"),
        at("base: b.yaml\nmodel: {encoder: {name: Small}}"),
        at("base: b.yaml", "--width=2"),
    ):
        assert cfg.model == {"model": expected}
    assert at("base: b.yaml\nmodel: {encoder: {width: 3}}").model["model"].args["encoder"].args == {"width": 3}
    assert at("base: b.yaml", "--model.encoder=Small").model == {"model": expected}
    assert at("base: b.yaml\nmodel: {one: Small, two: {name: Small}}") == [
        "a.yaml:2: model.one: Plain has no network of that role; there is model",
        "a.yaml:2: model.two: Plain has no network of that role; there is model",
        "a.yaml:2: model: Plain needs the network model.model",
    ]


def test_every_mistake_is_told_with_its_place():
    text = """\
task:
  name: Fit
  loss:
    name: Focal
    gama: 3
    alpha: much
  extra:
    - Focall
    - name: Sum
      by: 1.5
  teacher: MPL
  los: Focal
"""
    assert at(text, "--task.note=x") == [
        "a.yaml:5: Focal takes no 'task.loss.gama'; did you mean 'task.loss.gamma'?",
        "a.yaml:6: task.loss.alpha: expected a number or null, got 'much'",
        "a.yaml:8: task.extra[0]: no 'Focall' in nested_loss; did you mean 'Focal'?",
        "a.yaml:9: Sum needs 'task.extra[1].first'",
        "a.yaml:10: task.extra[1].by: expected a whole number, got '1.5'",
        "a.yaml:11: task.teacher: no 'MPL' in models; did you mean 'MLP'?",
        "a.yaml:12: Fit takes no 'task.los'; did you mean 'task.loss'?",
        "--task.note=x: 'task.note' comes from the trainer; no config can set it",
    ]
    flags = ["--task=Fit", "--task.loss=Focl", "--task.extra=Focal", "--task.teacher.hidden=[x]", "--size=Focal"]
    assert at("", *flags) == [
        "--task.loss=Focl: task.loss: no 'Focl' in nested_loss; did you mean 'Focal'?",
        "--task.extra=Focal: task.extra: expected a list of components or null, got 'Focal'",
        "--task.teacher.hidden=[x]: task.teacher: needs a name, as in {name: ResNet34}",
        "--size=Focal: task.size: expected a whole number, got 'Focal'",
    ]
    assert at(FIT, "--task.loss.gama=2", "--task.loss.alpha=x") == [
        "--task.loss.gama=2: Focal takes no 'task.loss.gama'; did you mean 'task.loss.gamma'?",
        "--task.loss.alpha=x: task.loss.alpha: expected a number or null, got 'x'",
    ]
    for wrong, told in (("null", "expected a name, got 'null'"), ("[Focal]", "expected a name, got a list of 1")):
        assert at(f"task: {{name: Fit, loss: {wrong}}}") == [f"a.yaml:1: task.loss: {told}"]


def test_check_shows_each_value_with_its_place(run, tmp_path):
    Path(tmp_path, "b.yaml").write_text("task:\n  name: Fit\n  loss: {name: Focal}\n  teacher: MLP\n")
    given = run("check", "b.yaml", "--print", "--gamma=3")
    assert given.code == 0, given.err
    shown = [line for line in given.out.splitlines() if line.startswith("task")]
    assert shown == [
        "task.name: Fit  # b.yaml:2",
        "task.loss.name: Focal  # b.yaml:3",
        "task.loss.gamma: 3.0  # --gamma=3",
        "task.teacher: MLP  # b.yaml:4",
    ]


def test_help_says_which_catalogue_an_argument_is_from(run, monkeypatch):
    monkeypatch.setattr("commands.help.LISTS", {"models": "model", "losses": "loss"})
    out = run("help", "Fit").out
    assert "loss                   a component (a name, or name and arguments), see help\n" in out
    assert "losses; needed" in out and "or null,\n                         see help models" in out
    assert "a list of components or null, see help losses" in out and "of Fit" in run("help", "task.teacher").out


def test_stored_configs_hold_them():
    loss = "{name: Sum, first: {name: Focal, gamma: 1}, rest: [Focal]}"
    text = f"task: {{name: Fit, loss: {loss}, extra: [Focal], teacher: MLP}}"
    cfg = at(text)
    assert load_stored(to_plain(cfg), Path("x")) == at(dump_yaml(to_plain(cfg))) == cfg
    assert {k: v for k, v in flatten(to_plain(cfg)).items() if k.startswith("task")} == {
        "task.name": "Fit",
        "task.loss.name": "Sum",
        "task.loss.first.name": "Focal",
        "task.loss.first.gamma": 1.0,
        "task.loss.rest": ["Focal"],
        "task.extra": ["Focal"],
        "task.teacher": "MLP",
    }
    changed = load_stored(to_plain(cfg), Path("x"), as_flags("--gamma=2", "--task.teacher=LeNet"))
    assert differences(cfg, changed) == {"task.loss.first.gamma": (1.0, 2.0), "task.teacher": ("MLP", "LeNet")}
    assert differences(at("task: {name: Fit, loss: Focal}"), at(FIT)) == {"task.loss.gamma": (None, 3.0)}
    assert {"task.loss", "task.loss.gamma", "task.loss.alpha"} <= known_keys(
        "default", as_flags("--task=Fit", "--loss=Focal")
    ).keys()


def test_the_inner_one_is_built_first_and_is_offered_the_same():
    cfg = at("task: {name: Fit, loss: {name: Sum, first: {name: CrossEntropy, smoothing: 0.1}, rest: [Focal, Focal]}}")
    task = COMPONENTS["task"].build(cfg.task, "task", model="net", num_classes=7, gamma=9.0)
    assert (task.model, task.teacher, type(task.loss).__name__, task.loss.by) == ("net", None, "Sum", 1)
    assert vars(task.loss.first) == {"smoothing": 0.1, "num_classes": 7}
    assert [vars(one) for one in task.loss.rest] == [{"gamma": 9.0, "alpha": None}] * 2
    for text, told in (
        ("{name: Focal, gamma: -1}", "task.loss: Focal: gamma is negative"),
        ("{name: Sum, first: Focal, rest: [Focal, {name: Focal, gamma: -1}]}", "task.loss.rest[1]: Focal: gamma is"),
    ):
        with pytest.raises(ConfigError) as error:
            COMPONENTS["task"].build(at(f"task: {{name: Fit, loss: {text}}}").task, "task", model="net")
        assert str(error.value).startswith(told)


def test_nothing_is_imported_before_it_is_built():
    assert isinstance(at(FIT), configs.Config) and resolve("./a.yaml").config == load("./a.yaml")
    assert not [name for name in sys.modules if name.startswith("nested_")]
