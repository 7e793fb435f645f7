"""Messages in Chinese: every one has a translation, and a finished text finds the one that it was made from."""

import errno
import os
import re
import subprocess
import sys
from gettext import GNUTranslations

import pytest
from conftest import PLAIN, ROOT

from commands._messages import CATALOGUE, compiled, messages, page, read
from utils.language.choice import OWN, VARIABLES, is_chinese
from utils.language.translate import Translator, translated
from utils.terminal import columns, filled

MADE = read(CATALOGUE.read_text(encoding="utf-8"))
CHINESE = re.compile(r"[\u4e00-\u9fff]")
PLACEHOLDER = re.compile(r"\{\d+\}")


@pytest.fixture
def language(monkeypatch):
    """Set the variables that name a language; the others are unset, and --lang is forgotten after the test."""

    def choose(**variables: str) -> None:
        for name in VARIABLES:
            monkeypatch.setenv(name, variables.get(name, ""))

    choose()
    return choose


# The catalogue


def test_every_message_has_a_translation():
    """`python -m commands._messages` adds new ones to the catalogue, where they are to be translated."""
    assert not [f"{file}: {text}" for text, file in messages().items() if not MADE.get(text)]


def test_the_catalogue_is_what_the_code_says():
    assert page(MADE) == CATALOGUE.read_text(encoding="utf-8"), "run python -m commands._messages"
    assert compiled(MADE) == CATALOGUE.with_suffix(".mo").read_bytes(), "run python -m commands._messages"


def test_placeholders_are_the_same():
    assert not [t for t, made in MADE.items() if sorted(PLACEHOLDER.findall(t)) != sorted(PLACEHOLDER.findall(made))]


def test_flags_keys_and_files_stay_as_they_are():
    plain = re.compile(r"--[a-z_.-]*[a-z]|\b[\w-]+\.(?:pth|csv|png|yaml|jsonl|json)\b")
    assert not [t for t, made in MADE.items() if sorted({*plain.findall(t)}) != sorted({*plain.findall(made)})]


def test_chinese_has_the_marks_of_chinese():
    """After a Chinese character there is no mark of English."""
    assert not [made for made in MADE.values() if re.search(r"[\u4e00-\u9fff][,;:?!](?:\s|$)", made)]


def test_gettext_reads_the_catalogue():
    with CATALOGUE.with_suffix(".mo").open("rb") as stream:
        assert GNUTranslations(stream).gettext("nothing is removed") == "什么也没删除"


def test_words_of_the_system_are_told_whole():
    """One of them has an "or", at which parts of a message meet."""
    for number in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
        reason = f"cannot be written: {os.strerror(number)}; make room or check its permissions"
        told = Translator(MADE).translate(f"a.csv: {reason}")
        assert not re.search(r"[A-Za-z]{2}", told.replace("a.csv", "")), told


# Finding the template of a finished text


def dummies(template: str) -> str:
    """The text that a template makes of parts that mean nothing; one behind another begins as a hint does."""
    apart = re.sub(r"(?<=\})(\{\d+\})", r"; \1", template)
    return PLACEHOLDER.sub(lambda match: f"X{match[0][1:-1]}", apart)


def plain(text: str) -> str:
    """A text without marks: ": " of a short template may be "：" of a longer one."""
    return re.sub(r"[\s：:，,；;（）()。.]", "", text)


