"""Poems: reading and cleaning, no poem on both sides, the language model, what it writes, and resuming it."""

import io
import json
import math
import os
import zipfile
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, ROOT, rows, same_run, state

from configs.schema import Data
from data.loading.loader import Loader
from data.poems import Poems, clean, remove_duplicates
from utils.errors import DataError

LINES = ["春眠不覺曉，", "處處聞啼鳥。", "夜來風雨聲，", "花落知多少。", "白日依山盡，", "黃河入海流。", "學習千里目，"]
SMALL = [
    "--model.embedding=16",
    "--model.width=32",
    "--data.dataset.root=poems",
    "--data.dataset.length=8",
    "--data.dataset.val_fraction=0.25",
    "--batch-size=4",
    "--print-freq=5",
    *PLAIN,
]


def poem(i: int) -> list[str]:
    """One of 49 different poems of four lines, 24 characters."""
    return [LINES[i % 7], LINES[(i // 7 + 1) % 7], LINES[i % 7], LINES[3]]


def write_poems(folder, poems) -> None:
    folder.mkdir(exist_ok=True)
    objects = [{"author": "無名", "title": "無題", "paragraphs": lines} for lines in poems]
    (folder / "poet.tang.0.json").write_text(json.dumps(objects, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    write_poems(tmp_path / "poems", [poem(i) for i in range(49)])
    return tmp_path / "poems"


@pytest.fixture
def trained(run, folder):
    """A run of some seconds, and how to let it write."""
    given = run("train", "poetry", "--run=a", "--max-epoch=4", *SMALL)
    assert given.code == 0, given.err
    return lambda *flags: run("generate", "checkpoints/a", *flags)


# The data


def test_texts_are_cleaned():
    assert clean("[胡]風「吹」{𥫗/戢}□，（一作雨）《歌》 。") == "胡風吹□□，歌。"
    assert remove_duplicates(["春。", "夏，", "春，", "", "□"]) == ["春。", "夏，", "□"]


def test_a_sample_is_a_window_of_the_row_and_the_next_characters(folder):
    data = Poems(str(folder), "train", length=10)
    inputs, targets = data.read(list(range(len(data))))
    assert inputs.shape == targets.shape == (len(data), 10) and inputs.dtype == torch.int64
    assert torch.equal(inputs[:, 1:], targets[:, :-1]) and torch.equal(inputs[1:, 0], targets[:-1, -1])
    text = "".join(data.vocabulary[i] for i in [int(inputs[0, 0]), *targets.flatten().tolist()])
    assert text.replace("<EOP>", "").split("<START>")[1:] == data.poems
    assert torch.equal(data[3][0], inputs[3])


def test_random_windows_are_a_function_of_seed_epoch_and_index(folder):
    """Each begins within its own place in the row, another one in each epoch; validation stays on the grid."""
    data = Poems(str(folder), "train", length=10, windows="random")
    grid = Poems(str(folder), "train", length=10)
    loaders = [Loader(data, Data(batch_size=4, num_workers=n), 3, True, lambda text: None) for n in (0, 0, 1)]
    first, again, threads = ([(i, b[0]) for i, b in loader.epoch(0)] for loader in loaders)
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(first, again, strict=True))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(first, threads, strict=True))
    late = list(loaders[0].epoch(0, 3))
    assert torch.equal(late[0][1][0], first[3][1])
    row = "".join(map(chr, grid.row.tolist()))
    starts = set()
    for indices, windows in first:
        for index, window in zip(indices, windows, strict=True):
            text = "".join(map(chr, window.tolist()))
            begin = 10 * index
            assert any(row[begin + later :].startswith(text) for later in range(10)) or index == len(data) - 1
            starts.add(next((later for later in range(10) if row[begin + later :].startswith(text)), -1))
    assert len(starts) > 5
    other = dict(enumerate(b[0] for _, b in loaders[0].epoch(1)))
    assert not all(torch.equal(window, other[n]) for n, (_, window) in enumerate(first))
    val = Poems(str(folder), "val", length=10, windows="random")
    assert not val.draws and torch.equal(val.read([2], [5])[0], Poems(str(folder), "val", length=10)[2][0][None])
    for loader in loaders:
        loader.close()


def test_no_poem_is_on_both_sides_and_none_is_lost(tmp_path):
    write_poems(tmp_path / "p", [[*poem(i % 30)[:3], "花[落]知多少！" if i > 29 else LINES[3]] for i in range(60)])
    train, val = (Poems(str(tmp_path / "p"), split, val_fraction=0.4).poems for split in ("train", "val"))
    assert len(train) == 18 and len(val) == 12
    assert not set(train) & set(val)


def test_the_vocabulary_is_of_the_training_poems_and_plain(folder):
    write_poems(folder, [poem(i) for i in range(49)] + [["龜龜龜。"]])
    train = Poems(str(folder), "train", val_fraction=0.2, seed=1)
    val = Poems(str(folder), "val", val_fraction=0.2, seed=1, vocabulary=train.meta["vocabulary"])
    assert json.loads(json.dumps(train.meta)) == train.meta
    assert train.meta["vocabulary_size"] == len(train.vocabulary) == len(set(train.vocabulary))
    assert set(train.vocabulary[3:]) == set("".join(train.poems)) - {"龜"} | ({"龜"} & set("".join(train.poems)))
    assert val.meta == train.meta == Poems(str(folder), "val", val_fraction=0.2, seed=1).meta
    alien = Poems(str(folder), "test", vocabulary=["<START>", "<EOP>", "□", "。"])
    assert set(alien.row.tolist()) == {0, 1, 2, 3}


def test_rare_characters_are_unknown(folder):
    write_poems(folder, [poem(0), poem(8), ["龜。"]])
    assert "龜" not in Poems(str(folder), "train", val_fraction=0.0).vocabulary
    assert "龜" in Poems(str(folder), "train", val_fraction=0.0, min_count=1).vocabulary


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("春眠不覺曉", "is not JSON"),
        ('{"paragraphs": []}', "is no list of objects"),
        ('[{"paragraphs": "春"}]', "must be a list of texts"),
        ('[{"title": "春"}, {"paragraphs": []}]', "no poems in"),
        (b"\xff\xfe[", "is not JSON"),
    ],
)
def test_bad_files_get_a_sentence(run, folder, content, told):
    (folder / "poet.tang.0.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    given = run("train", "poetry", *SMALL)
    assert given.code == 3
    assert told in given.err and len(given.err.strip().splitlines()) == 1


def test_a_root_that_is_not_there_or_holds_nothing_gets_a_sentence(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Poems(str(tmp_path / "absent"), "train")
    with pytest.raises(ValueError, match="length=0 holds no character"):
        Poems(str(tmp_path), "train", length=0)
    with pytest.raises(DataError, match=r"looked for poet\.\*\.json and tang\.npz"):
        Poems(str(tmp_path), "train")


def as_dict(words):
    return np.array(dict(enumerate(words)), dtype=object)


@pytest.mark.parametrize("stored", [np.array, as_dict])
def test_the_books_npz_is_read_without_pickle(tmp_path, monkeypatch, stored):
    """As the book stored it, a dict, too: numpy makes a pickle of that, which is not run."""
    words = [*sorted(set("".join(LINES))), *map(chr, range(0x4E00, 0x4F40)), "<EOP>", "<START>", "</s>"]
    data = np.full((9, 30), len(words) - 1)
    for i, row in enumerate(data):
        text = ["<START>", *"".join(poem(i)), "<EOP>"]
        row[-len(text) :] = [words.index(word) for word in text]
    np.savez_compressed(tmp_path / "tang.npz", data=data, ix2word=stored(words), word2ix=as_dict("unused"))
    expected = ["".join(poem(i)) for i in range(9)]
    monkeypatch.setattr("pickle.Unpickler", None)
    assert Poems(str(tmp_path), "train", val_fraction=0.0).vocabulary[:2] == ["<START>", "<EOP>"]
    assert sorted(Poems(str(tmp_path / "tang.npz"), "train", val_fraction=0.0).poems) == sorted(expected)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_an_npz_that_is_not_the_books_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    no_dict = "is no dict of the numbers from 0 on and their texts"
    for words, told in ((Harmful(), no_dict), ({0: Harmful()}, "no poems"), ({1: "春"}, no_dict), ({}, no_dict)):
        np.savez("tang.npz", data=np.zeros((1, 3), int), ix2word=np.array(words, dtype=object))
        with pytest.raises(DataError, match=told):
            Poems(str(tmp_path), "train")
    assert not (tmp_path / "harmed").exists()
    np.savez(tmp_path / "tang.npz", data=np.full((1, 3), 7), ix2word=np.array(["春"]))
    with pytest.raises(DataError, match="numbers below 1"):
        Poems(str(tmp_path), "train")
    (tmp_path / "tang.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="does not hold the arrays"):
        Poems(str(tmp_path), "train")


def test_an_array_of_gigabytes_is_refused_by_its_size(tmp_path):
    """3 MB of an archive may unpack to 3 GB."""
    with zipfile.ZipFile(tmp_path / "tang.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, count in (("data.npy", 1 << 29), ("ix2word.npy", 2)):
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(head, {"descr": "<i4", "fortran_order": False, "shape": (count,)})
            archive.writestr(name, head.getvalue())  # the head alone says it
    with pytest.raises(DataError, match=r"data.npy unpacks to 2,147 MB, and at most 537 MB are read"):
        Poems(str(tmp_path), "train")


TEXT = "To be, or not to be:\r\n  that is the question.\n" * 60


def test_plain_text_is_read_as_it_is(tmp_path):
    (tmp_path / "input.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    (tmp_path / "README.txt").write_text("Where the text is from")
    train, val, every = (
        Poems(str(tmp_path), split, val_fraction=0.1, whole=whole)
        for split, whole in (("train", False), ("val", False), ("val", True))
    )
    text = TEXT.replace("\r\n", "\n")
    assert train.poems[0] + val.poems[0] == text and len(val.poems[0]) == round(0.1 * len(text))
    assert every.poems == [text] and Poems(str(tmp_path / "input.txt"), "test").poems == [text]
    assert "\n" in train.vocabulary and " " in train.vocabulary
    assert "plain text, character by character" in train.facts.lines[0]
    assert train.facts.source == f"the first 90 % of {tmp_path}/input.txt (data.dataset.val_fraction)"
    assert train.facts.left_out == {"a text about the data, by its name": ["README.txt"]}
    (tmp_path / "input.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(DataError, match="input.txt:2: is not UTF-8"):
        Poems(str(tmp_path), "train")


def test_plain_text_is_trained_and_goes_on(run, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/input.txt").write_text(TEXT)
    flags = ["--model.embedding=8", "--model.width=16", "--max-epoch=1", "--batch-size=8", *PLAIN]
    given = run("train", "poetry", "--data.dataset.root=texts", "--run=a", *flags)
    assert given.code == 0 and "plain text, character by character" in given.out, given.err
    free = run("generate", "checkpoints/a", "--max-gen-len=20")
    assert free.code == 0, free.err
    led = run("generate", "checkpoints/a", "--start-words=To be", "--max-gen-len=20")
    assert led.code == 0 and "To be" in led.out


# Learning


@pytest.mark.learns
def test_it_learns_the_made_poems(run, folder):
    given = run("train", "poetry", "--run=a", "--max-epoch=25", *SMALL, "--optim.lr=0.02")
    assert given.code == 0, given.err
    first, last = rows("a", phase="val")[0], rows("a", phase="val")[-1]
    assert first["perplexity"] > 2 * last["perplexity"]
    assert last["perplexity"] < 2.5
    assert math.isclose(last["perplexity"], math.exp(last["loss"]), rel_tol=1e-6)
    assert state("a")["meta"]["vocabulary"][0] == "<START>"
    assert run("test", "checkpoints/a").code == 0


def test_marks_are_not_counted_in_perplexity():
    from trainer.tasks.char_rnn import LanguageModel

    class Fixed(torch.nn.Module):
        def forward(self, x, state=None):
            return torch.tensor([9.0, 9.0, 0.0, 0.0]).expand(*x.shape, 4), state

    task = LanguageModel(Fixed(), ["<START>", "<EOP>", "□", "春"])
    meters = task.meters()
    task.val_step((torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[3, 1, 0, 1]])), meters)
    task.val_step((torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[0, 1]])), meters)
    assert meters["perplexity"].value() == pytest.approx(2 * math.exp(9) + 2, rel=1e-4)


def test_the_state_carries_a_text_on():
    from models.char_rnn import CharRNN

    net = CharRNN(20, embedding=8, width=12, layers=2).eval()
    x = torch.randint(20, (3, 9))
    whole, _ = net(x)
    left, carried = net(x[:, :4])
    right, _ = net(x[:, 4:], carried)
    assert whole.shape == (3, 9, 20)
    assert torch.allclose(torch.cat([left, right], 1), whole, atol=1e-6)
    with pytest.raises(ValueError, match="layers >= 1"):
        CharRNN(20, layers=0)


@pytest.mark.parametrize("steps", [1, 7, 31])
def test_stopped_and_resumed_it_is_the_same_run(run, folder, steps):
    args = ["poetry", "--max-epoch=2", "--model.dropout=0.2", "--train.ema=0.9", *SMALL]
    assert run("train", "--run=whole", *args).code == 0
    total = rows("whole")[-1]["step"]
    assert run("train", "--run=cut", *args, f"--train.max_steps={steps}", f"--schedule.total_steps={total}").code == 0
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("whole", phase="val")[-1] == rows("cut", phase="val")[-1]
    assert same_run(state("cut"), state("whole"))


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed, folder):
    args = ["poetry", "--max-epoch=40", "--train.save_steps=5", *SMALL]
    killed_and_resumed(*args, after=12)


# Writing


def test_a_poem_goes_on_from_its_start_and_keeps_the_limit(trained):
    for limit in (3, 20, 60):
        given = trained("--start-words=白日依山", "--prefix-words=夜來風雨聲，", f"--max-gen-len={limit}")
        assert given.code == 0, given.err
        text = given.out.replace("\n", "")
        assert text.startswith("白日依山"[:limit]) and len(text) <= limit
        assert "□" not in text and "<" not in text


def test_each_line_of_an_acrostic_begins_as_asked(trained):
    given = trained("--start-words=春花白學", "--acrostic=true", "--max-gen-len=400")
    assert given.code == 0, given.err
    assert "".join(line[0] for line in given.out.split("\n") if line) == "春花白學"
    short = trained("--start-words=春花白學", "--acrostic=true", "--max-gen-len=10").out
    assert len(short.replace("\n", "")) == 10


def test_the_same_seed_gives_the_same_poem_and_another_another(trained):
    flags = ["--start-words=春", "--temperature=2"]
    first, again, other = (trained(*flags, f"--train.seed={seed}").out for seed in (1, 1, 2))
    assert first == again != other


def test_an_unknown_character_gets_a_sentence_with_the_form_that_is_known(trained):
    given = trained("--start-words=学习春龍")
    assert given.code == 2
    assert "never learned 学 习 龍; it knows another script's form: 學 for 学, 習 for 习" in given.err
    assert len(given.err.strip().splitlines()) == 1
    assert "use others" in trained("--start-words=Q").err
    assert "never learned □" in trained("--prefix-words=□", "--start-words=春").err


def test_flags_that_make_no_sense_get_a_sentence(trained):
    for flag in ("--temperature=0", "--max-gen-len=0"):
        assert "max_gen_len must be at least 1, and temperature above 0" in trained("--start-words=春", flag).err
    assert "an acrostic needs" in trained("--start-words=", "--acrostic=true").err


def test_showing_a_poem_draws_no_random_number_of_the_run():
    from models.char_rnn import CharRNN
    from trainer.tasks.char_rnn import LanguageModel
    from utils.sinks.logger import Logger

    class Texts(Logger):
        shown: list[str] = []

        def text(self, name, step, text):
            self.shown.append(text)

    words = ["<START>", "<EOP>", "□", *"春夏秋冬，。"]
    task, logger = LanguageModel(CharRNN(len(words), 8, 8), words).train(), Texts()
    before = torch.get_rng_state()
    for step in (5, 5, 6):
        task.show(logger, step)
    assert torch.equal(torch.get_rng_state(), before) and task.training and task.model.training
    assert logger.shown[0] == logger.shown[1] != logger.shown[2]


# Real poems


def interpolated_bigram(train: Poems, val: Poems) -> float:
    """Perplexity of the characters of `val`, marks not counted, the best of some interpolation weights.

    P(b | a) = w count(ab) / count(a) + (1 - w) P(b), with P(b) smoothed by adding one.
    """
    row, size = train.row.tolist(), len(train.vocabulary)
    single, pairs = Counter(row), Counter(pairwise(row))
    held = [(a, b) for a, b in pairwise(val.row.tolist()) if b >= 2]
    alone = np.array([(single[b] + 1) / (len(row) + size) for _, b in held])
    after = np.array([pairs[a, b] / max(single[a], 1) for a, b in held])
    return min(math.exp(-np.log(w * after + (1 - w) * alone).mean()) for w in np.arange(0.05, 1.0, 0.05))


@pytest.mark.slow
@pytest.mark.chapter
@pytest.mark.skipif(not (DATA / "poems").is_dir(), reason="the poems are absent")
def test_on_real_poems_it_beats_an_interpolated_bigram(run):
    root = str(DATA / "poems")
    given = run("train", str(ROOT / "configs" / "poetry.yaml"), "--run=a", f"--data.dataset.root={root}", *PLAIN)
    assert given.code == 0, given.err
    perplexity = min(row["perplexity"] for row in rows("a", phase="val"))
    train = Poems(root, "train")
    bigram = interpolated_bigram(train, Poems(root, "val", vocabulary=train.vocabulary))
    assert perplexity < 200 and perplexity < bigram, (perplexity, bigram)
    lines = run("generate", "checkpoints/a", "--start-words=深度學習", "--acrostic=true").out.split()
    assert "".join(line[0] for line in lines) == "深度學習"
