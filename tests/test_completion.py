"""Shell completion: what the Tab key finds, in bash itself too, and that it needs no torch."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

import main
from commands.completion import candidates
from configs import COMPONENTS

MAIN = ROOT / "main.py"


@pytest.mark.parametrize(
    "line, found",
    [
        (" ch", ["check"]),
        (" train dogcat_s", ["dogcat_small"]),
        (" check --config=linear", ["--config=linear_regression"]),
        (" train --model=Res", ["--model=ResNet34"]),
        (" train --model=torchvision:resnet10", ["--model=torchvision:resnet101"]),
        (" train --optim.name=RM", []),
        (" train --optim=RM", ["--optim=RMSprop"]),
        (" train --dataset=Dig", ["--dataset=DigitStrings", "--dataset=Digits"]),
        (" train --max_s", ["--max_steps="]),
        (" train --max-s", ["--max-steps="]),
        (" train --train.max_s", ["--train.max_steps="]),
        (" train --js", ["--json"]),
        (" train --precision=b", ["--precision=bf16"]),
        (" train --use-gpu=", ["--use-gpu=auto", "--use-gpu=false", "--use-gpu=true"]),
        (" train --model=MLP --model.hid", ["--model.hidden="]),
        (" train mnist_gan --optim.generator.lr", ["--optim.generator.lr="]),
        (" runs --so", ["--sort="]),
        (" help ResN", ["ResNet34"]),
        (" help transf", ["transforms"]),
        (" completion ", ["bash", "zsh"]),
        (" nothing --lr", []),
        (" train nowhere.yaml --no-such", []),
    ],
)
def test_the_last_word_is_completed(line, found):
    assert candidates(line) == found


def test_all_commands_configs_and_models_are_found():
    assert candidates(" ") == sorted(main.COMMANDS)
    assert candidates(" train ") == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    models = set(COMPONENTS["model"].all_names()) - set(COMPONENTS["model"].variants)
    assert {f"--model={name}" for name in models} <= set(candidates(" train --model="))


def test_runs_are_found_and_a_runs_own_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "checkpoints" / "one"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("model: MLP\n")
    assert candidates(" val ") == ["checkpoints/one"] and candidates(" train --resume=c") == [
        "--resume=checkpoints/one"
    ]
    assert candidates(" val checkpoints/one --model.hid") == ["--model.hidden="]


def test_it_is_a_command_that_loads_nothing_heavy(run, tmp_path):
    assert run("completion").code == run("completion", "fish").code == 2
    assert run("completion", "words", " train --model=Res").out == "--model=ResNet34\n"
    code = "import sys, main; main.main(sys.argv[1:]); print({'torch', 'numpy', 'fire'} & set(sys.modules))"
    arguments = [sys.executable, "-c", code, "completion", "words", " train --model=MLP --hid"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(arguments, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("--hidden=\nset()\n", "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    "line, found",
    [
        (f"{ROOT}/main.py train --model=Res", "ResNet34"),
        (f"{ROOT}/main.py tra", "train"),
        ("other.py x", ""),
        ("o", ""),
    ],
)
def test_bash_completes_what_follows_main_py(run, tmp_path, line, found):
    """It breaks words at = and :, so that only what follows is to be given; another script is not run."""
    (tmp_path / "other.py").write_text("print('x')")
    script = run("completion", "bash").out
    words = line.replace("=", " = ").split()
    ask = f"""
        COMP_LINE={f"{sys.executable} {line}"!r} COMP_POINT=${{#COMP_LINE}}
        COMP_WORDS=({sys.executable} {" ".join(words)}) COMP_CWORD={len(words)}
        _main_py; echo "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "--norc", "-c", script + ask], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == found