def test_each_template_finds_its_own_translation():
    translator = Translator(MADE)
    translated = {template: translator.translate(dummies(template)) for template in MADE}
    wrong = {t: told for t, told in translated.items() if MADE[t] != t and plain(told) != plain(dummies(MADE[t]))}
    assert not wrong


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.yaml:3: no key 'lrr'; did you mean 'optim.lr'?", "a.yaml:3：没有键 'lrr'；是不是想写 'optim.lr'？"),
        ("--lr=x: optim.lr: expected a number, got 'x'", "--lr=x: optim.lr：应为数，得到 'x'"),
        ("a/b: there is no such run folder or checkpoint", "a/b：没有这个运行目录或检查点"),
        ("no config 'dogcta'; did you mean 'dogcat'?", "没有配置 'dogcta'；是不是想写 'dogcat'？"),
        ("done: 5 steps, 1 epoch in 2.8 s", "完成：5 步，1 轮，用时 2.8 s"),
        ("files in checkpoints/a: best.pth, log.jsonl", "checkpoints/a 里的文件：best.pth, log.jsonl"),
        ("a.png: the curves of a, b", "a.png：所画曲线：a, b"),
        (
            "1. product of matrices (aten::mm): 24%, 9 ms a step in 3 calls",
            "1. 矩阵乘积 (aten::mm)：24%，每步 9 ms，3 次调用",
        ),
    ],
)
def test_what_stands_in_a_message_is_translated_too(text, told):
    assert translated(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "the quick brown fox is lazy, and the dog: of all of them",
        "RuntimeError: expected scalar type Long but found Float",
        "床前明月光，疑是地上霜。",
        "cat  dog  train  val",
        "accuracy 0.6738768718801996",
        '{"phase": "val", "is_best": true}',
        "python main.py train dogcat --lr=0.1",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert translated(text) == text


# Choosing the language


@pytest.mark.parametrize(
    ("variables", "chinese"),
    [
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({}, False),
        ({"LANGUAGE": "zh_CN:en", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, True),  # as in a container: it names no language
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, False),  # as scripts write it
        ({OWN: "en", "LC_ALL": "zh_CN.UTF-8"}, False),
    ],
)
def test_the_environment_chooses(language, variables, chinese):
    language(**variables)
    assert is_chinese() == chinese


def test_an_option_of_every_command_chooses(run, language):
    assert run("runs", "--lang=zh").out == "checkpoints 里还没有运行；用 python main.py train 开始第一个\n"
    language(LANG="zh_CN.UTF-8")
    assert run("runs", "--lang=en").out == "no run in checkpoints yet; python main.py train begins one\n"
    assert run("check", "lang=zh").out == "default：没有发现错误\n"
    assert run("--lang=zh").out.startswith("用法：\n")


def test_another_language_is_a_mistake(run, language):
    assert run("check", "--lang=fr") == (2, "", "--lang=fr: write --lang=zh (中文) or --lang=en (English)\n")
    language(LANG="zh_CN.UTF-8")
    assert run("check", "--lang=fr").err == "--lang=fr：请写 --lang=zh（中文）或 --lang=en（English）\n"


def test_mistakes_are_told_in_chinese_with_the_same_exit_code(run, language):
    language(LANG="zh_CN.UTF-8")
    told = run("check", "--lrr=1", "--model=ResNet43")
    assert told.code == 2
    assert told.err.splitlines() == [
        "--lrr=1：没有键 'lrr'；是不是想写 'optim.lr'？",
        "--model=ResNet43: model：models 里没有 'ResNet43'；是不是想写 'ResNet34'？",
    ]
    assert run("val", "nosuch") == (4, "", "nosuch：没有这个运行目录或检查点\n")


def test_help_is_in_chinese(run, language):
    language(LANG="zh_CN.UTF-8")
    out = run("help").out
    english = [line for line in out.splitlines() if re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}", line)]
    assert not [line for line in english if "python main.py" not in line]
    assert "  --seed=N     种子相同，结果相同\n" in run("help", "train").out
    assert "取值：数，至少 0" in run("help", "train.ema").out or "取值：" in run("help", "train.ema").out


def test_a_training_speaks_chinese_and_its_journal_does_not(run, language, tmp_path):
    language(LANG="zh_CN.UTF-8")
    out = run("train", "--model=MLP", "--train.max_steps=2", "--run=a", *PLAIN).out
    assert (
        "训练样本 1,258 个，验证样本 269 个" in out
        and "完成：2 步，0 轮，用时" in out
        and "下一步：python main.py" in out
    )
    for name in ("log.jsonl", "config.yaml", "data.txt"):
        file = tmp_path / "checkpoints" / "a" / name
        assert not file.exists() or not CHINESE.search(file.read_text(encoding="utf-8")), name
    language(LANG="zh_CN.UTF-8")
    assert not CHINESE.search(run("train", "--resume=checkpoints/a", "--max-steps=3", "--json").out)


def test_tables_have_chinese_heads_above_their_columns(run, language, monkeypatch):
    language(LANG="zh_CN.UTF-8")
    monkeypatch.setenv("COLUMNS", "200")  # in a narrow terminal columns are left out
    for name, rate in (("a", "0.01"), ("b", "0.02")):
        run("train", "--model=MLP", "--train.max_steps=2", f"--lr={rate}", f"--run={name}", *PLAIN)
    heads, *rows = run("runs").out.splitlines()
    assert heads.split() == ["运行", "配置", "任务", "数据", "模型", "指标", "最佳", "轮数", "步数", "用时", "状态"]
    assert {columns(row[: row.index("Digits")]) for row in rows} == {columns(heads[: heads.index("数据")])}
    compared = [line for line in run("diff", "a", "b").out.splitlines() if "第 2 步" in line]
    assert compared[0].startswith("val top5，最佳  ") and len({columns(line) for line in compared}) == 1
    layers = run("summary", "--model=LeNet", "--depth=1").out.splitlines()
    assert layers[0].split() == ["层", "输出形状", "参数", "FLOPs"]
    assert len({columns(line) for line in layers[:4]}) == 1 and layers[5].split()[0] == "参数"
    layers = run("doctor", "a").out.splitlines()
    assert layers[1].split() == ["层", "输出", "离散", "死亡", "梯度", "离散"] and columns(layers[1]) == columns(
        layers[2]
    )


def test_a_terminal_without_chinese_gets_english():
    code = "from utils.terminal import show; show('nothing is removed')"
    env = {"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "ascii", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout == "nothing is removed\n"


def test_english_loads_no_catalogue():
    code = "import sys, main; main.main(['check']); print({'gettext', 'utils.language.translate'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"LANG": "C.UTF-8"}, capture_output=True, text=True
    )
    assert done.stdout.endswith("\nset()\n")


def test_chinese_is_wrapped_by_columns(language):
    language(LANG="zh_CN.UTF-8")
    text = "训练集要过多少遍，见 --train.max_epoch=10（轮）。" * 5
    lines = filled(text, 40, "  a  ", "     ").split("\n")
    assert all(columns(line) <= 42 and line[5:6] not in "，。）" for line in lines)
    assert "".join(line[5:] for line in lines).replace(" ", "") == text.replace(" ", "")
