import logging
import os
import signal
import threading

import pytest

from edge.errors import CameraError
from edge.supervisor import SignalledError, StuckError, Supervisor, join_all


def test_a_thread_that_dies_ends_everything_and_its_error_is_kept():
    supervisor = Supervisor()
    error = CameraError("gone")

    def die():
        raise error

    waiting = supervisor.start("waiting", supervisor.stopping.wait)
    dying = supervisor.start("dying", die)
    supervisor.wait()
    join_all([waiting, dying], 5)
    assert supervisor.failure is error


def test_the_first_error_counts_and_later_ones_are_logged(caplog):
    supervisor = Supervisor()
    first = CameraError("first")
    supervisor.fail(first)
    with caplog.at_level(logging.ERROR):
        supervisor.fail(CameraError("second"))
    assert supervisor.failure is first
    assert caplog.messages == ["second"]


def test_a_thread_that_lives_on_is_named():
    supervisor = Supervisor()
    for_ever = threading.Event()
    stuck = supervisor.start("capture", for_ever.wait)
    supervisor.stop()
    with pytest.raises(StuckError, match="capture did not end"):
        join_all([stuck], 0.01)
    for_ever.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_and_the_handlers_are_put_back(number):
    supervisor = Supervisor()
    before = signal.getsignal(number)
    with supervisor.handling_signals():
        os.kill(os.getpid(), number)
        supervisor.wait()
        assert supervisor.stopped()
        assert supervisor.signal == number
    assert signal.getsignal(number) is before
    assert supervisor.failure is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_at_once_what_looks_at_nothing(number):
    supervisor = Supervisor()
    with supervisor.handling_signals():
        with pytest.raises(SignalledError), supervisor.at_once():
            signal.raise_signal(number)
        with pytest.raises(SignalledError), supervisor.at_once():
            pytest.fail("one came before")
    assert (supervisor.signal, supervisor.failure) == (number, None)


def test_a_second_ctrl_c_does_not_wait():
    supervisor = Supervisor()
    with supervisor.handling_signals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
