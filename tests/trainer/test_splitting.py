"""Dealing faces to splits, person by person."""

import numpy as np
import pytest

from trainer.splitting import OPEN, split_groups

SHARES = (0.8, 0.1, 0.1)


def deal(labels, groups, given=None, shares=SHARES, seed=1):
    labels, groups = np.asarray(labels, np.int64), np.asarray(groups, np.int64)
    given = np.full(len(labels), OPEN, np.int8) if given is None else np.asarray(given, np.int8)
    return split_groups(labels, groups, given, shares, seed)


def counts(splits, mask=...):
    return np.bincount(splits[mask], minlength=3).tolist()


def test_faces_that_belong_to_nobody_are_dealt_in_the_shares_asked_for_label_by_label():
    labels = np.repeat([0, 1, 2], [500, 50, 20])
    splits = deal(labels, np.arange(570))
    assert [counts(splits, labels == label) for label in range(3)] == [[400, 50, 50], [40, 5, 5], [16, 2, 2]]


def test_other_shares_are_kept_too():
    assert counts(deal(np.zeros(100), np.arange(100), shares=(0.5, 0.2, 0.3))) == [50, 20, 30]


@pytest.mark.parametrize("seed", range(5))
def test_nobody_stands_in_two_splits_and_each_label_is_in_each(seed):
    rng = np.random.default_rng(seed)
    persons = rng.integers(0, 40, 2000)
    labels = rng.integers(0, 7, 2000)
    splits = deal(labels, persons, seed=seed)
    assert all(len(set(splits[persons == person])) == 1 for person in range(40))
    assert np.allclose(np.array(counts(splits)) / 2000, SHARES, atol=0.03)
    assert all(min(counts(splits, labels == label)) > 0 for label in range(7))


def test_few_and_unequal_persons_leave_no_split_empty():
    assert sorted(counts(deal(np.zeros(102), np.repeat([0, 1, 2], [100, 1, 1])))) == [1, 1, 100]
    assert counts(deal(np.zeros(9), np.repeat([0, 1, 2], 3))) == [3, 3, 3]
    assert counts(deal(np.zeros(100), np.repeat(range(4), [50, 30, 10, 10]))) == [80, 10, 10]


def test_rounding_does_not_always_favour_the_same_split():
    splits = deal(np.repeat(range(7), 4), np.arange(28))
    assert abs(counts(splits)[1] - counts(splits)[2]) <= 1


def test_the_seed_and_nothing_else_decides():
    labels, groups = np.zeros(100), np.arange(100)
    np.testing.assert_array_equal(deal(labels, groups, seed=3), deal(labels, groups, seed=3))
    assert (deal(labels, groups, seed=3) != deal(labels, groups, seed=4)).any()


def test_what_is_given_stays():
    given = np.repeat([0, 1, 2], 5)
    np.testing.assert_array_equal(deal(np.zeros(15), np.arange(15), given), given)


def test_a_split_that_is_missing_is_taken_from_training_and_from_nowhere_else():
    given = np.repeat([0, 2], [90, 10])
    splits = deal(np.zeros(100), np.arange(100), given)
    assert counts(splits) == [81, 9, 10]
    assert (splits[90:] == 2).all()


def test_a_person_with_a_given_split_draws_the_open_faces_along():
    given = [2, OPEN, OPEN, *[OPEN] * 20]
    splits = deal(np.zeros(23), [0, 0, 0, *range(1, 21)], given)
    assert splits[:3].tolist() == [2, 2, 2]
    assert min(counts(splits)) > 0


def test_too_few_groups_leave_a_split_empty():
    assert counts(deal(np.zeros(4), [0, 0, 1, 1])).count(0) == 1
