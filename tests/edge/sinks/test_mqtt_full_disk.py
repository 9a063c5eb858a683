import json
import threading

import pytest

import edge.sinks.mqtt
import edge.sinks.mqtt_link
from edge.errors import UnavailableError
from edge.outbox import Outbox
from edge.rules import Broker
from edge.sinks import NotStoredError
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import Access

pytestmark = pytest.mark.broker

EVENT = "mien/kitchen/event"


@pytest.fixture
def open_sink(tmp_path, monkeypatch):
    """Open the sink of a port; the disk of its outbox is full when a test says so."""
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(edge.sinks.mqtt, "RETRY_SAVING", 0.2)

    def open_(port):
        access = Access(Broker("127.0.0.1", port, tls=False), client_id="mien-kitchen")
        return MqttSink(access, Outbox(tmp_path / "outbox.sqlite"), device="kitchen")

    return open_


def in_its_thread(sink, action):
    """The sink's thread alone may touch the outbox."""
    done = threading.Event()
    sink._inbox.put(lambda: (action(sink._outbox), done.set()))
    assert done.wait(5)


def fill_disk(outbox):
    outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages = outbox._database.execute("PRAGMA page_count").fetchone()[0]
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")


def make_room(outbox):
    outbox._database.execute("PRAGMA max_page_count = 1000000")


def numbers(listener):
    return [int(json.loads(payload)["id"][-4:]) for payload in listener.payloads(EVENT)]


def test_publishing_goes_on_with_a_full_disk_and_storing_resumes_by_itself(
    mosquitto, listen, open_sink, make_event, caplog, tmp_path
):
    broker = mosquitto("persistence true", f"persistence_location {tmp_path}/")
    listener = listen(broker.port, EVENT)
    broker.stop()
    sink = open_sink(broker.port)
    for number in range(1, 101):
        sink.publish(make_event(number))
    in_its_thread(sink, Outbox.save)
    in_its_thread(sink, fill_disk)
    for number in range(101, 401):
        sink.publish(make_event(number))
    sink._wait(lambda: "events wait in memory meanwhile" in caplog.text, 5)
    assert (sink.unsent, sink.dropped) == (400, 0)
    broker.start()
    listener.wait_for(lambda: len(listener.messages) >= 400)
    sink.publish(make_event(401))
    listener.wait_for(lambda: 401 in numbers(listener))
    assert list(dict.fromkeys(numbers(listener))) == list(range(1, 402))
    in_its_thread(sink, make_room)
    sink._wait(lambda: "can be written again" in caplog.text, 5)
    assert caplog.text.count("events wait in memory meanwhile") == 1
    assert sink.dropped == 0
    sink.close()
    assert Outbox(sink._outbox.path).after(0, 10) == []


def test_what_a_full_disk_costs_at_the_end_is_counted(mosquitto, open_sink, make_event, tmp_path):
    broker = mosquitto()
    broker.stop()
    sink = open_sink(broker.port)
    for number in range(1, 101):
        sink.publish(make_event(number))
    in_its_thread(sink, Outbox.save)
    in_its_thread(sink, fill_disk)
    for number in range(101, 301):
        sink.publish(make_event(number))
    with pytest.raises(
        NotStoredError, match=r"make room for it; 200 events that had not reached .* are lost"
    ) as raised:
        sink.close(timeout=0)
    assert raised.value.events == 200
    assert len(Outbox(tmp_path / "outbox.sqlite")) == 100


def test_what_was_stored_before_a_start_comes_first(mosquitto, listen, open_sink, make_event, tmp_path):
    broker = mosquitto("persistence true", f"persistence_location {tmp_path}/")
    listener = listen(broker.port, EVENT)
    broker.stop()
    for first in (1, 41):
        sink = open_sink(broker.port)
        for number in range(first, first + 40):
            sink.publish(make_event(number))
        with pytest.raises(
            UnavailableError, match=rf"{first + 39} events did not reach .* they wait in .*outbox.sqlite"
        ):
            sink.close(timeout=0)
    broker.start()
    sink = open_sink(broker.port)
    sink.publish(make_event(81))
    sink.wait_connected(5)
    sink.close()
    listener.wait_for(lambda: 81 in numbers(listener))
    assert numbers(listener) == list(range(1, 82))
