"""Averages of several runs' predictions."""

import math

import pytest

from trainer.submission.average import average, climb
from utils.errors import ConfigError, DataError


def rows(*values: float, column: str = "probability") -> dict:
    return {str(i): {column: value} for i, value in enumerate(values)}


def listed(found: dict) -> list[float]:
    return [next(iter(row.values())) for row in found.values()]


def test_the_means():
    one, other = rows(0.2, 0.9), rows(0.4, 0.5)
    assert listed(average([one, other])) == pytest.approx([0.3, 0.7])
    assert listed(average([one, other], weights=[0.75, 0.25])) == pytest.approx([0.25, 0.8])
    # sqrt(0.2 * 0.4) beside sqrt(0.8 * 0.6), made to add up to 1
    a, b = math.sqrt(0.2 * 0.4), math.sqrt(0.8 * 0.6)
    assert listed(average([one, other], "geometric"))[0] == pytest.approx(a / (a + b))
    assert listed(average([rows(1, 4, column="y"), rows(4, 9, column="y")], "geometric")) == pytest.approx([2, 6])
    assert listed(average([rows(0.0), rows(1.0)], "geometric")) == [0.5]


def test_ranks_keep_the_order_and_share_ties():
    found = average([rows(0.1, 0.2, 0.9, 0.2)], "rank")
    assert listed(found) == pytest.approx([1 / 8, 4 / 8, 7 / 8, 4 / 8])


def test_columns_go_by_name():
    one, other = {"a": {"cat": 0.2, "dog": 0.8}}, {"a": {"dog": 0.6, "cat": 0.4}}
    assert average([one, other])["a"] == pytest.approx({"cat": 0.3, "dog": 0.7})


@pytest.mark.parametrize(
    ("other", "how", "error", "said"),
    [
        ({"x": {"probability": 0.1}}, "mean", DataError, "predict other ids"),
        ({"0": {"y": 0.1}}, "mean", DataError, "predict other columns"),
        (rows(0.1), "median", ConfigError, "no 'median'; there is mean, geometric, rank, climb"),
        (rows(0.1), "climb", ConfigError, "needs the weights"),
    ],
)
def test_what_does_not_go_together_is_refused(other, how, error, said):
    with pytest.raises(error, match=said):
        average([rows(0.5), other], how)


def test_text_and_negative_numbers_are_refused():
    with pytest.raises(DataError, match="text or pictures"):
        average([{"0": {"class": "dog"}}])
    with pytest.raises(DataError, match="no numbers below 0"):
        average([rows(-1.0, column="y")], "geometric")


def test_climbing_finds_the_mixture():
    truth = [0.0, 1.0, 2.0, 3.0]

    def error(found: dict) -> float:
        return sum((value - t) ** 2 for value, t in zip(listed(found), truth, strict=True))

    low, high, far = (rows(*(t + shift for t in truth), column="y") for shift in (-1, 1, 9))
    weights = climb([far, low, high], error)
    assert weights == pytest.approx([0, 0.5, 0.5])
    assert climb([far], error) == [1]
