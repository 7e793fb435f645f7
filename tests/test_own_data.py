"""A dataset of one's own whose meta, ids or samples are of a kind that nothing can be made of."""

import pytest
from conftest import PLAIN

TEXT = (
    "import torch\n\n__all__ = ['Mine']\n\n\nclass Mine:\n    def __init__(self, split):\n"
    "        self.meta = {'classes': ['a', 'b'], 'num_classes': 2, 'image_size': [2, 2]}\n"
    "        self.ids = [str(i) for i in range(8)]\n    def __len__(self):\n        return 8\n"
    "    def __getitem__(self, i):\n        return torch.zeros(1, 2, 2), i % 2\n"
)
WRONG = {  # a part of the text, another in its place, exit code and the sentence
    "meta": (
        "{'classes': ['a', 'b'], 'num_classes': 2, 'image_size': [2, 2]}",
        "'2 classes'",
        2,
        "Mine.meta: is a str, where a dict is due, as {'num_classes': 10}",
    ),
    "ids": ("range(8)]", "range(6)]", 10, "data/mine.py:9: Mine.ids names 6 samples of 8; it must name each"),
    "a generator": (
        "return torch",
        "yield torch",
        10,
        "data/mine.py:12: Mine.__getitem__ gives a generator instead of a tensor, a number or text for the sample ",
    ),
    "a gradient": (
        "2, 2), i",
        "2, 2, requires_grad=True), i",
        10,
        "data/mine.py:12: Mine.__getitem__ gives a tensor with a gradient; give .detach() of it",
    ),
    "a set": (
        "i % 2\n",
        "{i % 2}\n",
        10,
        "data/mine.py:12: Mine.__getitem__ gives a set instead of a tensor, a number or text for the sample ",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_data_of_the_wrong_kind_are_told_before_the_first_step(run, tmp_path, kind):
    there, other, code, told = WRONG[kind]
    (tmp_path / "data").mkdir()
    assert there in TEXT
    (tmp_path / "data/mine.py").write_text(TEXT.replace(there, other))
    given = run("train", "--data.dataset=Mine", "--model=MLP", "--run=a", "--num-workers=1", "--max-epoch=1", *PLAIN)
    assert given.code == code and given.err.startswith(told), given
    assert len(given.err.splitlines()) == 1
