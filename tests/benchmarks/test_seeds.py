"""The mean over seeds is one recipe's, and says how far its seeds lie apart."""

from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from benchmarks.seeds import line, refuse_other_recipes
from edge.errors import UsageError

pytestmark = pytest.mark.trainer


def card(seed, cleaned=True, **settings):
    left_out = {"blank": 11} if cleaned else {}
    told = {"seed": seed, "settings": {"seed": seed, **settings}, "left_out_of_training": left_out}
    return {"provenance": told | {"images": {"train": 100}}}


def cards(*each):
    return [(Path(f"{number}.tflite"), one) for number, one in enumerate(each)]


def test_seeds_of_one_recipe_are_taken_an_older_card_among_them():
    views = {"flip": 0.5}
    refuse_other_recipes(cards(card(1), card(2, blocks=13, teachers=[]), card(3, augmentation=views)))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (card(2, epochs=99), "epochs"),
        (card(2, cleaned=False), "protocol"),
        (card(2, teachers=["x"]), "teachers"),
        (card(2, augmentation={"flip": 0.1}), "augmentation"),
    ],
)
def test_another_recipe_is_refused_and_told_by_what_differs(other, what):
    with pytest.raises(UsageError, match=rf"1\.tflite: trained otherwise than 0\.tflite \({what}\)"):
        refuse_other_recipes(cards(card(1), other))


@pytest.mark.parametrize("second", [card(1), {}])
def test_a_seed_counts_once_and_is_known(second):
    with pytest.raises(UsageError):
        refuse_other_recipes(cards(card(1), second))


def test_the_mean_stands_beside_each_and_the_spread():
    assert line("PublicTest", [0.69, 0.70, 0.71]).split() == [
        "PublicTest", "69.00%", "70.00%", "71.00%", "mean", "70.00%,", "sd", "1.00",
    ]  # fmt: skip
    assert "sd" not in line("PublicTest", [0.7])
