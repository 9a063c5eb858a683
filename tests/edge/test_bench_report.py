"""Numbers and tables of a measurement that was made by hand."""

import json

import pytest

from edge.bench import Look, Measurement
from edge.bench_meter import Cost, Times
from edge.bench_report import as_table, summarize
from edge.bench_score import Truth
from edge.config import Config
from edge.errors import BadDataError
from edge.frame import Box

FACE = Box(100, 100, 50, 50)
WALL = Box(300, 100, 50, 50)
FRAMES = 10


def look(boxes, ms, *, haar, interpreter=0.0, classify=0.0, seen=None, cpu=1.0):
    wall = Times(ms / 1000, haar / 1000, interpreter / 1000, classify / 1000)
    processor = Times(*(cpu * value for value in (wall.total, wall.haar, wall.interpreter, wall.classify)))
    return Look(boxes, boxes if seen is None else seen, Cost(wall, processor, 1, 640 * 480, len(boxes)))


@pytest.fixture
def done():
    """Ten frames with a face in each; the naive loop sees a wall once, Mien misses the face at first and remembers."""
    naive = [look([FACE], 50, haar=45, interpreter=2, classify=4) for _ in range(FRAMES)]
    naive[4] = look([FACE, WALL], 90, haar=80, interpreter=4, classify=8)
    mien = [look([FACE], 2, haar=0.5, interpreter=0.5, classify=1, cpu=0.5) for _ in range(FRAMES)]
    mien[0] = look([], 1, haar=1, cpu=0.5)
    mien[9] = look([FACE], 1, haar=1, cpu=0.5, seen=[])
    return Measurement(
        spec="clip.mp4",
        model="m@1234",
        size=(640, 480),
        numbers=list(range(20, 20 + FRAMES)),
        naive=naive,
        mien=mien,
        truth={number: Truth([FACE]) for number in (20, 24, 29)},
        memory_before=90_000_000,
        memory_after=91_000_000,
        memory_peak=95_000_000,
    )


def test_rates_come_from_the_sums(done):
    told = summarize(done, Config())
    assert told["naive"]["frames_per_second"] == pytest.approx(10 / 0.540)
    assert told["naive"]["frames_per_second_without_classification"] == pytest.approx(10 / (0.540 - 0.044))
    assert told["mien"]["frames_per_second"] == pytest.approx(10 / 0.018)
    assert told["ratio"]["frames_per_second"] == pytest.approx(540 / 18)
    assert told["ratio"]["frames_per_second_without_classification"] == pytest.approx(496 / 10)
    assert told["ratio"]["cpu"] == pytest.approx(540 / 9)
    assert told["ratio"]["cpu_without_classification"] == pytest.approx(496 / 5)


def test_the_stages_of_a_frame_add_up(done):
    told = summarize(done, Config())["naive"]
    ms = told["ms"]
    assert ms["haar"]["mean"] == pytest.approx(48.5)
    assert ms["interpreter"]["mean"] == pytest.approx(2.2)
    assert ms["own"]["mean"] == pytest.approx(54.0 - 48.5 - 2.2)
    assert ms["classification"]["mean"] == pytest.approx(4.4)
    assert ms["total"]["p50"] == pytest.approx(50.0)
    assert ms["total"]["p95"] == pytest.approx(50 + 0.55 * 40)
    assert told["cpu_seconds_per_frame"]["total"] == pytest.approx(0.054)
    assert told["classifications_per_frame"] == told["faces_per_frame"] == pytest.approx(1.1)
    assert told["haar_pixels_per_frame"] == 640 * 480


def test_faces_are_told_apart_and_a_flicker_is_none_to_be_found(done):
    assert summarize(done, Config())["faces"] == {
        "both": 9,
        "naive_only": 2,
        "mien_only": 0,
        "stable": 10,
        "recall": pytest.approx(0.9),
        "recall_seen": pytest.approx(0.8),
        "missed_in": [20],
    }


def test_where_faces_are_known_both_are_judged_by_it(done):
    told = summarize(done, Config())["truth"]
    assert (told["frames"], told["faces"]) == (3, 3)
    assert told["naive"] == {"recall": 1.0, "false": 1, "missed_in": [], "false_in": [24]}
    assert told["mien"] == {"recall": pytest.approx(2 / 3), "false": 0, "missed_in": [20], "false_in": []}
    assert told["mien_seen"]["recall"] == pytest.approx(1 / 3)
    done.truth.clear()
    assert summarize(done, Config())["truth"] is None


def test_the_summary_is_json_and_tells_what_it_was_made_with(done):
    told = json.loads(json.dumps(summarize(done, Config()), allow_nan=False))
    assert told["schema"] == "mien/bench/1"
    assert told["source"] == {"spec": "clip.mp4", "frames": 10, "size": [640, 480]}
    assert told["settings"]["naive"] == {"scale_factor": 1.1, "min_neighbors": 5, "min_size": 30}
    assert told["settings"]["mien"]["detector"]["min_face"] == Config().detector.min_face
    assert told["memory_mb"] == {"before": 90.0, "after": 91.0, "peak": 95.0}
    assert {"architecture", "processor", "cores"} <= told["machine"].keys()
    assert {"mien", "python", "numpy", "opencv"} <= told["versions"].keys()


@pytest.mark.parametrize(
    ("change", "complete"),
    [({}, True), ({"interrupted": True}, False), ({"problems": [BadDataError("b.jpg: damaged")]}, False)],
)
def test_what_is_not_all_of_it_says_so(done, change, complete):
    for name, value in change.items():
        setattr(done, name, value)
    told = summarize(done, Config())
    assert told["complete"] is complete
    assert ("clip.mp4 (not all of it)" in as_table(told)) is not complete


def test_the_table_shows_the_figures(done):
    table = as_table(summarize(done, Config()))
    rows = {line[:26].strip(): line[26:].split() for line in table.splitlines()}
    assert rows["frames/s"] == ["18.5", "555.6", "30.0"]
    assert rows["CPU ms per frame"] == ["54.00", "0.90", "60.0"]
    assert "9 found by both, 2 by the naive loop alone, 0 by mien alone" in table
    assert "0.900 of the 10" in table
    assert "false faces 1 naive, 0 mien" in table
    assert "without the faces that mien remembers: recall 0.800, 0 false faces" in table
    assert max(map(len, table.splitlines())) <= 120


def test_the_table_does_without_faces(done):
    nothing = [look([], 50, haar=45) for _ in range(FRAMES)]
    done.naive, done.mien, done.truth = nothing, nothing, {}
    table = as_table(summarize(done, Config()))
    assert "recall  - of the 0" in table
    assert "truth" not in table


def test_of_many_missed_frames_the_first_are_named(done):
    done.naive, done.mien = 2 * done.naive, 2 * FRAMES * [look([], 1, haar=1)]
    done.numbers = list(range(2 * FRAMES))
    assert "missed in frame 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..." in as_table(summarize(done, Config()))
