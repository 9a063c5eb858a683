"""How far a long job is: for people at a terminal, and for nobody else."""

import io

import edge.progress
from edge.progress import CLEAR, Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_line_tells_what_is_done_of_how_many_how_fast_and_what_failed(open_terminal):
    terminal, clock = open_terminal(), Clock()
    progress = Progress(terminal, "files", 40, clock=clock)
    clock.now += 2.0
    progress.show(12, 31, 0)
    clock.now += 2.0
    progress.show(20, 50, 1)
    assert terminal.getvalue().split(CLEAR)[1:] == [
        "12 of 40 files, 15.5 frames/s",
        "20 of 40 files, 12.5 frames/s, 1 failed",
    ]


def test_a_total_that_nobody_knows_is_left_out(open_terminal):
    terminal, clock = open_terminal(), Clock()
    progress = Progress(terminal, "frames", clock=clock)
    clock.now += 1.0
    progress.show(7, 7, 0)
    assert terminal.getvalue() == f"{CLEAR}7 frames, 7.0 frames/s"


def test_the_line_changes_a_few_times_a_second_however_fast_the_job_is(open_terminal, monkeypatch):
    terminal, clock = open_terminal(), Clock()
    monkeypatch.setattr(edge.progress, "EVERY_SECONDS", 0.2)
    progress = Progress(terminal, "frames", clock=clock)
    for number in range(1000):
        clock.now += 0.001
        progress.show(number, number, 0)
    assert 4 <= terminal.getvalue().count(CLEAR) <= 5


def test_at_the_end_nothing_is_left(open_terminal):
    terminal, clock = open_terminal(), Clock()
    progress = Progress(terminal, "frames", clock=clock)
    progress.clear()
    assert terminal.getvalue() == ""
    clock.now += 1.0
    progress.show(1, 1, 0)
    progress.clear()
    assert terminal.getvalue().endswith(CLEAR)


def test_a_file_or_pipe_gets_nothing():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, "frames", 5, clock=clock)
    clock.now += 1.0
    progress.show(1, 1, 0)
    progress.clear()
    assert stream.getvalue() == ""
