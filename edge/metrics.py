"""The figures of `edge.health` for Prometheus, over HTTP; prometheus-client is needed only where somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge.config import MetricsConfig
from edge.errors import ConfigError, UnavailableError
from edge.health import Snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

MISSING = "metrics.port is {port}, but prometheus-client is not installed; pip install 'mien[metrics]', or set it to 0"


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """A snapshot as Prometheus has it, in base units; what is not known has no sample.

    Names follow https://prometheus.io/docs/practices/naming/.
    """
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

    def counter(name: str, help_: str, values: Mapping[str, float], label: str = "") -> Metric:
        family = CounterMetricFamily(f"mien_{name}", help_, labels=[label] if label else [])
        for key, value in values.items():
            family.add_metric([key] if label else [], value)
        return family

    def gauge(name: str, help_: str, values: Mapping[str, float | None], label: str = "") -> Metric:
        family = GaugeMetricFamily(f"mien_{name}", help_, labels=[label] if label else [])
        for key, value in values.items():
            if value is not None:
                family.add_metric([key] if label else [], value)
        return family

    who = {"device": snapshot.device, "model": snapshot.model, "version": snapshot.version}
    yield InfoMetricFamily("mien", "Who tells all this.", value=who)
    yield gauge("uptime_seconds", "Since the daemon's start.", {"": snapshot.uptime})
    yield gauge("paused", "1 while the camera is not read since somebody has paused it.", {"": snapshot.paused})
    yield counter("frames", "Frames looked at.", {"": snapshot.frames})
    yield counter("frames_skipped", "Frames not looked at, because newer ones came.", {"": snapshot.skipped})
    yield counter("events", "Events handed to the sinks.", {"": snapshot.events})
    yield gauge("frames_per_second", "Frames looked at, over the last minute.", {"": snapshot.fps})
    yield gauge("frame_age_seconds", "Since the newest frame was captured.", {"": snapshot.frame_age})
    yield gauge("faces", "Faces in the newest frame.", {"": snapshot.faces})
    latency = Metric("mien_event_latency_seconds", "From capture to the sinks, over the last minute.", "summary")
    if snapshot.latency is not None:
        for quantile, value in zip(("0.5", "0.95", "0.99"), snapshot.latency, strict=True):
            latency.add_sample(latency.name, {"quantile": quantile}, value / 1000)
    yield latency
    yield gauge("temperature_celsius", "The processor's.", {"": snapshot.temperature})
    flags = snapshot.throttling or {}
    now = {reason: flag.now for reason, flag in flags.items()}
    since_boot = {reason: flag.since_boot for reason, flag in flags.items()}
    yield gauge("throttling", "1 while the firmware slows the processor down.", now, "reason")
    yield gauge("throttling_since_boot", "1 where it ever did.", since_boot, "reason")
    yield gauge("resident_memory_bytes", "Resident memory.", {"": snapshot.memory})
    yield gauge("cpu_ratio", "Processor seconds per second, over the last minute.", {"": snapshot.cpu})
    waiting = {name: queue.waiting for name, queue in snapshot.sinks.items()}
    lost = {name: queue.lost for name, queue in snapshot.sinks.items()}
    yield gauge("sink_waiting_events", "Events not yet out.", waiting, "sink")
    yield counter("sink_lost_events", "Events given up.", lost, "sink")
    yield gauge("outbox_events", "Events that wait for the broker.", {"": snapshot.outbox})
    yield gauge("clock_synced", "1 where the clock can be believed.", {"": snapshot.clock_synced})


def registry(snapshot: Callable[[], Snapshot]) -> CollectorRegistry:
    """What a scrape asks: it takes a snapshot each time."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    class HealthCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            return families(snapshot())

        def describe(self) -> list[Metric]:
            """Nothing, so that registering takes no snapshot yet."""
            return []

    asked = CollectorRegistry()
    asked.register(HealthCollector())
    return asked


@contextmanager
def serving(config: MetricsConfig, snapshot: Callable[[], Snapshot]) -> Iterator[None]:
    """Answer `GET /metrics` while this lasts; nothing where the port is 0.

    Args:
        config: the `metrics` section.
        snapshot: called in a thread of the server's.

    Raises:
        ConfigError: prometheus-client is not installed.
        UnavailableError: nobody can listen there.
    """
    if not config.port:
        yield
        return
    try:
        from prometheus_client import start_http_server
    except ImportError:
        raise ConfigError(MISSING.format(port=config.port)) from None
    try:
        server, thread = start_http_server(config.port, config.address, registry(snapshot))
    except UnicodeError:
        raise ConfigError(f"metrics.address: {config.address!r} is no address and no host's name") from None
    except OSError as error:
        raise UnavailableError(
            f"metrics.port {config.port} on metrics.address {config.address} cannot be listened on "
            f"({error.strerror}); choose another port, or end whoever has it"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
