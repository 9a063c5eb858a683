"""What the benchmark says about two processors' events, and what it asks for where its tools are missing."""

import sys
from dataclasses import replace

import pytest

from benchmarks import arm64_root
from benchmarks.arm64_events import HEAD, STEPS_HEAD, Scene, events_of, keep_frames, row, shortcomings, step_row
from benchmarks.arm64_matching import Comparison
from benchmarks.arm64_operations import Difference
from benchmarks.telling import aligned
from edge.errors import MienError, UnavailableError
from edge.pictures import read_picture

ALL = Comparison(events=(200, 200), matched=200, identical=150, least_iou=0.951, most_off=0.0253)
NEW = Comparison(events=(8, 8), matched=8, identical=8, least_iou=1.0, most_off=0.0)


def test_a_line_of_the_table_says_how_many_events_were_matched_of_both_kinds():
    told = row("pan", Scene(150, replace(ALL, events=(200, 201)), NEW))
    assert told == ["pan", "150", "200 and 201", "99.50%", "8", "100.00%", "150", "0.951", "0.0253"]
    assert len(aligned([HEAD, told]).splitlines()) == 3


def test_a_scene_without_a_pair_has_no_overlap_to_tell():
    nothing = Comparison(events=(0, 0), matched=0, identical=0, least_iou=None, most_off=0.0)
    assert row("empty", Scene(150, nothing, nothing))[-2] == "-"


def test_a_step_tells_its_largest_difference_and_two_numbers_where_there_are_not_equally_many():
    assert step_row("halved", Difference((1200, 1200), 1.0, 0.0)) == ["halved", "1,200", "100.00%", "0"]
    assert step_row("boxes", Difference((10, 15), 0.0, None)) == ["boxes", "10 and 15", "0.00%", "-"]
    assert len(aligned([STEPS_HEAD, step_row("halved", Difference((4, 4), 0.5, 0.0012))]).splitlines()) == 3


def test_everything_matched_is_no_shortcoming_and_one_missing_in_a_hundred_is_none_either():
    assert shortcomings({"pan": Scene(150, ALL, NEW)}) == []
    assert shortcomings({"pan": Scene(150, replace(ALL, matched=198), NEW)}) == []


def test_a_new_event_that_is_missing_is_named_though_all_events_together_reach_the_goal():
    found = {"pan": Scene(150, replace(ALL, matched=199), replace(NEW, matched=7))}
    assert shortcomings(found) == ["pan: new events: 7 of 8 matched, under 99%"]
    assert shortcomings({"pan": Scene(150, replace(ALL, matched=190), NEW)}) == [
        "pan: events: 190 of 200 matched, under 99%"
    ]


def test_frames_are_kept_as_they_are_and_no_more_than_there_are(tmp_path):
    kept = keep_frames("synthetic:seconds=0.1,noise=2,size=160x120", 5, tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    copied = keep_frames(f"images:{tmp_path}", 2, again)
    assert [path.name for path in kept] == ["000000.png", "000001.png", "000002.png"]
    assert [path.name for path in copied] == ["000000.png", "000001.png"]
    assert (read_picture(copied[1]).gray == read_picture(kept[1]).gray).all()


def test_every_face_has_an_event_in_every_frame_whatever_this_machine_has_set(tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_REPORT_EVERY", "60")
    monkeypatch.setenv("MIEN_SOURCE_REGION", "nonsense")
    keep_frames("synthetic:script=still,faces=1", 15, tmp_path)
    told = events_of([sys.executable], tmp_path, {})
    kinds = [event["type"] for event in told]
    assert kinds[0] == "appeared"
    assert kinds[-1] == "gone"
    assert kinds.count("updated") >= 8


def test_a_run_that_fails_says_how(tmp_path):
    with pytest.raises(MienError, match=r"ended with \d+:\n(.|\n)*nothing-here"):
        events_of([sys.executable], tmp_path / "nothing-here", {})


def test_missing_tools_are_named_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setattr(
        arm64_root.shutil, "which", lambda name: "/usr/bin/mmdebstrap" if name == "mmdebstrap" else None
    )
    with pytest.raises(UnavailableError, match=r"^qemu-aarch64 not found; try: sudo apt install qemu-user-static"):
        arm64_root.open_arm64()


def test_a_failed_installation_leaves_nothing_that_passes_for_whole(tmp_path, monkeypatch):
    tool = tmp_path / "mmdebstrap"
    tool.write_text("#!/bin/sh\necho no such suite >&2\nexit 25\n")
    tool.chmod(0o755)
    monkeypatch.setattr(arm64_root.shutil, "which", lambda name: str(tool))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UnavailableError, match=r"(?s)mmdebstrap ended with 25.*no such suite"):
        arm64_root.open_arm64()
    assert {path.suffix for path in (tmp_path / "cache/mien").iterdir()} == {".part"}
