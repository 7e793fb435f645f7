"""Tar shards: what the webdataset package reads, in its order, and never a damaged one."""

import gzip
import io
import os
import pickle
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN, rows, same, same_run, state

from configs import Component
from configs.schema import Data
from data._kept_tables import kept_tables
from data._shard_files import expanded
from data._shard_index import indices
from data._tar import members
from data.image_folder import ImageFolder
from data.loading.loader import Loader
from data.loading.transforms import make_transform
from data.protocol import be_lenient
from data.web_dataset import WebDataset
from tests.shards import digits, png, write_shard
from tests.test_world import launch, seen
from utils.errors import DataError

CHAIN = [Component("RandomResizedCrop", {"size": [6, 6]}), Component("RandomHorizontalFlip", {})]
SIZED = "[{name: Resize, size: [8, 8]}]"
TRAINED = ["image_folder", "--data.dataset=WebDataset", "--train-data-root=shards", "--model=MLP", "--model.hidden=[8]"]
TRAINED += ["--schedule=null", f"--data.transform.train={SIZED}", f"--data.transform.eval={SIZED}"]
TRAINED += ["--batch-size=8", "--print-freq=1", "--max-epoch=3", *PLAIN]


# Archives


def entry(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def archive(tmp_path):
    """An archive with what writers may put into one."""

    def command(form: int) -> Path:
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form, pax_headers={"comment": "of all"}) as tar:
            for i in range(12):
                entry(tar, f"a/{i:03}.jpg", bytes(range(i)) * 90, mtime=time.time())  # pax: a header of its own
            entry(tar, "x" * 70 + "/" + "y" * 70 + ".cls", b"7")
            if form != tarfile.USTAR_FORMAT:
                entry(tar, "z" * 300 + "/é漢.txt", b"text")
            entry(tar, "folder", type=tarfile.DIRTYPE)
            entry(tar, "link", type=tarfile.SYMTYPE, linkname="a/000.jpg")
            entry(tar, "empty.bin")
        return path

    return command


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(archive, form):
    path = archive(form)
    with tarfile.open(path) as tar:
        expected = [(one.name, one.offset_data, one.size) for one in tar.getmembers() if one.isreg()]
    assert [tuple(one) for one in members(str(path))] == expected and len(expected) >= 14


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_that_is_cut_off_anywhere_is_never_taken_for_a_shorter_one(archive, tmp_path, form):
    path, cut = archive(form), tmp_path / "cut.tar"
    content, whole = path.read_bytes(), list(members(str(path)))
    end = len(content.rstrip(b"\0"))
    end += -end % 512 + 512  # the first of the two blocks that mark the end
    for length in range(0, len(content), 181):
        cut.write_bytes(content[:length])
        if length >= end:
            assert list(members(str(cut))) == whole
        else:
            with pytest.raises(DataError, match=rf"{cut} is cut off at byte [\d,]+: .*; fetch or write it again"):
                list(members(str(cut)))


def test_a_header_with_any_wrong_byte_is_told(archive, tmp_path):
    path, wrong = archive(tarfile.PAX_FORMAT), tmp_path / "wrong.tar"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    headers = [one.offset - 512 for one in members(str(path))]
    for _ in range(200):
        spoiled, place = bytearray(content), int(rng.choice(headers)) + int(rng.integers(512))
        spoiled[place] ^= 1 << int(rng.integers(8))
        wrong.write_bytes(spoiled)
        with pytest.raises(DataError, match=rf"{wrong} is damaged: no header at byte [\d,]+"):
            list(members(str(wrong)))


def test_what_is_no_plain_archive_is_told(archive, tmp_path):
    content = archive(tarfile.USTAR_FORMAT).read_bytes()
    cases = {
        "is packed by gzip": gzip.compress(content),
        "is no tar archive: no header at byte 0": png(0, 0) * 9,
        r"goes on after the mark of its end at byte [\d,]+": content + content,
        "is cut off at byte 0": b"",
    }
    for told, given in cases.items():
        (tmp_path / "given.tar").write_bytes(given)
        with pytest.raises(DataError, match=told):
            list(members(str(tmp_path / "given.tar")))
    with tarfile.open(tmp_path / "sparse.tar", "w") as tar:
        entry(tar, "a.jpg", type=tarfile.GNUTYPE_SPARSE)
    with pytest.raises(DataError, match="holds a sparse file at byte 0"):
        list(members(str(tmp_path / "sparse.tar")))
    with pytest.raises(DataError, match="cannot read .* put it back"):
        list(members(str(tmp_path / "absent.tar")))


