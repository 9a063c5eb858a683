import io

import pytest

from edge.sinks.console import Console


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_an_event_is_one_line_that_a_person_can_read(make_event):
    stream = io.StringIO()
    console = Console(stream)
    console.publish(make_event())
    console.publish(make_event(type="changed", expression="sad", confidence=0.5, previous="happy", since=4.21))
    assert stream.getvalue() == (
        "03:00:00 face 7 appeared happy 83%\n03:00:00 face 7 changed  sad 50% (before: happy for 4.2 s)\n"
    )


def test_only_a_terminal_gets_colours(make_event):
    changed = make_event(type="changed", previous="sad", since=1.0)
    pipe, terminal = io.StringIO(), Terminal()
    Console(pipe).publish(changed)
    Console(terminal).publish(changed)
    assert "\033" not in pipe.getvalue()
    assert terminal.getvalue() == f"\033[1m{pipe.getvalue().rstrip()}\033[0m\n"


def test_a_pipe_whose_reader_has_gone_is_not_hidden(make_event):
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Console(Closed()).publish(make_event())
