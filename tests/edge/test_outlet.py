import threading

import pytest

from edge.errors import OutputError, UnavailableError
from edge.outlet import STEADY_SECONDS, Outlet
from edge.sinks import NotStoredError
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


def test_a_full_disk_ends_the_reading_of_a_file_where_nothing_is_to_be_lost(make_event, supervisor, caplog):
    sink = Recorder(error=NotStoredError("disk full", 1), fail_at={1})
    outlet = Outlet(sink, supervisor, patient=True)
    for track in range(3):
        outlet.put(make_event(track=track))
    outlet.finish(5)
    assert supervisor.stopped()
    assert isinstance(supervisor.failure, OutputError)
    assert (sink.events, sink.closed, outlet.lost) == ([0], 1, 1)
    assert caplog.messages == []


def test_a_full_disk_of_a_camera_ends_nothing_and_what_was_not_stored_is_counted(make_event, supervisor):
    sink = Recorder(error=NotStoredError("disk full", 3), fail_at={1, 2})
    outlet = Outlet(sink, supervisor, patient=False)
    for track in range(4):
        outlet.put(make_event(track=track))
    outlet.finish(5)
    assert sink.events == [0, 3]
    assert (outlet.lost, str(outlet.problem), supervisor.failure) == (6, "disk full", None)


def test_a_problem_is_told_once_and_once_more_when_it_is_over(make_event, supervisor, caplog):
    now, turn = [0.0], threading.Semaphore(0)
    sink = Recorder(error=NotStoredError("disk full", 1), fail_at=range(3, 1000))
    taken = sink.publish

    def publish(event):
        try:
            taken(event)
        finally:
            now[0] += 1.0
            turn.release()

    sink.publish = publish
    outlet = Outlet(sink, supervisor, patient=False, clock=lambda: now[0])

    def put(*tracks):
        for track in tracks:
            outlet.put(make_event(track=track))
            assert turn.acquire(timeout=5)

    put(0, 1, *range(3, 103))
    assert caplog.messages == ["recorder: disk full"]
    put(*[0, 200] * 50)
    assert caplog.messages == ["recorder: disk full"], "a disk that has room now and then is told of once"
    put(*[0] * int(STEADY_SECONDS + 1))
    put(300)
    outlet.finish(5)
    assert caplog.messages == [
        "recorder: disk full",
        "recorder works again; 150 events were lost",
        "recorder: disk full",
    ]
    assert outlet.lost == 151


def test_a_fault_of_a_sink_ends_the_run(make_event, supervisor):
    outlet = Outlet(Recorder(error=ZeroDivisionError("a fault"), fail_at={0}), supervisor, patient=False)
    outlet.put(make_event(track=0))
    outlet.finish(5)
    assert isinstance(supervisor.failure, ZeroDivisionError)


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
