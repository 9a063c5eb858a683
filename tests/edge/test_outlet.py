import threading

import pytest

from edge.errors import OutputError, UnavailableError
from edge.outlet import Outlet
from edge.supervisor import StuckError, Supervisor


class Recorder:
    """A sink that keeps what it gets, and fails or waits where it is told to."""

    name = "recorder"

    def __init__(self, *, error=None, fail_at=(), gate=None):
        self.events = []
        self.closed = 0
        self.turns = threading.Event()
        self._error = error
        self._fail_at = fail_at
        self._gate = gate

    def publish(self, event):
        if self._gate is not None:
            self._gate.wait(5)
        if event.track in self._fail_at:
            raise self._error
        self.events.append(event.track)

    def idle(self):
        self.turns.set()

    def close(self):
        self.closed += 1


@pytest.fixture
def supervisor():
    return Supervisor()


def test_events_arrive_in_order_and_the_sink_is_closed_once(make_event, supervisor):
    sink = Recorder()
    outlet = Outlet(sink, supervisor, patient=True, size=3)
    for track in range(50):
        outlet.put(make_event(track=track))
    outlet.finish(5)
    assert sink.events == list(range(50))
    assert (sink.closed, outlet.dropped, outlet.lost, supervisor.failure) == (1, 0, 0, None)


def test_a_slow_sink_of_a_camera_loses_the_oldest_events_and_they_are_counted(make_event, supervisor):
    gate = threading.Event()
    sink = Recorder(gate=gate)
    outlet = Outlet(sink, supervisor, patient=False, size=3)
    for track in range(20):
        outlet.put(make_event(track=track))
    gate.set()
    outlet.finish(5)
    assert sink.events[-3:] == [17, 18, 19]
    assert outlet.dropped == 20 - len(sink.events)
    assert outlet.dropped >= 16


def test_a_slow_sink_of_a_file_holds_the_file_up(make_event, supervisor):
    gate = threading.Event()
    outlet = Outlet(Recorder(gate=gate), supervisor, patient=True, size=3, idle=0.01)
    done = threading.Event()

    def feed():
        for track in range(10):
            outlet.put(make_event(track=track))
        done.set()

    feeding = threading.Thread(target=feed, daemon=True)
    feeding.start()
    assert not done.wait(0.1)
    gate.set()
    assert done.wait(5)
    outlet.finish(5)


def test_whoever_waits_for_room_is_let_go_when_the_run_ends(make_event, supervisor):
    gate = threading.Event()
    outlet = Outlet(Recorder(gate=gate), supervisor, patient=True, size=1, idle=0.01)
    feeding = threading.Thread(target=lambda: [outlet.put(make_event()) for _ in range(9)], daemon=True)
    feeding.start()
    supervisor.stop()
    feeding.join(5)
    assert not feeding.is_alive()
    gate.set()
    outlet.finish(5)


def test_a_sink_that_cannot_write_ends_the_run(make_event, supervisor):
    sink = Recorder(error=OutputError("disk full"), fail_at={1})
    outlet = Outlet(sink, supervisor, patient=False)
    for track in range(3):
        outlet.put(make_event(track=track))
    outlet.finish(5)
    assert supervisor.stopped()
    assert isinstance(supervisor.failure, OutputError)
    assert sink.closed == 1


def test_a_sink_that_cannot_reach_its_broker_ends_nothing_and_is_counted(make_event, supervisor):
    sink = Recorder(error=UnavailableError("broker away"), fail_at={1, 2})
    outlet = Outlet(sink, supervisor, patient=False)
    for track in range(4):
        outlet.put(make_event(track=track))
    outlet.finish(5)
    assert sink.events == [0, 3]
    assert outlet.lost == 2
    assert str(outlet.problem) == "broker away"
    assert supervisor.failure is None


def test_a_sink_without_events_is_given_its_turn(supervisor):
    sink = Recorder()
    outlet = Outlet(sink, supervisor, patient=False, idle=0.01)
    assert sink.turns.wait(5)
    outlet.finish(5)


def test_a_sink_that_hangs_is_named(make_event, supervisor):
    gate = threading.Event()
    outlet = Outlet(Recorder(gate=gate), supervisor, patient=False)
    outlet.put(make_event())
    with pytest.raises(StuckError, match="recorder"):
        outlet.finish(0.05)
    gate.set()
