"""Two runs' events: which are taken for the same, and how alike the runs are by that."""

from typing import Any

import pytest

from benchmarks.arm64_matching import compare


def event(number: int = 0, **values: Any) -> dict[str, Any]:
    """An event of a frame by its number; 30 of them make a second."""
    told = {
        "id": f"bench-{number}",
        "ts": f"2026-11-21T03:00:{number // 30:02}.{number % 30 * 1000 // 30:03}Z",
        "clock_synced": True,
        "type": "updated",
        "track": 1,
        "box": [100, 100, 50, 50],
        "frame": [640, 480],
        "expression": "happy",
        "scores": {"happy": 0.75, "sad": 0.25},
    }
    return told | values


def run(count: int, **values: Any) -> list[dict[str, Any]]:
    return [event(number, **values) for number in range(count)]


def test_the_same_events_are_matched_and_identical_whatever_their_ids_and_the_clock_say():
    later = [each | {"id": "other", "clock_synced": False} for each in run(40)]
    for each in later:
        each["ts"] = each["ts"].replace("T03", "T09")
    found = compare(run(40), later)
    assert (found.events, found.matched, found.identical, found.share) == ((40, 40), 40, 40, 1.0)
    assert (found.least_iou, found.most_off) == (1.0, 0.0)


@pytest.mark.parametrize(
    "other",
    [
        {"type": "gone"},
        {"track": 2},
        {"expression": "sad"},
        {"previous": "sad"},
        {"frame": [640, 360]},
        {"box": [103, 100, 50, 50]},  # an IoU of 0.887
    ],
)
def test_what_differs_in_type_face_expression_size_or_by_more_than_a_pixel_or_two_is_no_match(other):
    found = compare([event()], [event(**other)])
    assert (found.matched, found.share, found.least_iou) == (0, 0.0, None)


def test_a_box_that_is_a_little_off_and_other_scores_are_a_match_that_is_not_identical():
    found = compare([event()], [event(box=[101, 100, 50, 50], scores={"happy": 0.7, "sad": 0.3})])
    assert (found.matched, found.identical) == (1, 0)
    assert found.least_iou == pytest.approx(49 / 51)
    assert found.most_off == pytest.approx(0.05)


def test_an_event_that_one_side_lacks_costs_that_one_alone():
    short = run(100)
    del short[40]
    found = compare(run(100), short)
    assert (found.events, found.matched, found.share) == ((100, 99), 99, 0.99)
    assert compare(short, run(100)).share == 0.99


def test_events_too_many_count_against_a_run_just_as_those_that_are_missing():
    assert compare(run(10), run(20)).share == compare(run(20), run(10)).share == 0.5


def test_events_in_another_order_are_not_all_matched():
    one, other = event(0, track=1), event(0, track=2)
    assert compare([one, other], [other, one]).matched == 1


def test_as_many_as_can_be_are_matched_where_the_first_that_fits_is_not_the_best_choice():
    walk = [event(box=[100 + x, 100, 50, 50]) for x in (0, 2, 4)]
    assert compare(walk[:2], walk).matched == 2
    assert compare(walk[1:], walk).matched == 2


def test_the_same_events_a_frame_later_after_the_first_are_no_longer_identical():
    late = [event(0), *(event(number) for number in range(2, 11))]
    found = compare(run(10), late)
    assert (found.matched, found.identical) == (10, 1)


def test_a_rounded_millisecond_makes_no_difference():
    one = [event(0), event(1, ts="2026-11-21T03:00:00.033Z")]
    other = [event(0), event(1, ts="2026-11-21T03:00:00.034Z")]
    assert compare(one, other).identical == 2


def test_nothing_on_both_sides_is_no_proof():
    found = compare([], [])
    assert (found.share, found.least_iou, found.most_off) == (0.0, None, 0.0)
