"""The command line as people type it: commands, flags, exit codes and messages."""

import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

import main
from configs.hints.book import ROOT as NAMED_ROOT
from configs.hints.book import SIZE
from configs.hints.words import ABSENT
from configs.keys import schema_keys
from utils.config.cli import Flag, to_flags
from utils.errors import ConfigError

THREE = ["check", "dogcat", "--lr=fast", "--model=ResNet43", "--train.max_epcoh=3"]
BOOK = [
    "--lr=0.1",
    "--batch-size=3",
    "--max-epoch=3",
    "--num-workers=0",
    "--use-gpu=false",
    "--env=book",
    "--print-freq=3",
    "--debug-file=/tmp/d",
    "--result-file=r.csv",
    "--weight-decay=0.1",
    "--lr-decay=0.9",
    "--train-data-root=a",
    "--test-data-root=b",
    "--load-model-path=c.pth",
]


def process(*arguments: str, code: str = "", **options) -> subprocess.CompletedProcess:
    """Run main.py, or a line of Python, in a process of its own."""
    command = ["-c", code] if code else [str(ROOT / "main.py")]
    return subprocess.run([sys.executable, *command, *arguments], capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def printed(run):
    """The values that `check --print` shows for some flags, as text by key."""

    def read(*arguments: str) -> dict[str, str]:
        result = run("check", *arguments, "--print")
        assert (result.code, result.err) == (0, "")
        lines = [line.rpartition("  # ")[0].partition(": ") for line in result.out.splitlines()]
        return {key: value for key, _, value in lines}

    return read


@pytest.fixture
def given(monkeypatch):
    """The words, and the flags as key and text, that a command is given for what was typed."""

    def typed(command: str, *arguments: str) -> tuple[list[str], list[tuple[str, str]]]:
        calls = []
        monkeypatch.setitem(main.COMMANDS, command, lambda *words, **flags: calls.append((words, flags)))
        assert main.main([command, *arguments]) == 0
        ((words, flags),) = calls
        return list(words), [(flag.key, flag.text) for flag in to_flags(flags)]

    return typed


# Processes


def test_a_check_tells_three_mistakes_without_torch_and_writes_nothing(tmp_path):
    heavy = "{'torch', 'torchvision', 'numpy', 'PIL', 'matplotlib', 'visdom', 'tensorboardX', 'fire', 'asyncio'}"
    code = f"import sys, main; c = main.main(sys.argv[1:]); print({heavy} & set(sys.modules)); sys.exit(c)"
    for arguments, expected in ((THREE, 2), (["check", "dogcat"], 0), (["help"], 0), (["help", "models"], 0)):
        result = process(*arguments, code=code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert (result.returncode, result.stdout.splitlines()[-1]) == (expected, "set()")
    result = process(*THREE, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "--lr=fast: optim.lr: expected a number, got 'fast'",
        "--model=ResNet43: model: no 'ResNet43' in models; did you mean 'ResNet34'?",
        "--train.max_epcoh=3: no key 'train.max_epcoh'; did you mean 'train.max_epoch'?",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_training_does_not_load_the_compiler(tmp_path):
    """It takes longer to import than the rest of torch; also optimizers and asking for determinism would load it."""
    flags = ["--model=MLP", "--train.max_steps=2", "--log.visdom=false", "--log.pictures=false"]
    code = (
        "import sys, main; c = main.main(sys.argv[1:]); print({'torch._dynamo', 'torch._inductor'} & set(sys.modules))"
    )
    result = process("train", *flags, code=code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.stdout.splitlines()[-1] == "set()", result


def test_help_and_check_take_a_fraction_of_a_second_of_a_processor():
    def seconds(*arguments: str) -> float:
        pid = os.posix_spawn(sys.executable, [sys.executable, str(ROOT / "main.py"), *arguments], os.environ, **quiet)
        _, _, used = os.wait4(pid, 0)
        return used.ru_utime + used.ru_stime

    quiet = {"file_actions": [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]}
    assert min(seconds("help") for _ in range(3)) < 0.5
    assert min(seconds("check", "dogcat") for _ in range(3)) < 0.7


def test_output_survives_a_plain_terminal_and_a_reader_that_leaves(tmp_path):
    plain = process("help", "train", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert plain.returncode == 0 and r"[--key=value \u2026]" in plain.stdout and not plain.stderr
    odd = subprocess.run([sys.executable, str(ROOT / "main.py"), "check", b"--seed=\xff"], capture_output=True)
    assert odd.returncode == 2 and b"expected a whole number" in odd.stderr
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run([sys.executable, str(ROOT / "main.py"), "help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (0, b"")


def test_another_pipe_that_breaks_is_told_of(run, monkeypatch):
    """A dataset's, say; it ended with exit code 0 and without a word."""

    def broken(*arguments):
        raise BrokenPipeError(32, "the share's server is gone")

    monkeypatch.setattr("trainer.run.session.train", broken)
    given = run("train")
    assert given.code == 10 and "BrokenPipeError: [Errno 32] the share's server is gone" in given.err


# Words and flags


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lr", "0.1"], "--lr 0.1: write --lr=0.1 (or put '0.1' before the flags)"),
        (["--lr", "-0.1"], "--lr -0.1: write --lr=-0.1 (or put '-0.1' before the flags)"),
        (["-x"], "-x: a flag is written --key=value, with two plain hyphens in front"),
        (["-lr=3"], "-lr=3: a flag is written --lr=3, with two plain hyphens in front"),
        (["—lr=3"], "—lr=3: a flag is written --lr=3, with two plain hyphens in front"),
        (["--"], "--: a flag is written --key=value, with two plain hyphens in front"),
        (["-"], "-: a flag is written --key=value, with two plain hyphens in front"),
        (["--=3"], "--=3: a flag is written --key=value, with two plain hyphens in front"),
        (["--lr=1", "--lr=2"], "--lr=2: is given twice (--lr=1 before); leave one out"),
        (["--max-epoch=1", "max_epoch=2"], "max_epoch=2: is given twice (--max-epoch=1 before); leave one out"),
        (["--lr=1", "--optim.lr=2"], "--lr=1: is the same key as --optim.lr=2; leave one out"),
        (["--optim=SGD", "--optim.name=SGD"], "--optim.name=SGD: is the same key as --optim=SGD; leave one out"),
        (["--lr"], "--lr: needs a value: --lr=…"),
        (["--model"], "--model: needs a value: --model=…"),
        (["--seed="], "--seed=: train.seed: expected a whole number, got nothing"),
        (["--run"], "--run: needs a value: --run=…"),
        (["--config="], "--config=: needs a value: --config=…"),
        (["--quiet=perhaps"], "--quiet=perhaps: expected true or false; write --quiet or leave it out"),
        (["--no-lr"], "--no-lr: no key 'no_lr'; 'optim.lr' is not true or false, and has no --no- form"),
        (["--no-log.env"], "--no-log.env: only a key that is true or false has a --no- form, and it takes no value; "
         "write --log.env=…"),
        (["--no-visdom=false"], "--no-visdom=false: only a key that is true or false has a --no- form, and it takes no "
         "value; write --log.visdom=…"),
        (["--data=DogCat"], "--data=DogCat: data: expected a section of keys, as data.dataset, got 'DogCat'"),
        (["--train=3"], "--train=3: train: expected a section of keys, as train.max_epoch, got '3'"),
        (["--train..seed=3"], "--train..seed=3: no key 'train.'; python main.py help lists the keys"),
        (["--rnu=a"], "--rnu=a: no key 'rnu'; did you mean 'run'?"),
        (["--learning-rate=1"], "--learning-rate=1: no key 'learning_rate'; did you mean 'optim.lr'?"),
        (["--transform=Resize"], "--transform=Resize: no key 'transform'; did you mean 'data.transform'?"),
        (["--monitor=acc"], "--monitor=acc: train.monitor: Classification has no metric 'acc'; did you mean "
         "'accuracy'?"),
        (["ResNet34"], "no config 'ResNet34'; did you mean --model=ResNet34?"),
        (["--epochs=1"], "--epochs=1: no key 'epochs'; did you mean 'train.max_epoch'?"),
        (["--plot-every=9"], "--plot-every=9: no key 'plot_every'; did you mean 'log.print_freq'?"),
        (["--save-every=9"], "--save-every=9: no key 'save_every'; did you mean 'train.keep_every'?"),
        (["dogcat", "--img-size=9"], f"--img-size=9: no key 'img_size'; {SIZE}"),
        (["--data-root=x"], f"--data-root=x: no key 'data_root'; {NAMED_ROOT}"),
        (["--val_data_root=x"], f"--val_data_root=x: no key 'val_data_root'; {ABSENT['val_data_root']}"),
        (["--test-batch-size=9"], "--test-batch-size=9: no key 'test_batch_size'; python main.py help lists the keys"),
        (["--optim=Adm", "--lr=0.1"], "--optim=Adm: optim: no 'Adm' in torch.optim; did you mean 'Adam'?"),
        (["--model=LeNett", "--in-channels=3"], "--model=LeNett: model: no 'LeNett' in models; did you mean 'LeNet'?"),
        (["mnist", "--epochs=1"], "--epochs=1: no key 'epochs'; did you mean 'train.max_epoch'?"),
        (["--steps=1"], "--steps=1: no key 'steps'; did you mean 'train.max_steps'?"),
        (["--name=a"], "--name=a: no key 'name'; did you mean 'run'?"),
        (["--data.transform.train[0].size=9"], "--data.transform.train[0].size=9: a list is given whole, as "
        "'--data.transform.train=[{name: Resize, size: 64}]', or in a file"),
        (["--optim=Adam", "--momentum=1"], "--momentum=1: no key 'momentum'; it is an argument of Muon and RMSprop "
         "and SGD: add --optim=Muon"),
        (["--optim=Adagrad", "--lr-decay=1"], "--lr-decay=1: could be --optim.lr_decay or --schedule.lr_decay: write "
         "it in full"),
        (["a", "b"], "check takes one word, got a, b; flags are written --key=value"),
        (["mnist", "--config=mnist"], "check takes one word, got mnist, mnist; flags are written --key=value"),
        (["dogcatt"], "no config 'dogcatt'; did you mean 'dogcat'?"),
        (["configs/dogcatt.yaml"], "no config 'configs/dogcatt.yaml'; did you mean 'dogcat'?"),
        (["--seed=a\nb" + "c" * 99], "--seed=a\\nb" + "c" * 88 + "…: train.seed: expected a whole number, "
         "got 'a\\nb" + "c" * 55 + "…'"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line_that_says_what_to_type(run, arguments, message):
    assert run("check", *arguments) == (2, "", message + "\n")


def test_all_that_cannot_be_read_is_told_together(run):
    assert run("check", "--lr", "3", "-x", "--=3").err.count("\n") == 3


@pytest.mark.parametrize(
    "flag", ["--max-epoch=7", "--max_epoch=7", "max-epoch=7", "max_epoch=7", "--train.max-epoch=7"]
)
def test_a_key_is_typed_with_or_without_dashes(printed, flag):
    assert printed(flag)["train.max_epoch"] == "7"


def test_a_key_of_the_schema_goes_before_an_argument_of_that_name(printed):
    values = printed("--seed=7", "--data.dataset.seed=8")
    assert (values["train.seed"], values["data.dataset.seed"]) == ("7", "8")


def test_a_bare_flag_is_true_and_no_makes_it_false(printed):
    short, full = (
        ["--tensorboard", "--no-visdom", "--no-data.shuffle"],
        ["tensorboard=true", "visdom=false", "shuffle=false"],
    )
    assert printed(*short) == printed(*full) != printed()
    values = printed("--no-use-gpu", "--optim=SGD", "--nesterov", "--no-maximize", "--env")
    assert (values["train.use_gpu"], values["optim.nesterov"], values["optim.maximize"]) == ("false", "true", "false")
    assert values["log.env"] == "'true'"


@pytest.mark.parametrize(
    "value", ["dog#1", "{a}", "1,2", "(1)", "None", "a=b", "--x", "a b", "'q'", "深度", "[1", "007", "-"]
)
@pytest.mark.parametrize("command", ["val", "check"])
def test_a_text_arrives_as_it_was_typed(given, command, value):
    """Through fire, and past it."""
    words, flags = given(command, "a word", f"--log.env={value}", f"--l={value}")
    assert words == ["a word"] and flags == [("log.env", value), ("l", value)]


@pytest.mark.parametrize("value", ["dog#1", "{a}", "[1, 2", "1,2", "a  # b", "1e-3"])
def test_a_text_gets_into_the_config_as_it_was_typed(printed, value):
    assert yaml.safe_load(printed(f"--log.env={value}")["log.env"]) == value


@pytest.mark.parametrize("key", ["l", "help", "self", "words", "flags", "trace", "interactive", "separator", "v"])
def test_fire_keeps_none_of_the_flags_for_itself(given, run, key):
    assert given("val", f"--{key}=5") == ([], [(key, "5")])
    assert run("check", f"--{key}=5").err.startswith(f"--{key}=5: no key '{key}'")


@pytest.mark.parametrize("config", ["default", "dogcat"])
def test_the_flags_of_the_book_reach_one_key_each(printed, config):
    before, after = printed(config), printed(config, *BOOK)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    leaves = {flag.strip("-").partition("=")[0].replace("-", "_") for flag in BOOK}
    assert {key.rpartition(".")[2] for key in changed} | {"num_workers"} == leaves and len(changed) >= len(BOOK) - 1


def test_a_config_is_given_as_a_name_a_path_or_a_flag(run, tmp_path):
    (tmp_path / "my.yaml").write_text("base: mnist\n")
    for typed in (
        "mnist",
        "mnist.yaml",
        str(ROOT / "configs" / "mnist.yaml"),
        "my.yaml",
        "--config=mnist",
        "config=my.yaml",
    ):
        assert run("check", typed).code == 0
    assert run("check").out == "default: no mistakes found\n"
    assert run("check", "--lr=3", "mnist").out == run("check", "mnist", "--run=a", "--quiet").out


def test_print_shows_each_value_and_where_it_was_written(run, tmp_path):
    (tmp_path / "my.yaml").write_text("base: mnist\ntrain:\n  seed: 3\noptim: {lr: 0.5}\n")
    lines = run("check", "my.yaml", "--print", "--model=MLP", "--hidden=[3, 4]").out.splitlines()
    base = f"{ROOT}/configs/mnist.yaml"
    for line in (
        f"task: Classification  # {base}:4",
        "model.name: MLP  # --model=MLP",
        "model.hidden: [3, 4]  # --hidden=[3, 4]",
        f"optim.name: Adam  # {base}:9",
        "optim.lr: 0.5  # my.yaml:4",
        "train.seed: 3  # my.yaml:3",
        "log.env: null  # default",
    ):
        assert line in lines
    keys = [line.partition(":")[0] for line in lines[:-1]]
    assert all(any(key == k or key.startswith(f"{k}.") for key in keys) for k in schema_keys())


# Commands and exit codes


def test_an_unknown_command_names_the_nearest(run):
    assert run("trian") == (2, "", "no command 'trian'; did you mean 'train'?\n")
    assert run("dogcat").err.startswith("no command 'dogcat'; did you mean 'train dogcat'?")
    assert run("--lr=3").code == run("").code == 2


def test_debug_shows_the_traceback(run):
    for flag in ("--debug", "--debug=true", "debug=true"):
        given = run("check", "dogcatt", flag)
        assert given.code == 2 and "Traceback" in given.err and "ConfigError: " in given.err
    assert run("check", "dogcatt", "--debug=false").code == 2


@pytest.mark.parametrize("command", ["val", "test"])
def test_a_checkpoint_is_asked_for(run, command):
    result = run(command)
    assert (result.code, result.err) == (
        2,
        f"{command}: which checkpoint? e.g. python main.py {command} checkpoints/NAME\n",
    )
    for given in ("nowhere", "--load-model-path=nowhere"):
        result = run(command, given)
        assert result.code == 4 and result.err.startswith("nowhere: there is no such run folder") and result.out == ""
    assert run(command, "a", "--load-model-path=b").code == 2


def test_a_resumed_run_takes_no_config_and_no_name(run):
    for word in ("mnist", "--run=a", "--config=mnist"):
        assert run("train", word, "--resume=b").code == 2
    assert run("train", "--resume").code == 4
    assert run("train", "--resume=nowhere").code == 4


def test_commands_work_from_a_notebook(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main.check("dogcat", lr=0.1, visdom=False, max_steps=None, **{"optim.betas": [0.5, 0.9]})
    assert capsys.readouterr().out == "dogcat: no mistakes found\n"
    with pytest.raises(ConfigError, match=r"^--lr=fast: optim.lr: expected a number"):
        main.check("dogcat", lr="fast")
    main.help("StepLR")
    main.diff(*(str(ROOT / "configs" / f"{name}.yaml") for name in ("mnist", "mnist_lstm")))  # a file of commands/
    said = capsys.readouterr().out
    assert "step_size" in said and "SequenceClassifier" in said
    assert not hasattr(main, "nothing")
    assert to_flags({"a_b": None}) == [Flag("a_b", "null", "--a_b=null")]
