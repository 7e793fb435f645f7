"""Configs: layers and their order, values, components and roles, and every mistake told in one go."""

import math
from pathlib import Path

import pytest
from configs import COMPONENTS, Component, Config, load, load_stored, resolve
from utils.cli import Flag, as_flag
from utils.config import flatten, to_plain
from utils.errors import ConfigError
from utils.tree import dump_line, dump_yaml, parse_text, plain_value


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Load a config whose text is given, with flags: its Config, or its mistakes as a list of lines."""
    monkeypatch.chdir(tmp_path)

    def read(text: str | bytes = "", *flags: str, name: str = "a.yaml"):
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            return load(name, as_flags(*flags))
        except ConfigError as error:
            return str(error).split("\n")

    return read


def as_flags(*typed: str) -> list[Flag]:
    return [flag for argument in typed if isinstance(flag := as_flag(argument), Flag)]


# Layers


def test_precedence_is_schema_base_file_flags(at):
    Path("base.yaml").write_text("train: {max_epoch: 2, seed: 2, clip: 2}\nlog: {print_freq: 2}\n")
    cfg = at("base: base.yaml\ntrain: {seed: 3, clip: 3}\n", "--clip=4")
    train = cfg.train
    assert (train.accumulate, train.max_epoch, train.seed, train.clip, cfg.log.print_freq) == (1, 2, 3, 4.0, 2)


def test_an_empty_file_is_the_defaults(at):
    assert at("") == at("# nothing\n") == Config()


def test_a_base_lies_beside_the_file_or_in_configs(at):
    Path("mnist.yaml").write_text("train: {max_epoch: 77}\n")
    assert at("base: mnist\n").train.max_epoch == at("base: mnist.yaml\n").train.max_epoch == 77
    assert at("base: dogcat.yaml\n").data.dataset == Component("DogCat")


def test_bases_that_go_wrong_are_named_with_their_line(at):
    assert at("task: Classification\nbase: dogcatt.yaml\n") == [
        "a.yaml:2: base: no config 'dogcatt.yaml'; did you mean 'dogcat'?"
    ]
    Path("b.yaml").write_text("\nbase: a.yaml\n")
    assert at("base: b.yaml\n") == [
        "b.yaml:2: base: a.yaml is built on this file; a config cannot be its own base"
    ]
    for wrong in ("[dogcat]", "{a: b}", ""):
        assert at(f"base: {wrong}\n") == ["a.yaml:1: base: expected the name of one config file"]
    Path("b.yaml").write_text("a: [\n")
    assert at("base: b.yaml\n")[0].startswith("b.yaml:2: ")
    Path("b.yaml").write_text("train:\n  sed: 1\n")
    assert at("base: b.yaml\n") == ["b.yaml:2: no key 'train.sed'; did you mean 'train.seed'?"]


def test_a_name_is_looked_up_in_configs_and_a_path_is_a_path(at):
    Path("dogcat").write_text("data in a file of that name")
    assert load("dogcat").data.dataset.name == "DogCat"
    assert at("task: Classification", name="b.yaml") == load("./b.yaml")
    for missing in ("x" * 5000, "a\0b", ".", "", "/", "configs"):
        with pytest.raises(ConfigError, match="no config"):
            load(missing)
    Path("run").mkdir()
    Path("run/config.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no config 'run'; did you mean 'run/config.yaml'\?"):
        load("run")


# Mistakes


def test_every_mistake_is_told_with_its_place_in_the_order_of_the_lines(at):
    text = "model: ResNet43\ntrain:\n  max_epcoh: 3\n  seed: x\ndata: {batch_size: 0}\noptim: {name: Adam, lrr: 1}\n"
    assert at(text, "--print-freq=often", "--use-gpu=maybe", "--zzz=1", "--schedule=StepLR") == [
        "a.yaml:1: model: no 'ResNet43' in models; did you mean 'ResNet34'?",
        "a.yaml:3: no key 'train.max_epcoh'; did you mean 'train.max_epoch'?",
        "a.yaml:4: train.seed: expected a whole number, got 'x'",
        "a.yaml:5: data.batch_size must be at least 1, got 0",
        "a.yaml:6: Adam takes no 'optim.lrr'; did you mean 'optim.lr'?",
        "--print-freq=often: log.print_freq: expected a whole number, got 'often'",
        "--use-gpu=maybe: train.use_gpu: expected one of auto, true, false, got 'maybe'",
        "--zzz=1: no key 'zzz'; python main.py help lists the keys",
        "--schedule=StepLR: StepLR needs 'schedule.step_size'",
    ]


@pytest.mark.parametrize(
    "text, meant",
    [
        ("max_epoch: 3", "train.max_epoch"),
        ("data: {max_epoch: 3}", "train.max_epoch"),
        ("lr: 0.1", "optim.lr"),
        ("batch-size: 3", "data.batch_size"),
        ("train: {epochs: 3}", "train.max_epoch"),
        ("train: {learning_rate: 3}", "optim.lr"),
        ("trian: {max_epoch: 3}", "train"),
        ("optimizer: SGD", "optim"),
        ("train: {max_epochs: 3}", "train.max_epoch"),
        ("task: {nam: Classification}", "task.name"),
        ("optim: {nam: SGD, lr: 0.1}", "optim.name"),
        ("schedule: {nmae: StepLR}", "name"),
        ("data: {transform: {train: [{neme: Resize, size: 3}]}}", "name"),
        ("data: {dataset: {name: DogCat, rot: x}}", "data.dataset.root"),
    ],
)
def test_an_unknown_key_suggests_the_right_one_with_its_section(at, text, meant):
    assert at(text) == [line for line in at(text) if f"did you mean '{meant}'?" in line]
    assert at(text)[0].startswith("a.yaml:1: ")


@pytest.mark.parametrize(
    "text, line, says",
    [
        ("train:\n\tseed: 1\n", 2, "indent with spaces, not with tabs"),
        ("train:\n  seed: 1\n  seed: 2\n", 3, "'seed' is given twice (first at a.yaml:2)"),
        ("optim: {name: SGD, lr: 1, lr: 2}\n", 1, "'lr' is given twice"),
        ("train: &t {seed: 1}\nlog: *t\n", 2, "aliases (*name) are not supported"),
        ("log: {env: *.jpg}\n", 1, "put text that begins with * or & in quotes"),
        ("task: !!python/object:os.system x\n", 1, "tag tag:yaml.org,2002:python/object:os.system is not supported"),
        ("task: !!str x\n", 1, "tag tag:yaml.org,2002:str is not supported"),
        ("a: 1\nmodel " + "\nb: 2\n", 3, "the line above has no ': ' behind its key"),
        ("train:\n  seed:1\n  max_epoch: 2\n", 3, "a missing space behind the ':' above"),
        ("log: {env: a: b}\n", 1, "text with ': ' in it needs quotes"),
        ("optim: {name: SGD\n", 2, "a bracket was not closed"),
        ("log: {env: 'abc\n", 2, "a quote was not closed"),
        ("train:\n    seed: 1\n  clip: 2\n", 3, "the indent does not fit the lines above"),
        ("task: Classification\n---\nmodel: MLP\n", 2, "a config is one document"),
        ("[a]: 3\n", 1, "a key must be a word"),
        ("log:\n  env: " + "[" * 30 + "]" * 30, 2, "nested deeper than 20"),
    ],
)
def test_text_that_is_not_a_config_is_told_with_line_and_remedy(at, text, line, says):
    (message,) = at(text)
    assert message.startswith(f"a.yaml:{line}: ") and says in message


def test_files_that_are_no_text_are_told(at):
    assert at(b"task: A\nmodel: \xff\xfe\n") == ["a.yaml:2: is not UTF-8 text; save the file as UTF-8"]
    assert at("a: " + "x" * 1_000_000) == ["a.yaml: is too large for a config, which has at most 1,000,000 bytes"]
    assert at("a: \0") == ["a.yaml: unacceptable character #x0000: special characters are not allowed"]
    for text in ("- a\n- b\n", "just words", "3", "task:Classification"):
        assert at(text) == ["a.yaml: a config holds keys and values, as 'model: ResNet34' with a space behind ':'"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistakes(at):
    assert at(b"\xef\xbb\xbftrain:\r\n  seed: 3\r\n").train.seed == 3


# Values


@pytest.mark.parametrize(
    "text, value",
    [("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1", -1.0), ("1_000", 1000.0), ("012", 12.0),
     (".inf", math.inf)],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2(at, text, value):
    for cfg in (at(f"optim: {{name: SGD, lr: {text}}}"), at("", f"--lr={text}")):
        assert cfg.optim["model"].args["lr"] == value and isinstance(cfg.optim["model"].args["lr"], float)


def test_012_is_12_for_a_number_and_itself_for_a_text(at):
    cfg = at("train: {seed: 012}\nlog: {env: 012}\n", "--data.dataset={name: DogCat, root: 007}")
    assert (cfg.train.seed, cfg.log.env, cfg.data.dataset.args) == (12, "012", {"root": "007"})


@pytest.mark.parametrize("text", ["NO", "yes", "on", "1:30", "0x10", "1e999", "x" * 200, "9" * 5000, "2026-01-01", "真"])
def test_what_yaml_1_1_takes_for_something_else_stays_text(at, text):
    assert at(f"log: {{env: {text}}}").log.env == text
    assert "expected a number" in at(f"optim: {{name: SGD, lr: {text}}}")[0]
    assert "expected a whole number" in at("", f"--seed={text}")[0]


def test_null_is_nothing_where_nothing_is_allowed_and_quotes_make_text(at):
    assert [at(f"log: {{env: {t}}}").log.env for t in ("null", "~", "", "'null'", '""')] == [None, None, None, "null", ""]
    assert at("train: {seed: '3'}") == [
        "a.yaml:1: train.seed: expected a whole number, got '3' (without the quotes it would be one)"
    ]
    assert at("train: {seed: null}") == ["a.yaml:1: train.seed: expected a whole number, got 'null'"]
    assert at("train:\n  seed:\n") == ["a.yaml:2: train.seed: expected a whole number, got nothing"]


@pytest.mark.parametrize("text", ["yes", "ON", "1"])
def test_a_word_for_true_says_so(at, text):
    assert at(f"log: {{visdom: {text}}}") == [
        f"a.yaml:1: log.visdom: expected true or false, got '{text}'; did you mean 'true'?"
    ]
    assert "did you mean 'false'?" in at("", "--use-gpu=no")[0]
    assert at("log: {visdom: True}").log.visdom is True


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: 3", "train: expected a section of keys, as train.max_epoch, got '3'"),
        ("train: [seed]", "train: expected a section of keys, as train.max_epoch, got a list of 1"),
        ("train:", "train: expected a section of keys, as train.max_epoch, got nothing"),
        ("train: {seed: {a: 1}}", "train.seed: expected a whole number, got keys and values"),
        ("train: {seed: 1.5}", "train.seed: expected a whole number, got '1.5'"),
        ("train: {seed: -1}", "train.seed must be from 0 to 2147483648, got -1"),
        ("train: {seed: 2147483649}", "train.seed must be from 0 to 2147483648, got 2147483649"),
        ("train: {clip: -1}", "train.clip must be at least 0, got -1"),
        ("train: {clip: .nan}", "train.clip must be at least 0, got .nan"),
        ("train: {ema: 2}", "train.ema must be from 0 to 1, got 2"),
        ("train: {max_steps: 0}", "train.max_steps must be at least 1, got 0"),
        ("train: {precision: fp8}", "train.precision: expected one of fp32, bf16, fp16, got 'fp8'"),
        ("train: {monitor: [a]}", "train.monitor: expected text or null, got a list of 1"),
        ("log: {visdom: 2}", "log.visdom: expected true or false, got '2'"),
        ("log: {visdom_host: {a: b}}", "log.visdom_host: expected text, got keys and values"),
        ("log: {visdom_port: 70000}", "log.visdom_port must be from 1 to 65535, got 70000"),
        ("data: {transform: {train: Resize}}", "data.transform.train: expected a list of components, got 'Resize'"),
        ("data: {transform: {train: [[a]]}}", "data.transform.train[0]: expected a name, got a list of 1"),
        ("data: {transform: {train: [{size: 3}]}}", "data.transform.train[0]: needs a name, as in {name: ResNet34}"),
        ("model: [MLP]", "model: expected a component (a name, or name and arguments), or several by role, got a list of 1"),
        ("model: {name: [MLP]}", "model: expected a name, got a list of 1"),
        ("model: ''", "model: expected a name, got nothing"),
        ("task:", "task: expected a name, got nothing"),
        ("task: null", "task: expected a name, got 'null'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_for_each_kind_of_key(at, text, message):
    assert at(text) == [f"a.yaml:1: {message}"]


# Components


@pytest.mark.parametrize(
    "text, message",
    [
        ("optim: {name: Adam, lr: fast}", "optim.lr: expected a number, got 'fast'"),  # annotated float | Tensor
        ("optim: {name: Adam, betas: [0.9]}", "optim.betas: expected a list of 2 numbers, got a list of 1"),
        ("optim: {name: Adam, betas: 0.9}", "optim.betas: expected a list of 2 numbers, got '0.9'"),
        ("optim: {name: Adam, betas: [0.9, x]}", "optim.betas[1]: expected a number, got 'x'"),
        ("optim: {name: Adam, amsgrad: yes}", "optim.amsgrad: expected true or false, got 'yes'; did you mean 'true'?"),
        ("optim: {name: Adam, lr: [1]}", "optim.lr: expected a number, got a list of 1"),
        ("optim: {params: 3}", "'optim.params' comes from the trainer; no config can set it"),
        ("data: {dataset: {name: DogCat, split: val}}", "'data.dataset.split' comes from the trainer; no config can set it"),
        ("data: {dataset: {transform: x}}", "'data.dataset.transform' comes from the trainer; no config can set it"),
        ("task: {model: x}", "'task.model' comes from the trainer; no config can set it"),
        ("task: {output: label}", "'task.output' comes from the trainer; no config can set it"),
        ("schedule: {name: StepLR, step_size: 1, optimizer: x}", "'schedule.optimizer' comes from the trainer; no config can set it"),
        ("schedule: StepLR", "StepLR needs 'schedule.step_size'"),
        ("schedule: {name: MultiStepLR, milestones: [1, x]}", "schedule.milestones[1]: expected a whole number, got 'x'"),
        ("schedule: {name: ReduceLROnPlateau, mode: mni}", "schedule.mode: expected one of min, max, got 'mni'; did you mean 'min'?"),
        ("schedule: none", "schedule: no 'none' in trainer/schedule; for none write null"),
        ("model: {stem: smal}", "model.stem: expected one of auto, imagenet, small, got 'smal'; did you mean 'small'?"),
        ("model: {name: MLP, hidden: 3}", "model.hidden: expected a list of whole numbers, got '3'"),
        ("model: torchvision:resnet81", "model: no 'resnet81' in torchvision; did you mean 'torchvision:resnet18'?"),
        ("model: torchvision", "model: torchvision needs a variant, as torchvision:alexnet"),
        ("model: resnet18", "model: no 'resnet18' in models; did you mean 'torchvision:resnet18'?"),
        ("model: resnet34", "model: no 'resnet34' in models; did you mean 'ResNet34'?"),
        ("model: torchvison:resnet18", "model: no 'torchvison:resnet18' in models; did you mean 'torchvision:resnet18'?"),
        ("model: ResNet34:x", "model: no 'ResNet34:x' in models; there is AlexNet, LeNet, MLP, ResNet34, SqueezeNet, torchvision"),
        ("model: ResidualBlock", "model: no 'ResidualBlock' in models; resnet34.py defines it, but its __all__ does not name it: add it there"),
        ("data: {transform: {eval: [Scale]}}", "data.transform.eval[0]: no 'Scale' in torchvision.transforms.v2; it is now called 'Resize'"),
        ("data: {transform: {eval: [Resize]}}", "Resize needs 'data.transform.eval[0].size'"),
        ("data: {transform: {eval: [{name: Resize, size: big}]}}", "data.transform.eval[0].size: expected a whole number or null or a list of whole numbers, got 'big'"),
        ("data: {transform: {train: [{name: RandomApply, transforms: [RandomRotatoin]}]}}", "data.transform.train[0].transforms[0]: no 'RandomRotatoin' in torchvision.transforms.v2; did you mean 'RandomRotation'?"),
        ("train: {monitor: acuracy}", "train.monitor: Classification has no metric 'acuracy'; did you mean 'accuracy'?"),
        ("schedule: {generator: OneCycleLR}", "schedule.generator: there is no optimizer of that role; there is model"),
    ],
)  # fmt: skip
def test_arguments_of_components_are_checked_from_their_source(at, text, message):
    assert at(text) == [f"a.yaml:1: {message}"]


@pytest.mark.parametrize(
    "text",
    [
        "optim: {name: AdamW, lr: 1, betas: [0.9, 0.999], foreach: null, fused: true}",
        "optim: {name: Adafactor, eps: [null, 1e-3]}",
        "model: torchvision:resnet18",
        "model: {name: torchvision:resnet18, num_classes: 3, weights: DEFAULT, zero_init_residual: true}",  # **arguments
        "data: {transform: {train: [{name: Resize, size: [32, 32]}, {name: Resize, size: 32, interpolation: bicubic}]}}",
        "data: {transform: {train: [{name: RandomRotation, degrees: 15}, {name: RandomRotation, degrees: [-5, 5]}]}}",
        "data: {transform: {train: [{name: RandomCrop, size: 32, padding: 4, fill: [1, 2, 3]}, RandomHorizontalFlip]}}",
        "data: {transform: {train: [{name: RandomApply, transforms: [{name: RandomRotation, degrees: 5}], p: 0.5}]}}",
        "data: {transform: {train: [{name: ToDtype, dtype: float32, scale: true}]}}",
        "schedule: {name: CyclicLR, base_lr: 1e-4, max_lr: 0.1}",
        "schedule: {name: OneCycleLR, max_lr: [0.1]}",
        "schedule: CosineAnnealingLR",
        "train: {monitor: f1}",
    ],
)
def test_arguments_that_are_right_pass(at, text):
    assert isinstance(at(text), Config), at(text)


def test_numbers_of_arguments_keep_their_kind(at):
    cfg = at("data: {transform: {train: [{name: RandomCrop, size: 32}, {name: RandomRotation, degrees: 15}]}}\n"
             "optim: {name: Adam, betas: [0, 1]}")  # fmt: skip
    crop, turn = cfg.data.transform.train
    assert [crop.args, turn.args] == [{"size": 32}, {"degrees": 15}] and type(turn.args["degrees"]) is int
    assert cfg.optim["model"].args["betas"] == (0.0, 1.0)


# A name that changes, by file or flag, starts afresh

ADAM = "optim: {name: Adam, lr: 0.5, weight_decay: 0.1}\n"


def optim(cfg: Config) -> dict:
    return {"name": cfg.optim["model"].name, **cfg.optim["model"].args}


def test_arguments_are_inherited_only_while_the_name_stays(at):
    Path("b.yaml").write_text(ADAM)
    assert optim(at("base: b.yaml\noptim: {lr: 0.2}")) == {"name": "Adam", "lr": 0.2, "weight_decay": 0.1}
    assert optim(at("base: b.yaml\noptim: {name: Adam, lr: 0.2}"))["weight_decay"] == 0.1
    assert optim(at("base: b.yaml\noptim: {name: SGD, lr: 0.2}")) == {"name": "SGD", "lr": 0.2}
    assert optim(at("base: b.yaml\noptim: SGD")) == {"name": "SGD"}


@pytest.mark.parametrize("name", ["--optim=SGD", "--optim.name=SGD", "--optim={name: SGD}"])
@pytest.mark.parametrize("lr", ["--lr=0.2", "--optim.lr=0.2", "--momentum=0.2"])
def test_flags_on_arguments_apply_after_flags_on_names_whatever_their_order(at, name, lr):
    expected = {"name": "SGD", lr.strip("-").partition("=")[0].removeprefix("optim."): 0.2}
    assert optim(at(ADAM, name, lr)) == optim(at(ADAM, lr, name)) == expected
    assert optim(at(ADAM, "--lr=0.2")) == {"name": "Adam", "lr": 0.2, "weight_decay": 0.1}


def test_a_schedule_can_be_left_out(at):
    Path("b.yaml").write_text("schedule: {name: StepLR, step_size: 2}\n")
    assert at("base: b.yaml").schedule == {"model": Component("StepLR", {"step_size": 2})}
    assert at("base: b.yaml\nschedule: null").schedule == at("base: b.yaml\nschedule: {}").schedule == {}
    assert at("base: b.yaml", "--schedule=null").schedule == at("base: b.yaml", "--schedule={}").schedule == {}


# Roles

GAN = """\
model: {generator: {name: MLP, num_classes: 4}, discriminator: {name: MLP, num_classes: 2}}
optim:
  generator: {name: Adam, lr: 0.1, betas: [0.5, 0.999]}
  discriminator: {name: Adam, lr: 0.2}