# Samples


ODD = [
    ("a/b.c/000", {"jpg": b"1", "CLS": b"2"}),
    ("./001", {"seg.png": b"3", "jpg": b"4", "cls": b"5"}),
    ("__about__", {"json": b"6"}),
    ("__meta__/x", {"json": b"no sample"}),
    ("noending", {"": b"7"}),
    (".hidden", {"txt": b"8"}),
    ("001", {"jpg": b"9", "txt": "é漢".encode(), "cls": b"0"}),
]


def test_samples_are_those_of_the_webdataset_package(tmp_path):
    wds = pytest.importorskip("webdataset", reason="needs the package webdataset (requirements-dev.txt)")
    digits(tmp_path)
    write_shard(tmp_path / "train-000003.tar", ODD)
    with wds.TarWriter(str(tmp_path / "train-000004.tar")) as writer:  # its own pen
        for i in range(5):
            writer.write({"__key__": f"own/{i}", "png": png(i, i), "cls": i, "json": {"a": i}})
    pattern = str(tmp_path / "train-{000000..000004}.tar")
    ours = []
    for shard in indices(list(expanded(pattern))):
        for row, key in enumerate(shard.all_keys()):
            assert key == shard.key(row)
            files = range(int(shard.first[row]), int(shard.first[row + 1]))
            ours.append({"__key__": key} | {shard.endings[shard.kinds[file]]: shard.read(file) for file in files})
    theirs = [
        {name: value for name, value in sample.items() if name not in ("__url__", "__local_path__")}
        for sample in wds.WebDataset(pattern, shardshuffle=False, empty_check=False)
    ]
    assert ours == theirs and len(ours) == 60 + 5 + 5


def test_patterns_are_those_of_braceexpand():
    theirs = pytest.importorskip("braceexpand", reason="comes with the package webdataset").braceexpand
    for pattern in ("a.tar", "a-{000..012}.tar", "{a,b,c}/x-{8..11}.tar", "{07..9}", "{1,22}{3..4}"):
        assert list(expanded(pattern)) == list(theirs(pattern))


def test_a_key_that_stands_twice_is_told(tmp_path):
    path = write_shard(tmp_path / "a.tar", [("a", {"jpg": b"1", "JPG": b"2"})])
    with pytest.raises(DataError, match=r"a\.tar holds a\.JPG twice \(byte 1,536\), as one sample's"):
        indices([str(path)])


# The index


def test_the_index_is_made_once_and_again_for_another_shard(tmp_path, capsys):
    path = str(digits(tmp_path, 1, 5, 0) / "train-000000.tar")
    assert indices([path])[0].samples == 5 and "reading 1 shard once" in capsys.readouterr().out
    assert indices([path])[0].samples == 5 and not capsys.readouterr().out
    before = os.stat(path)
    digits(tmp_path, 1, 4, 0)
    assert indices([path])[0].samples == 4 and capsys.readouterr().out
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 1))
    assert indices([path])[0].samples == 4 and capsys.readouterr().out


