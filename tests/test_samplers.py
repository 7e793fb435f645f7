"""The samples of an epoch, chosen by data.sampler: a pure function of (seed, epoch), with an honest length."""

import numpy as np
import pytest
import torch
from conftest import PLAIN, dogcats, rows, same_run, state
from PIL import Image
from torch.utils.data import SubsetRandomSampler, WeightedRandomSampler

from configs import Component
from configs.schema import Data
from data.loading.loader import Loader
from utils.errors import ConfigError, DataError
from utils.randomness import mix

FLAGS = ["dogcat_small", "--train-data-root=train", "--model=MLP", "--model.hidden=[4]", "--schedule=null", *PLAIN]
FLAGS += ["--batch-size=8", "--print-freq=1", "--max-epoch=3"]


class Numbers(torch.utils.data.Dataset):
    """Numbers of three classes, of which the last has a tenth."""

    meta = {"classes": ["a", "b", "c"]}

    def __init__(self, count: int = 100):
        self.labels = torch.tensor([0] * (count // 2) + [1] * (count * 4 // 10) + [2] * (count // 10))
        self.ids = [f"n{i}" for i in range(count)]
        self.lengths = [i % 37 + 1 for i in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return torch.tensor([float(index), torch.rand(()).item()]), int(self.labels[index])


def loader(dataset=None, batch: int = 8, training: bool = True, **sampler) -> Loader:
    spec = Component(sampler.pop("name"), sampler)
    return Loader(dataset or Numbers(), Data(batch_size=batch, sampler=spec), 5, training, say=lambda text: None)


def order(made: Loader, epoch: int = 0) -> list[int]:
    return [index for indices, _ in made.epoch(epoch) for index in indices]


def generator(epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(mix(5, epoch))


@pytest.mark.parametrize(
    ("keys", "count", "replacement"),
    [({}, 100, True), ({"num_samples": 250}, 250, True), ({"num_samples": 30, "replacement": False}, 30, False)],
)
def test_weighted_draws_as_torch_does(keys, count, replacement):
    made = loader(name="Weighted", weights=[1, 2, 30], **keys)
    weights = torch.tensor([1.0, 2.0, 30.0]).double()[Numbers().labels]
    for epoch in (0, 3):
        torchs = list(WeightedRandomSampler(weights, count, replacement, generator(epoch)))
        assert order(made, epoch) == torchs
    assert order(made, 0) != order(made, 3)
    assert made.size == count and len(made) == -(-count // 8)
    by_name = loader(name="Weighted", weights={"c": 30, "a": 1, "b": 2}, **keys)
    assert order(by_name) == order(made)


def test_the_frequencies_are_those_of_the_weights():
    drawn = torch.tensor(order(loader(name="Weighted", weights=[1, 2, 4], num_samples=20_000, batch=500)))
    shares = torch.bincount(Numbers().labels[drawn]) / len(drawn)
    expected = torch.tensor([50.0, 80.0, 40.0]) / 170  # weight by number of samples
    assert torch.allclose(shares, expected, atol=0.02)
    drawn = torch.tensor(order(loader(name="ClassBalanced", num_samples=20_000, batch=500)))
    assert torch.allclose(torch.bincount(Numbers().labels[drawn]) / len(drawn), torch.full((3,), 1 / 3), atol=0.02)


def test_weights_come_from_a_file_too(tmp_path):
    (tmp_path / "w.csv").write_text("id,weight\n" + "".join(f"n{i},{i % 3}\n" for i in range(99, -1, -1)))
    made = loader(name="Weighted", file=str(tmp_path / "w.csv"))
    torchs = list(WeightedRandomSampler([i % 3 for i in range(100)], 100, True, generator(0)))
    assert order(made) == torchs and not any(index % 3 == 0 for index in torchs)
    (tmp_path / "w.csv").write_text("n1,2\nn2,1\n")
    with pytest.raises(DataError, match=r"98 of 100 samples have no weight, the first n0"):
        loader(name="Weighted", file=str(tmp_path / "w.csv"))
    (tmp_path / "w.csv").write_text("n1,2\nn2,x\n")
    with pytest.raises(DataError, match=r"w\.csv:2: the weight 'x' is no number"):
        loader(name="Weighted", file=str(tmp_path / "w.csv"))
    (tmp_path / "w.csv").write_text("".join(f"n{i},{i % 3}\n" for i in range(100)) + "n7,0\n")
    with pytest.raises(DataError, match=r"w\.csv:101: 'n7' has a weight already; remove one of the two rows"):
        loader(name="Weighted", file=str(tmp_path / "w.csv"))


def test_a_column_of_a_table_holds_weights(run, tmp_path):
    folder = tmp_path / "table"
    folder.mkdir()
    rows_of = "".join(f"{i},{i % 7},{'ab'[i % 2]},{i % 2}\n" for i in range(40))
    (folder / "train.csv").write_text("id,x,y,w\n" + rows_of)
    flags = ["titanic", f"--data.dataset.root={folder}", "--data.dataset.target=y", "--data.dataset.id=id", *PLAIN]
    flags += ["--data.dataset.columns={numbers: [x], ignore: [w]}", "--max-epoch=1", "--data.sampler=Weighted"]
    given = run("train", *flags, "--run=a", "--data.sampler.column=w")
    assert given.code == 0, given.err
    given = run("train", *flags, "--data.sampler.column=v")
    assert given.code == 3 and "train.csv:1: has no column 'v'" in given.err


def test_subset_is_torchs_and_keeps_its_order_if_asked_to(tmp_path):
    chosen = [4, 99, 7, 50, 51]
    made = loader(name="Subset", indices=chosen, batch=2)
    assert order(made) == list(SubsetRandomSampler(chosen, generator(0)))
    assert sorted(order(made, 1)) == sorted(chosen) and made.size == 5 and len(made) == 3
    assert order(loader(name="Subset", indices=chosen, shuffle=False)) == chosen
    (tmp_path / "ids.txt").write_text("n4\nn99\n\nn7\nn50\nn51\n")
    assert order(loader(name="Subset", file=str(tmp_path / "ids.txt"), batch=2)) == order(made)
    (tmp_path / "ids.txt").write_text("n4\nm99\n")
    with pytest.raises(DataError, match=r"ids\.txt:2: no training sample has the id 'm99'"):
        loader(name="Subset", file=str(tmp_path / "ids.txt"))
    (tmp_path / "ids.txt").write_text("n4\nn7\nn4\n")
    with pytest.raises(DataError, match=r"ids\.txt:3: 'n4' stands there twice"):
        loader(name="Subset", file=str(tmp_path / "ids.txt"))


def test_validation_has_each_sample_once():
    assert order(loader(name="Weighted", weights=[0, 0, 1], training=False)) == list(range(100))


@pytest.mark.parametrize("by", ["aspect", "size"])
def test_grouped_pictures_are_alike_in_each_batch(tmp_path, by):
    from data.dogcat import DogCat

    sizes = [(20, 40), (40, 20), (30, 30), (30, 31)]
    for number in range(30):
        for name in ("cat", "dog"):
            pixels = np.full((*sizes[number % 4][::-1], 3), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name}.{number}.png")
    dataset = DogCat(str(tmp_path), "train", val_fraction=0)
    found = {index: dataset.store.picture(index).size for index in range(60)}
    made = Loader(dataset, Data(batch_size=4, sampler=Component("Grouped", {"by": by})), 5, True, lambda text: None)
    assert made.size % 4 == 0 and made.size >= 60 and made.size == len(made.order_of(0))
    batches = made.order_of(0).view(-1, 4).tolist()
    assert {index for batch in batches for index in batch} == set(range(60))
    for batch in batches:
        shapes = {found[index] for index in batch}
        ratios = [width / height for width, height in shapes]
        assert len(shapes) == 1 if by == "size" else max(ratios) / min(ratios) < 1.3
    assert batches != made.order_of(1).view(-1, 4).tolist()


def test_grouped_sequences_are_of_similar_length():
    dataset = Numbers()
    made = loader(dataset, name="Grouped", by="length", groups=5)
    assert set(order(made)) == set(range(100)) and made.size % 8 == 0

    def spread(batches) -> float:
        return float(np.mean([np.ptp([dataset.lengths[i] for i in batch]) for batch in batches]))

    drawn = torch.randperm(96, generator=generator(0)).view(-1, 8).tolist()
    assert spread(made.order_of(0).view(-1, 8).tolist()) < 0.4 * spread(drawn)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"name": "Weighted", "weights": [1, 2]}, "2 numbers, but there are 3 classes and 100 samples"),
        ({"name": "Weighted", "weights": [1, 2, -1]}, "they must be finite, 0 or above"),
        ({"name": "Weighted", "weights": {"a": 1, "b": 2, "d": 1}}, "the class 'd' is not among those of the data"),
        ({"name": "Weighted", "weights": {"a": 1, "b": 2}}, "the class 'c' is without a weight"),
        (
            {"name": "Weighted", "weights": [0, 0, 1], "replacement": False, "num_samples": 11},
            "from the 10 of a weight",
        ),
        ({"name": "Weighted"}, "takes one of weights, file and column"),
        ({"name": "Subset", "indices": [3, 100]}, "there is no sample 100"),
        ({"name": "Subset", "indices": [3, 3]}, "the sample 3 stands there twice"),
        ({"name": "Subset", "indices": []}, "leaves no sample to train on"),
        ({"name": "Grouped", "by": "aspect"}, "does not tell a picture file for each sample"),
    ],
)
def test_what_does_not_fit_is_told(keys, told):
    with pytest.raises((ConfigError, DataError), match=told):
        loader(**keys)


@pytest.fixture
def photos(tmp_path):
    return dogcats(tmp_path / "train", 14)


@pytest.mark.parametrize("sampler", ["{name: Weighted, weights: [1, 5], num_samples: 30}", "ClassBalanced"])
def test_a_run_is_the_same_with_workers_and_after_a_stop_in_mid_epoch(run, photos, sampler):
    for name, flags in {"whole": [], "two": ["--num-workers=2"], "cut": ["--train.max_steps=5"]}.items():
        given = run("train", *FLAGS, f"--run={name}", f"--data.sampler={sampler}", *flags)
        assert given.code == 0, given.err
    steps = 12 if "30" in sampler else 9  # 30 or 20 samples in batches of 8
    assert len(rows("whole", phase="train")) == steps and state("whole")["progress"]["step"] == steps
    assert f"done: {steps} steps" in given.out or name == "cut"
    assert run("train", "--resume=checkpoints/cut", "--train.max_steps=null").code == 0
    assert rows("cut", phase="train") == rows("two", phase="train") == rows("whole", phase="train")
    assert same_run(state("cut"), state("whole")) and same_run(state("two"), state("whole"))


def test_the_schedule_is_as_long_as_the_epochs_really_are(run, photos):
    flags = [flag for flag in FLAGS if "schedule" not in flag]
    sampler = "--data.sampler={name: Weighted, weights: [1, 5], num_samples: 41}"
    given = run("train", *flags, "--run=a", "--schedule=OneCycleLR", sampler)
    assert given.code == 0 and "41 train and 8 val samples" in given.out
    rates = [row["lr"] for row in rows("a", phase="train")]
    assert len(rates) == 18 and rates[-1] < 1e-3 * max(rates)  # the last step has the lowest rate


def test_the_older_name_is_told_once_and_gives_the_same_run(run, photos):
    new = run("train", *FLAGS, "--run=new", "--data.sampler=ClassBalanced")
    old = run("train", *FLAGS, "--run=old", "--data.balance_classes")
    assert old.out.count("data.balance_classes is another name for data.sampler=ClassBalanced") == 1
    assert "another name" not in new.out and rows("old") == rows("new") and same_run(state("old"), state("new"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data.balance_classes"], "data.balance_classes is data.sampler=ClassBalanced by another name"),
        (["--data.shuffle=false"], "data.sampler decides the order, not data.shuffle=false; leave one out"),
        (["--data.sampler.num_samples=0"], "data.sampler.num_samples must be at least 1"),
        (["--data.sampler.dataset=x"], "comes from the trainer"),
    ],
)
def test_check_finds_what_cannot_go_together(run, flags, told):
    given = run("check", "--data.sampler=ClassBalanced", *flags)
    assert given.code == 2 and told in given.err


def test_a_bad_sample_is_replaced_by_one_that_the_sampler_may_draw(photos):
    class Some(Numbers):
        def __getitem__(self, index: int):
            return None if index == 7 else super().__getitem__(index)

    spec = Component("Subset", {"indices": [4, 7, 9]})
    cfg = Data(batch_size=3, sampler=spec, on_bad_sample="replace", max_bad=1)
    made = Loader(Some(), cfg, 5, True, lambda text: None)
    assert all(set(order(made, epoch)) <= {4, 9} for epoch in range(20))


def test_grouped_passes_over_bad_files_where_others_do(tmp_path):
    from PIL import Image

    from data.loading.sampling.grouped import _sizes

    for number, size in enumerate([(8, 4), (8, 4), (4, 8)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")

    class Files:
        files = [str(tmp_path / name) for name in ("0.png", "bad.png", "1.png", "2.png")]
        lenient = True

        def __len__(self):
            return 4

    assert _sizes(Files()) == [(8, 4), (8, 4), (8, 4), (4, 8)]
    Files.lenient = False
    with pytest.raises(DataError, match="bad.png"):
        _sizes(Files())
