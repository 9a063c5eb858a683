"""What is read from the kernel and from events, and what follows from it; the daemon itself is not started here."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.daemon_cost import ABOUT, HEAD, LITERT, Sample, delay, growth, page, rows, shortcomings, spread
from benchmarks.daemon_process import cpu_seconds, memory_of
from edge.errors import MienError
from edge.events import format_time


def steadily(per_second: float, seconds: int = 100, start: int = 90_000_000) -> list[Sample]:
    return [Sample(float(at), start + int(per_second * at), start // 2) for at in range(seconds + 1)]


def test_processor_time_counts_user_and_system_time_whatever_the_program_is_called():
    stat = "4711 (a (b) c) S 1 4711 4711 0 -1 4194304 9 0 0 0 250 50 7 7 20 0 7 0 1000 1 1"
    assert cpu_seconds(stat) == pytest.approx(3.0)  # Linux on every machine has 100 ticks a second


def test_memory_is_read_in_bytes_and_a_process_that_ended_has_none():
    now = memory_of("Name:\tpython\nVmHWM:\t   99512 kB\nVmRSS:\t   98000 kB\nRssAnon:\t   48044 kB\nThreads:\t7\n")
    assert (now["VmHWM"], now["VmRSS"], now["RssAnon"]) == (99512 * 1024, 98000 * 1024, 48044 * 1024)
    assert not memory_of("Name:\tpython\nState:\tZ (zombie)\nThreads:\t1\n")
    assert memory_of(Path("/proc/self/status").read_text())["VmRSS"] > 1_000_000


def test_memory_that_stays_does_not_grow_and_a_leak_shows():
    assert growth(steadily(0.0), 0.1) == pytest.approx((0.0, 0.0), abs=1)
    grown, slope = growth(steadily(10_000.0), 0.1)
    assert slope == pytest.approx(900_000, rel=0.01)  # over the 90 seconds behind the warm-up
    assert grown == pytest.approx(810_000, rel=0.02)  # from the middle of their first tenth to that of their last
    assert growth(steadily(10_000.0), 0.1, own=True)[0] == 0


def test_what_is_taken_in_the_warm_up_and_one_odd_sample_are_no_growth():
    warm = [Sample(float(at), 10_000_000 * min(at, 10), 0) for at in range(101)]
    warm[-1] = Sample(100.0, 900_000_000, 0)
    assert growth(warm, 0.1)[0] == 0
    assert growth(warm, 0.0)[0] > 1_000_000


def test_too_few_looks_at_memory_are_refused():
    with pytest.raises(MienError, match="too few; ask for more frames"):
        growth(steadily(0.0, seconds=5), 0.1)


def test_a_delay_counts_from_the_events_own_time():
    taken = datetime(2026, 11, 21, 3, 0, 0, 123_000, tzinfo=UTC)
    line = f'{{"ts":"{format_time(taken)}","type":"appeared"}}'
    assert delay(line, taken.timestamp() + 0.040) == pytest.approx(0.040, abs=1e-4)
    assert delay(line.encode(), taken.timestamp()) == pytest.approx(0.0, abs=1e-4)


def test_percentiles_of_delays():
    told = spread([at / 1000 for at in range(101)])
    assert told == pytest.approx({"events": 101, "p50": 0.050, "p95": 0.095, "p99": 0.099, "max": 0.100})


def told(**changes) -> dict:
    """Figures that all do, but for the changes."""
    p99 = changes.get("p99", 0.02)
    late = {"events": 900, "p50": 0.005, "p95": 0.01, "p99": p99, "max": 0.2}
    run = {"frames": 100_000, "skipped": 0, "events": 4000, "slope": 0.0, "growth": changes.get("growth", 1000)}
    return {
        "machine": {"processor": "a processor", "cores": 2, "load": 0.1},
        "versions": {changes.get("interpreter", LITERT): "2.3.0"},
        "broker": True,
        "quiet": {"seconds": 60.0, "share": changes.get("share", 0.01), "drawing": 0.005},
        "latency": {"cuts": {"skipped": 3, "log": late, "mqtt": late}},
        "memory": {"live": run},
        "peak": changes.get("peak", 100_000_000),
    }


def test_figures_that_do_fall_short_of_nothing():
    assert shortcomings(told()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": 0.025}, ["a quiet scene takes 2.5% of one core, over 2%"]),
        ({"peak": 151_000_000}, ["151 MB resident, over 150 MB"]),
        ({"growth": 1_000_000}, ["live: memory grew by 1.0 MB in 100000 frames"]),
        ({"p99": 0.07}, [f"cuts: delay to {where} 70 ms, over 67 ms" for where in ("log", "mqtt")]),
        ({"interpreter": "tflite-runtime"}, ["not measured with LiteRT: ai-edge-litert is not what the model runs on"]),
    ],
)
def test_a_figure_that_falls_short_is_named(changes, said):
    assert shortcomings(told(**changes)) == said


def test_without_a_broker_the_log_alone_is_judged_and_told():
    alone = told(p99=0.07)
    del alone["latency"]["cuts"]["mqtt"]
    assert shortcomings(alone) == ["cuts: delay to log 70 ms, over 67 ms"]
    assert sum(line[0].startswith("delay") for line in rows(alone)) == 1


def test_the_page_holds_the_table_and_leaves_nothing_open():
    assert all(len(line) == len(HEAD) for line in rows(told()))
    text = page(told(), "| a table |", Path("docs/daemon.md"))
    assert "| a table |" in text
    assert "{" not in text
    assert any("frames skipped: 3" in line[0] for line in rows(told()))
    assert "{" in ABOUT