def test_a_damaged_index_is_made_again(tmp_path, capsys):
    path = str(digits(tmp_path, 1, 5, 0) / "train-000000.tar")
    whole = [part.tolist() for part in indices([path])[0][2:]]
    kept = tmp_path / ".index" / "train-000000.tar.samples"
    content, rng = kept.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        spoiled = bytearray(content)
        spoiled[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        kept.write_bytes(spoiled if number % 2 else content[: int(rng.integers(len(content)))])
        capsys.readouterr()
        assert [part.tolist() for part in indices([path])[0][2:]] == whole
        assert "reading 1 shard once" in capsys.readouterr().out and kept.read_bytes() == content


def test_the_index_of_a_folder_that_cannot_be_written_lies_below_checkpoints(tmp_path, monkeypatch):
    digits(tmp_path / "shards", 1, 5, 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: "shards" not in str(path))
    for _ in range(2):
        assert indices(["shards/train-000000.tar"])[0].samples == 5
    assert not (tmp_path / "shards" / ".index").exists()
    (kept,) = (path.name for path in (tmp_path / "checkpoints" / ".index").iterdir() if path.name != "lock")
    assert kept.endswith("-train-000000.tar.samples")


def test_arrays_are_mapped_and_kept_as_they_are(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"x")
    arrays = {"small": np.arange(3, dtype=np.uint16), "none": np.empty(0, np.uint64), "large": np.arange(7) << 40}
    ((facts, found),) = kept_tables([str(path)], "kind", lambda file: ({"é": [1, "x"]}, arrays), "a test")
    assert facts == {"é": [1, "x"]} and all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert [found[name].dtype for name in arrays] == [array.dtype for array in arrays.values()]
    assert isinstance(found["large"].base, np.memmap)


# The dataset


def test_pictures_labels_and_ids(tmp_path):
    digits(tmp_path)
    train, val = (WebDataset(str(tmp_path), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (60, 20) and list(val.ids) == [f"{i:06}" for i in range(60, 80)]
    assert train.labels.tolist() == [i % 4 for i in range(60)] and train.meta["classes"] == ["0", "1", "2", "3"]
    pixels = (train[37][0] * 255).round()
    assert pixels.shape == (3, 8, 8) and train[37][1] == 1 and pixels.min() >= 20 and pixels.max() < 60
    assert train.ids[-1] == "000059" and train.ids[1:3] == ["000001", "000002"]
    named = WebDataset(str(tmp_path), "val", label="json:name", classes=["c3", "c2", "c1", "c0"])
    assert named.labels.tolist() == [3 - i % 4 for i in range(60, 80)]
    assert WebDataset(str(tmp_path), "val", label="none").labels is None
    again = pickle.loads(pickle.dumps(train))  # as a process that is spawned gets it
    assert same(again[5], train[5]) and list(again.ids) == list(train.ids)


def test_a_part_is_held_out_where_there_are_no_shards_for_it(tmp_path):
    digits(tmp_path, val=0)
    train, val = (WebDataset(str(tmp_path), split, val_fraction=0.25) for split in ("train", "val"))
    assert (len(train), len(val)) == (45, 15) and not set(train.ids) & set(val.ids)
    assert list(val.ids) == sorted(val.ids), "read from the front of each shard to its end"
    for dataset in (train, val):
        assert dataset.labels.tolist() == [int(key) % 4 for key in dataset.ids]
        assert [dataset.ids[i] for i in range(len(dataset))] == list(dataset.ids)
    assert len(WebDataset(str(tmp_path), "val", whole=True)) == 60


def test_equal_keys_in_two_shards_get_their_shards_name(tmp_path):
    for number in range(2):
        write_shard(
            tmp_path / f"{number}.tar", [(f"{i}", {"png": png(i % 2, i), "cls": b"%d" % (i % 2)}) for i in (0, 1)]
        )
    dataset = WebDataset(str(tmp_path), "train", val_fraction=0)
    assert list(dataset.ids) == ["0.tar/0", "0.tar/1", "1.tar/0", "1.tar/1"] == dataset.ids[:]


def test_the_splits_are_told_by_names_folders_or_patterns(tmp_path):
    digits(tmp_path / "a", 2, 5)
    digits(tmp_path / "b" / "training", 2, 5, 0)
    digits(tmp_path / "b" / "valid", 1, 6, 0)
    digits(tmp_path / "c", 4, 5, 0)
    patterns = {"train": "train-{000000..000002}.tar", "val": "train-*3.tar", "test": "{train-000000,train-000001}.tar"}
    sizes = {
        "a": [len(WebDataset(str(tmp_path / "a"), split)) for split in ("train", "val")],
        "b": [len(WebDataset(str(tmp_path / "b"), split)) for split in ("train", "val")],
        "c": [len(WebDataset(str(tmp_path / "c"), split, splits=patterns)) for split in ("train", "val", "test")],
    }
    assert sizes == {"a": [10, 5], "b": [10, 6], "c": [15, 5, 10]}
    os.rename(tmp_path / "c" / "train-000000.tar", tmp_path / "c" / "train-val.tar")
    with pytest.raises(
        DataError, match=r"train-val\.tar: is it a shard of train or of val\? Set data\.dataset\.splits"
    ):
        WebDataset(str(tmp_path / "c"), "train")
    os.rename(tmp_path / "c" / "train-val.tar", tmp_path / "c" / "more.tar")
    with pytest.raises(DataError, match="whose name tells no split, beside shards of train; set data.dataset.splits"):
        WebDataset(str(tmp_path / "c"), "train")
    with pytest.raises(DataError, match=r"train-000000\.tar does not exist, but data\.dataset\.splits\.train names it"):
        WebDataset(str(tmp_path / "c"), "train", splits=patterns)
    with pytest.raises(DataError, match="no shards of the split 'test' in"):
        WebDataset(str(tmp_path / "a"), "test")


PNG = png(0, 0)
WRONG = {
    "no label": ([("a", {"png": PNG, "cls": b"0"}), ("b", {"png": PNG})], {}, "samples have no cls, the first b"),
    "no picture": ([("a", {"png": PNG, "cls": b"0"}), ("b", {"cls": b"0"})], {}, r"no picture \(png\), the first b"),
    "no number": ([("a", {"png": PNG, "cls": b"x"})], {}, r"byte [\d,]+: cls files hold numbers, this one 'x'; write"),
    "negative": ([("a", {"png": PNG, "cls": b"-1"})], {}, "the sample a has the cls '-1', which is no number"),
    "no class": ([("a", {"png": PNG, "cls": b"3"})], {"classes": ["x", "y"]}, "which is none of the 2"),
    "two pictures": ([("a", {"jpg": PNG, "seg.png": PNG, "cls": b"0"})], {}, "the sample a has jpg and seg.png"),
    "json": ([("a", {"png": PNG, "json": b'{"k": 1, "l": 2}'})], {}, "the first one holds k, l; set"),
    "no key": ([("a", {"png": PNG, "json": b'{"k": 1}'})], {"label": "json:x"}, "it has no x; write it again"),
    "captions": ([(f"{i}", {"png": PNG, "txt": b"%d" % i}) for i in range(9)], {}, "9 texts in 9 samples: are these"),
    "alike": (
        [(f"{i}", {"png": PNG, "txt": [b"cat", b"dog", b"Cat ", b"dog"][i % 4]}) for i in range(8)],
        {},
        "the labels Cat, cat look like one class",
    ),
    "no such label": ([("a", {"png": PNG, "cls": b"0"})], {"label": "txt"}, r"no files \.txt for .* are png, cls"),
    "no such picture": ([("a", {"png": PNG, "cls": b"0"})], {"image": ["jpg"]}, r"no pictures \(jpg\).*hold png, cls"),
    "nothing": ([], {}, "which hold no samples at all"),
    "a text": (
        [("a", {"png": PNG, "json": b'{"k": 1}'}), ("b", {"png": PNG, "json": b'{"k": "x"}'})],
        {"label": "json:k"},
        "the sample b has the json:k 'x', which is a text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_shard_is_told_with_its_place(tmp_path, case):
    samples, keys, told = WRONG[case]
    write_shard(tmp_path / "only.tar", samples)
    with pytest.raises(DataError, match=rf"only\.tar.*{told}"):
        WebDataset(str(tmp_path), "train", val_fraction=0, **keys)


# Reading


def batches(dataset, epochs: int = 2, **keys) -> list:
    loader = Loader(dataset, Data(batch_size=8, **keys), seed=3, training=True, say=lambda text: None)
    try:
        return [part for epoch in range(epochs) for part in loader.epoch(epoch)]
    finally:
        loader.close()


def test_batches_are_those_of_the_same_pictures_in_folders_however_they_are_read(tmp_path):
    digits(tmp_path / "shards")
    for i in range(60):
        path = tmp_path / "folders" / str(i % 4) / f"{i:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i % 4, i))
    for fast in (True, False):
        folders = ImageFolder(str(tmp_path / "folders"), "train", make_transform(CHAIN, fast=fast), val_fraction=0)
        by_key = [sorted(range(60), key=lambda i: folders.ids[i][2:])][0]
        shards = WebDataset(str(tmp_path / "shards"), "train", make_transform(CHAIN, fast=fast))
        assert [folders.ids[i][2:-4] for i in by_key] == list(shards.ids)
        one = shards.read([5, 41], [7, 8]) if fast else [shards[5][1]]
        other = folders.read([by_key[5], by_key[41]], [7, 8]) if fast else [folders[by_key[5]][1]]
        assert same(list(one), list(other))
        plain = batches(shards)
        ways = [{"num_workers": 2, "loader": "processes"}, *([{"num_workers": 2, "loader": "threads"}] if fast else [])]
        assert all(same(plain, batches(shards, **way)) for way in ways)


def test_a_shard_that_changes_while_it_is_read_gives_a_bad_sample(tmp_path):
    digits(tmp_path, 1, 20, 0)
    dataset = WebDataset(str(tmp_path), "train", val_fraction=0)
    os.truncate(tmp_path / "train-000000.tar", 20_000)
    with pytest.raises(DataError, match=r"0000\d\d\.png in .*\.tar at byte [\d,]+ \(the shard ends before\)"):
        batches(dataset)


@pytest.mark.parametrize("action", ["skip", "replace", "quarantine"])
def test_a_picture_that_cannot_be_read_is_answered_as_others_are(tmp_path, action):
    samples = [(f"{i:03}", {"png": png(i % 2, i), "cls": b"%d" % (i % 2)}) for i in range(40)]
    samples[7] = ("007", {"png": b"no picture", "cls": b"1"})
    write_shard(tmp_path / "a.tar", samples)
    dataset = WebDataset(str(tmp_path), "train", make_transform(CHAIN, fast=True), val_fraction=0)
    with pytest.raises(
        DataError, match=r"cannot read the picture 007\.png in .*a\.tar at byte 14,848 \(its content is"
    ):
        batches(dataset)
    be_lenient(dataset)
    plain = batches(dataset, on_bad_sample=action)
    assert same(plain, batches(dataset, on_bad_sample=action, num_workers=2, loader="threads"))
    assert all(7 not in found for found, _ in plain)


def test_more_shards_than_files_that_may_be_open(tmp_path, monkeypatch):
    digits(tmp_path, 9, 3, 0)
    monkeypatch.setattr("data._shards.KEPT_OPEN", 2)
    dataset = WebDataset(str(tmp_path), "train", val_fraction=0)
    before = len(os.listdir("/proc/self/fd"))
    assert [dataset[i][1] for i in range(27)] == [i % 4 for i in range(27)]
    assert len(os.listdir("/proc/self/fd")) == before + 2
    del dataset
    assert len(os.listdir("/proc/self/fd")) <= before


# Runs


def test_a_run_that_is_stopped_goes_on_to_the_last_bit(run, tmp_path):
    digits(tmp_path / "shards")
    given = run("train", "--run=whole", *TRAINED)
    assert given.code == 0, given.err
    assert "60 train and 20 val samples" in given.out and "labels: cls (data.dataset.label)" in given.out
    assert run("train", "--run=cut", *TRAINED, "--train.max_steps=11").code == 0
    resumed = run("train", "--resume=checkpoints/cut", "--train.max_steps=null", "--num-workers=2")
    assert resumed.code == 0, resumed.err
    assert rows("cut") == rows("whole") and same_run(state("cut"), state("whole"))
    write_shard(tmp_path / "more" / "test-0.tar", [(f"t{i}", {"png": png(i % 4, i)}) for i in range(5)])
    given = run("test", "checkpoints/whole", "--test-data-root=more")
    assert given.code == 0, given.err
    assert [line.split(",")[0] for line in Path("checkpoints/whole/submission.csv").read_text().split()][1:] == [
        f"t{i}" for i in range(5)
    ]


def test_a_damaged_shard_is_one_sentence(run, tmp_path):
    digits(tmp_path / "shards")
    path = tmp_path / "shards" / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:30_000])
    given = run("train", *TRAINED)
    assert given.code == 3 and "Traceback" not in given.err
    assert "shards/train-000001.tar is cut off at byte 29," in given.err and given.err.count("\n") == 1
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_on_shards_that_is_killed_goes_on_to_the_last_bit(killed_and_resumed, tmp_path):
    digits(tmp_path / "shards", 5, 200)
    killed_and_resumed(*TRAINED, "--num-workers=2", "--train.save_steps=5", after=150)


@pytest.mark.slow
def test_two_ranks_on_shards_read_each_sample_once_and_learn_the_same(tmp_path):
    digits(tmp_path / "shards", 5, 40)
    args = [*TRAINED, "--optim=SGD", "--lr=0.1", "--data.order=walk", "--train.rehearse=false"]
    told = launch(tmp_path, 1, "train", "run=one", *args)
    one = seen(tmp_path)
    launch(tmp_path, 2, "train", "run=two", *args, "--train.max_steps=13")
    cut = seen(tmp_path)
    launch(tmp_path, 2, "train", "resume=checkpoints/two", "--train.max_steps=null")
    assert cut | seen(tmp_path) == one and "data.order" in told
    for epoch in range(3):
        assert sorted(i for batch in range(25) for i in one[epoch, batch]) == list(range(200))
    left, right = (state(name, folder=tmp_path)["model"] for name in ("one", "two"))
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-6
