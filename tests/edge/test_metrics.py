import socket
import sys
import threading
import urllib.request
from contextlib import ExitStack

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge.board import REASONS, Flag
from edge.config import MetricsConfig
from edge.errors import ConfigError, UnavailableError
from edge.health import Latency, Queue, Snapshot
from edge.metrics import registry, serving

ADDRESS = "127.0.0.1"


@pytest.fixture
def make_snapshot():
    def make(**changes) -> Snapshot:
        values = {
            "device": "kitchen",
            "ts": "2026-11-21T03:00:00.123Z",
            "clock_synced": True,
            "version": "1.2.3",
            "model": 'mine "best" \\ one\n@3f9c21d0',
            "uptime": 3600.5,
            "paused": False,
            "frames": 54_000,
            "skipped": 12,
            "events": 99,
            "fps": 14.9,
            "frame_age": 0.041,
            "faces": 2,
            "latency": Latency(41.5, 60.0, 88.1),
            "temperature": 51.1,
            "throttling": dict.fromkeys(REASONS, Flag(False, False)) | {"under_voltage": Flag(False, True)},
            "memory": 212_000_000,
            "cpu": 0.31,
            "sinks": {"log": Queue(0, 0), "mqtt": Queue(7, 3)},
            "outbox": 5,
        }
        return Snapshot(**(values | changes))

    return make


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return probe.getsockname()[1]


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text):
    """Every sample by its name and labels, `device` and so on of `mien_info` included."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


def scrape(port):
    with urllib.request.urlopen(f"http://{ADDRESS}:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def test_every_figure_is_there_in_base_units(make_snapshot):
    told = samples(generate_latest(registry(make_snapshot)).decode())
    expected = {
        ("mien_info", "kitchen", 'mine "best" \\ one\n@3f9c21d0', "1.2.3"): 1,
        ("mien_uptime_seconds",): 3600.5,
        ("mien_paused",): 0.0,
        ("mien_frames_total",): 54_000,
        ("mien_frames_skipped_total",): 12,
        ("mien_events_total",): 99,
        ("mien_frames_per_second",): 14.9,
        ("mien_frame_age_seconds",): 0.041,
        ("mien_faces",): 2,
        ("mien_event_latency_seconds", "0.5"): 0.0415,
        ("mien_event_latency_seconds", "0.95"): 0.06,
        ("mien_event_latency_seconds", "0.99"): 0.0881,
        ("mien_temperature_celsius",): 51.1,
        ("mien_resident_memory_bytes",): 212e6,
        ("mien_cpu_ratio",): 0.31,
        ("mien_sink_waiting_events", "log"): 0,
        ("mien_sink_waiting_events", "mqtt"): 7,
        ("mien_sink_lost_events_total", "log"): 0,
        ("mien_sink_lost_events_total", "mqtt"): 3,
        ("mien_outbox_events",): 5,
        ("mien_clock_synced",): 1,
    }
    expected |= {("mien_throttling", reason): 0 for reason in REASONS}
    expected |= {("mien_throttling_since_boot", reason): float(reason == "under_voltage") for reason in REASONS}
    assert told == pytest.approx(expected)


def test_what_is_not_known_has_no_sample(make_snapshot):
    unknown = make_snapshot(
        temperature=None, throttling=None, latency=None, frame_age=None, memory=None, outbox=None, sinks={}
    )
    names = {name for name, *_ in samples(generate_latest(registry(lambda: unknown)).decode())}
    assert names == {
        "mien_info",
        "mien_uptime_seconds",
        "mien_paused",
        "mien_frames_total",
        "mien_frames_skipped_total",
        "mien_events_total",
        "mien_frames_per_second",
        "mien_faces",
        "mien_cpu_ratio",
        "mien_clock_synced",
    }


def test_a_flag_that_only_the_moment_is_known_of_has_no_history(make_snapshot):
    flags = dict.fromkeys(REASONS, Flag(None, None)) | {"under_voltage": Flag(True, None)}
    told = samples(generate_latest(registry(lambda: make_snapshot(throttling=flags))).decode())
    assert {key: value for key, value in told.items() if key[0].startswith("mien_throttling")} == {
        ("mien_throttling", "under_voltage"): 1
    }


def test_names_follow_prometheus_conventions_and_every_family_is_explained(make_snapshot):
    text = generate_latest(registry(make_snapshot)).decode()
    for family in families(text).values():
        assert family.name.startswith("mien_")
        assert family.documentation.endswith(".")
        assert family.type in {"counter", "gauge", "summary"}
        # promtool's own rules: counters alone end in _total, summaries alone have quantiles, units are base units.
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
        assert all(("quantile" in sample.labels) == (family.type == "summary") for sample in family.samples)
        assert not any(unit in family.name for unit in ("milli", "_ms", "percent", "kilo", "minutes", "fahrenheit"))
    assert text.count("# TYPE") == text.count("# HELP") == len(families(text))


def test_each_scrape_tells_how_it_is_then_and_nobody_listens_behind_it(make_snapshot, port):
    taken = []

    def snapshot():
        taken.append(make_snapshot(frames=len(taken)))
        return taken[-1]

    before = threading.active_count()
    with serving(MetricsConfig(port=port), snapshot):
        assert taken == []
        frames = [samples(scrape(port))[("mien_frames_total",)] for _ in range(3)]
    assert frames == [0, 1, 2]
    with pytest.raises(OSError, match="refused"):
        scrape(port)
    assert threading.active_count() == before


def test_a_client_that_never_asks_does_not_hold_up_the_end(make_snapshot, port):
    with ExitStack() as stack, serving(MetricsConfig(port=port), make_snapshot):
        stack.enter_context(socket.create_connection((ADDRESS, port)))
        assert "mien_info" in scrape(port)


def test_port_0_listens_nowhere_and_needs_no_prometheus(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    before = threading.active_count()
    with serving(MetricsConfig(), lambda: pytest.fail("asked")):
        assert threading.active_count() == before


def test_a_busy_port_is_refused_by_its_key(make_snapshot, port):
    config = MetricsConfig(port=port)
    with (
        serving(config, make_snapshot),
        pytest.raises(UnavailableError, match=rf"metrics.port {port} .*in use.*choose another port"),
        serving(config, make_snapshot),
    ):
        pytest.fail("two listen on one port")


def test_an_address_that_is_not_ours_is_refused_by_its_key(make_snapshot, port):
    with (
        pytest.raises(UnavailableError, match=r"metrics\.address 192\.0\.2\.1 cannot be listened on"),
        serving(MetricsConfig(port=port, address="192.0.2.1"), make_snapshot),
    ):
        pytest.fail("somebody listens there")


@pytest.mark.parametrize("address", ["127.0..1", "a" * 64])
def test_an_address_that_is_none_is_refused_by_its_key(make_snapshot, port, address):
    with (
        pytest.raises(ConfigError, match=rf"metrics\.address: '{address}' is no address and no host's name"),
        serving(MetricsConfig(port=port, address=address), make_snapshot),
    ):
        pytest.fail("somebody listens there")


def test_without_prometheus_client_a_port_is_refused_with_what_to_install(monkeypatch, make_snapshot, port):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(ConfigError, match=rf"metrics.port is {port}.*pip install 'mien\[metrics\]'"),
        serving(MetricsConfig(port=port), make_snapshot),
    ):
        pytest.fail("it cannot be served")