"""


def test_each_role_has_its_component(at):
    cfg = at(GAN)
    assert {role: spec.args["lr"] for role, spec in cfg.optim.items()} == {"generator": 0.1, "discriminator": 0.2}
    assert list(cfg.model) == ["generator", "discriminator"] and cfg.schedule == {}
    cfg = at(GAN, "--optim.generator.lr=0.3", "--model.discriminator.hidden=[3]")
    assert cfg.optim["generator"].args == {"lr": 0.3, "betas": (0.5, 0.999)} and cfg.optim["discriminator"].args["lr"] == 0.2
    assert cfg.model["discriminator"].args == {"num_classes": 2, "hidden": (3,)}


@pytest.mark.parametrize("order", [1, -1])
def test_a_roles_name_comes_before_its_arguments(at, order):
    cfg = at(GAN, *["--optim.generator=SGD", "--optim.generator.momentum=0.9"][::order])
    assert cfg.optim["generator"] == Component("SGD", {"momentum": 0.9})


def test_flags_that_leave_the_role_open_name_the_candidates(at):
    assert at(GAN, "--lr=0.1", "--model=MLP", "--optim.lr=0.1", "--hidden=[3]") == [
        "--lr=0.1: could be --optim.discriminator.lr or --optim.generator.lr: write it in full",
        "--model=MLP: model has several roles: say which, model.generator or model.discriminator",
        "--optim.lr=0.1: optim has several roles: say which, optim.generator.lr or optim.discriminator.lr",
        "--hidden=[3]: could be --model.discriminator.hidden or --model.generator.hidden: write it in full",
    ]


def test_roles_are_inherited_one_by_one(at):
    Path("gan.yaml").write_text(GAN)
    cfg = at("base: gan.yaml\noptim: {generator: {lr: 0.7}, discriminator: SGD}\n")
    assert cfg.optim["generator"].args["lr"] == 0.7 and cfg.optim["discriminator"] == Component("SGD")
    assert list(at("base: gan.yaml\nmodel: LeNet\noptim: SGD\n").model) == ["model"]
    assert list(at("base: gan.yaml\nmodel: {encoder: LeNet}\n").model) == ["generator", "discriminator", "encoder"]
    assert at("base: gan.yaml\noptim: {lr: 1}\n") == [
        "a.yaml:2: optim has several roles: say which, optim.generator.lr or optim.discriminator.lr"
    ]


def test_mistakes_in_roles_are_told(at):
    text = GAN + "schedule: {generator: StepLR, discriminatr: OneCycleLR}\n"
    assert at(text.replace("lr: 0.2", "lrr: 0.2").replace("num_classes: 2", "num_classes: x")) == [
        "a.yaml:1: model.discriminator.num_classes: expected a whole number, got 'x'",
        "a.yaml:4: Adam takes no 'optim.discriminator.lrr'; did you mean 'optim.discriminator.lr'?",
        "a.yaml:5: StepLR needs 'schedule.generator.step_size'",
        "a.yaml:5: schedule.discriminatr: there is no optimizer of that role; did you mean 'discriminator'?",
    ]


# Round trip

TEXTS = ["", "1e-3", "012", "no", "NO", "null", "~", "true", "1:30", "0x1f", "深度学习", "a: b", "#x", "- a", "'", '"', "a\nb"]
TEXTS += [" a ", "{a}", "[1, 2]", "*x", "&x", "!x", "%x", "@x", "=", "<<", ".inf", "x" * 300, "word " * 60, "\t", "\x85", "\u2028", "😀"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_back_as_it_was_written(at, text):
    cfg = load_stored({"log": {"env": text}}, Path("x"))
    assert cfg.log.env == text
    assert at(dump_yaml(to_plain(cfg))) == cfg
    for dump in (dump_yaml, dump_line):
        assert plain_value(parse_text(dump({"a": [text, {text: text}]}), "x")) == {"a": [text, {text: text}]}


@pytest.mark.parametrize("number", [1e-05, 1e16, 1e300, 0.1, -0.0, 1.0, math.inf, -math.inf, 5e-324, 123456789.123456789])
def test_a_number_is_read_back_to_the_last_bit(at, number):
    cfg = load_stored({"optim": {"name": "SGD", "lr": number}}, Path("x"))
    again = at(dump_yaml(to_plain(cfg))).optim["model"].args["lr"]
    assert (again, math.copysign(1, again)) == (number, math.copysign(1, number))


@pytest.mark.parametrize("extra", ["", GAN, ADAM, "schedule: {name: StepLR, step_size: 3}", "model: torchvision:resnet18"])
def test_a_config_is_read_back_as_it_was_written(at, extra):
    cfg = at("base: dogcat_small.yaml\n" + extra)
    assert at(dump_yaml(to_plain(cfg))) == cfg == load_stored(to_plain(cfg), Path("x"))
    assert flatten(to_plain(at(dump_yaml(to_plain(cfg))))) == flatten(to_plain(cfg))


def test_mistakes_in_a_stored_config_name_its_file():
    with pytest.raises(ConfigError, match=r"^runs/last.pth: no key 'train.old_key'"):
        load_stored({"train": {"old_key": 3}}, Path("runs/last.pth"))


def test_the_place_of_each_value_is_known(at):
    at("train: {seed: 3}\n")
    tree = resolve("a.yaml", as_flags("--clip=2")).tree
    places = {key: tree.at(f"train.{key}").where for key in ("seed", "clip", "max_epoch")}
    assert places == {"seed": "a.yaml:1", "clip": "--clip=2", "max_epoch": "default"}


def test_configs_are_frozen_and_complete():
    cfg = load("dogcat")
    with pytest.raises(AttributeError):
        cfg.train.seed = 3
    assert cfg.optim["model"].args["lr"] == 1e-3 and set(COMPONENTS) >= {"model", "data", "task", "optim"}
