"""What `mien fleet` makes of what a broker retains, be it Mien's or anybody's."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge.fleet
from edge.board import REASONS
from edge.events import format_time
from edge.fleet import Device, Fleet
from edge.fleet_table import COLUMNS, live, needs_attention, plain, summary
from edge.fleet_watch import View
from edge.health import Health, Queue
from edge.state import fold, state_json

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def health(device="kitchen", **changes) -> bytes:
    """What the daemon's own code tells, with changes."""
    counted = Health(
        device=device,
        model="mien-v1-48@3f9c21d0",
        live=True,
        queues=lambda: {"log": Queue(0, 1), "mqtt": Queue(7, 2)},
        outbox=lambda: 7,
        clock=lambda: 600.0,
        now=lambda: NOW - MINUTE,
        clock_synced=lambda: True,
    )
    told = counted.snapshot().to_dict() | {"uptime": 3600.0, "fps": 14.9, "frame_age": 0.1, "temperature": 61.2}
    return json.dumps(told | changes).encode()


def state(device="kitchen", **changes) -> bytes:
    told = {"schema": "mien/state/1", "device": device, "ts": format_time(NOW - MINUTE), "clock_synced": True}
    told |= {"count": 2, "dominant": {"track": 1, "expression": "happy", "confidence": 0.8}, "faces": []}
    return json.dumps(told | changes).encode()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("mien")


def told(fleet, *messages, now=NOW) -> Device:
    """The only device after messages as (kind, payload), none of which gives cause for complaint."""
    for kind, payload in messages:
        assert fleet.take(f"mien/kitchen/{kind}", payload, now) is None
    [device] = fleet.devices()
    return device


def test_the_three_topics_of_a_device_make_one_row(fleet):
    device = told(fleet, ("status", b"online"), ("state", state()), ("health", health()))
    assert device.to_dict() == {
        "schema": "mien/fleet/1",
        "device": "kitchen",
        "status": "online",
        "paused": None,
        "since": "2026-11-21T10:59:00.000Z",
        "last_seen": "2026-11-21T11:59:00.000Z",
        "faces": 2,
        "expression": "happy",
        "confidence": 0.8,
        "fps": 14.9,
        "frame_age": 0.1,
        "temperature": 61.2,
        "throttling": None,
        "outbox": 7,
        "lost": 3,
        "model": "mien-v1-48@3f9c21d0",
        "version": edge.__version__,
    }


def test_what_the_daemon_publishes_before_its_first_event_is_understood(fleet):
    device = told(fleet, ("state", state_json("kitchen", {}, None).encode()))
    assert (device.status, device.state.faces, device.state.expression, device.seen) == ("unknown", 0, None, None)


def test_what_the_daemon_publishes_of_an_event_is_understood(fleet, make_event):
    event = make_event(1)
    device = told(fleet, ("state", state_json("kitchen", fold({}, event), event).encode()))
    assert (device.state.faces, device.state.expression, device.state.confidence) == (1, "happy", 0.83)
    assert device.seen == datetime.fromisoformat(event.ts)


def test_devices_are_sorted_by_name(fleet):
    for name in ("b", "c", "a"):
        fleet.take(f"mien/{name}/status", b"online", NOW)
    assert [device.name for device in fleet.devices()] == ["a", "b", "c"]


def test_a_change_that_is_seen_dates_the_status(fleet):
    told(fleet, ("status", b"online"), ("health", health()))
    device = told(fleet, ("status", b"offline"), now=NOW + MINUTE)
    assert (device.status, device.since) == ("offline", NOW + MINUTE)
    assert told(fleet, ("status", b"offline"), now=NOW + 2 * MINUTE).since == NOW + MINUTE


def test_a_device_that_is_found_offline_is_so_since_it_was_last_heard_of(fleet):
    device = told(fleet, ("status", b"offline"), ("health", health()))
    assert device.since == device.seen == NOW - MINUTE


def test_a_clock_that_cannot_be_believed_dates_nothing_but_a_change_is_a_sign_of_life(fleet):
    device = told(fleet, ("status", b"online"), ("health", health(clock_synced=False)))
    assert (device.since, device.seen) == (None, None)
    assert told(fleet, ("health", health(clock_synced=False)), now=NOW + MINUTE).seen is None
    assert told(fleet, ("health", health(clock_synced=False, uptime=3660.0)), now=NOW + MINUTE).seen == NOW + MINUTE


def test_a_clock_that_is_ahead_does_not_date_a_device_into_the_future(fleet):
    assert told(fleet, ("health", health(ts="2099-01-01T00:00:00Z"))).seen == NOW


def test_after_a_lost_connection_nobody_is_online_until_the_broker_says_so_again(fleet):
    told(fleet, ("status", b"online"), ("state", state()))
    before = told(fleet).since
    fleet.doubt()
    doubted = told(fleet)
    assert (doubted.status, doubted.state.faces) == ("unknown", 2)
    again = told(fleet, ("status", b"online"), now=NOW + MINUTE)
    assert (again.status, again.since) == ("online", before)


@pytest.mark.parametrize("kind", ["status", "state", "health"])
def test_an_emptied_topic_is_forgotten_and_a_device_with_its_last_one(fleet, kind):
    messages = {"status": b"online", "state": state(), "health": health()}
    device = told(fleet, *messages.items())
    told(fleet, (kind, b""))
    assert told(fleet) != device
    fleet.doubt()
    for other in messages:
        fleet.take(f"mien/kitchen/{other}", b"", NOW)
    assert fleet.devices() == []


JUNK = [
    ("status", b"on"),
    ("status", b"\xff\xfe"),
    ("status", b"online" * 20_000),
    ("state", b"{"),
    ("state", b"\xff\xfe"),
    ("state", b"[]"),
    ("state", b"null"),
    ("state", b"[" * 60_000),
    ("state", b'{"schema": ' + b"1" * 10_000 + b"}"),
    ("state", state(count=None)),
    ("state", state(count=-1)),
    ("state", state(count=1.5)),
    ("state", state(count=True)),
    ("state", state(count="2")),
    ("state", state(dominant=[1])),
    ("state", state(dominant={"expression": 7})),
    ("state", state(ts="yesterday")),
    ("state", state(ts="2026-11-21T12:00:00")),
    ("state", state(ts="0001-01-01T00:00:00+14:00")),
    ("state", state(ts=12)),
    ("state", state(schema="mien/state/2")),
    ("state", state("bath")),
    ("state", health()),
    ("state", state(padding="x" * 70_000)),
    ("health", health(fps=float("nan"))),
    ("health", health(fps=float("inf"))),
    ("health", health().replace(b"14.9", b"1e999")),
    ("health", health(fps=10**400)),
    ("health", health(uptime=1e12)),
    ("state", state(paused="yes")),
    ("health", health(model={"a": 1})),
    ("health", health(sinks={"mqtt": 3})),
    ("health", health(sinks={"mqtt": {"lost": "many"}})),
    ("health", health(sinks={str(number): {} for number in range(100)})),
    ("health", health(throttling=[True])),
    ("health", health(throttling={"throttled": True})),
]


@pytest.mark.parametrize(("kind", "payload"), JUNK, ids=range(len(JUNK)))
def test_junk_is_named_once_by_its_topic_and_changes_nothing(fleet, kind, payload):
    before = told(fleet, ("status", b"online"), ("state", state()), ("health", health()))
    complaint = fleet.take(f"mien/kitchen/{kind}", payload, NOW)
    assert complaint.startswith(f"mien/kitchen/{kind} does not come from Mien (")
    assert len(complaint) < 300
    assert fleet.take(f"mien/kitchen/{kind}", payload, NOW) is None
    assert fleet.devices() == [before]
    assert told(fleet, ("health", health(fps=2.0))).health.fps == 2.0


def test_a_newer_schema_says_what_to_do(fleet):
    assert "update mien" in fleet.take("mien/kitchen/health", health(schema="mien/health/2"), NOW)


@pytest.mark.parametrize(
    "topic",
    ["mien/status", "mien//status", "mien/a b/status", "mien/kitchen/event", "mien/a/b/status", "other/a/status", "",
     "mien/\x1b[2J/status", "mien/" + "x" * 64 + "/status", "mien/küche/status"],
)  # fmt: skip
def test_a_topic_that_no_device_has_makes_no_row(fleet, topic):
    complaint = fleet.take(topic, b"online", NOW)
    assert complaint.isprintable()
    assert len(complaint) < 300
    assert fleet.devices() == []


def test_texts_cannot_steer_a_terminal_and_are_cut(fleet):
    evil = "\x1b[2J[red]\u202eolleh\n"
    device = told(fleet, ("health", health(model=evil * 50)), ("state", state(dominant={"expression": evil})))
    shown = plain([device], NOW) + device.to_json()
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert "\\x1b[2J[red]\\u202eolleh\\n" in device.state.expression
    assert len(device.to_json()) < 2000


def test_a_surrogate_in_json_can_be_printed(fleet):
    device = told(fleet, ("health", health().replace(b"mien-v1", rb"\ud800")))
    plain([device], NOW).encode()
    device.to_json().encode()


def test_so_many_devices_and_complaints_are_enough(fleet, monkeypatch):
    monkeypatch.setattr(edge.fleet, "MOST_DEVICES", 3)
    monkeypatch.setattr(edge.fleet, "MOST_COMPLAINTS", 4)
    said = [fleet.take(f"mien/d{number}/status", b"online", NOW) for number in range(6)]
    assert len(fleet.devices()) == 3
    assert [complaint for complaint in said if complaint] == [
        "there are more than 3 devices; further ones are not shown"
    ]
    said = [fleet.take(f"mien/d{number}/status", b"junk", NOW) for number in range(10)]
    assert sum(complaint is not None for complaint in said) == 4
    assert said[3] == "more than 4 topics hold what does not come from Mien; the others are not named"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_whatever_stands_in_one_field_is_shown_or_refused(data):
    fleet = Fleet("mien")
    kind, payload = data.draw(st.sampled_from([("state", state()), ("health", health())]))
    document = json.loads(payload)
    document[data.draw(st.sampled_from(sorted(document)))] = data.draw(VALUES)
    fleet.take(f"mien/kitchen/{kind}", json.dumps(document).encode(), NOW)
    devices = fleet.devices()
    assert all(sign.isprintable() or sign == "\n" for sign in plain(devices, NOW))
    for device in devices:
        assert json.loads(device.to_json())["device"] == "kitchen"


@given(st.binary(max_size=60), st.sampled_from(["status", "state", "health"]))
def test_any_bytes_are_survived(payload, kind):
    fleet = Fleet("mien")
    fleet.take(f"mien/kitchen/{kind}", payload, NOW)
    assert len(fleet.devices()) == (payload in (b"online", b"offline") and kind == "status")


def test_a_device_that_is_slowed_down_says_why(fleet):
    flags = {reason: {"now": False, "since_boot": False} for reason in REASONS}
    flags |= {"throttled": {"now": True, "since_boot": True}, "under_voltage": {"now": None, "since_boot": True}}
    device = told(fleet, ("status", b"online"), ("health", health(throttling=flags)))
    assert device.to_dict()["throttling"] == {"now": ["throttled"], "since_boot": ["under_voltage", "throttled"]}
    assert "61 °C, throttled, was under voltage" in plain([device], NOW)
    assert needs_attention(device)


def test_the_plain_table_has_all_columns_and_a_line_for_each_device(fleet):
    device = told(fleet, ("status", b"online"), ("state", state()), ("health", health()))
    head, first, second = plain([device, Device("unheard-of")], NOW).splitlines()
    assert all(column.title in head for column in COLUMNS)
    assert first.split()[:2] == ["kitchen", "online"]
    assert "happy" in first
    assert "1 min ago" in first
    assert second.split() == ["unheard-of", "unknown", *"-" * 11]
    assert head.index("status") == first.index("online") == second.index("unknown")


@pytest.mark.parametrize(("status", "shown"), [(b"online", "paused"), (b"offline", "offline")])
def test_a_device_that_is_paused_shows_it_while_it_is_online(status, shown, fleet):
    device = told(
        fleet, ("status", status), ("state", state(paused=True, count=0, dominant=None)), ("health", health())
    )
    assert (device.to_dict()["status"], device.to_dict()["paused"]) == (status.decode(), True)
    assert plain([device], NOW).splitlines()[1].split()[1] == shown
    assert summary([device]) == f"1 device: 1 {shown}"


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([], "0 devices"),
        ([b"online"], "1 device: 1 online"),
        ([b"online", b"offline", b"offline"], "3 devices: 1 online, 2 offline"),
    ],
)
def test_the_summary_counts(fleet, statuses, said):
    for number, status in enumerate(statuses):
        fleet.take(f"mien/d{number}/status", status, NOW)
    assert summary(fleet.devices()) == said


def shown(view: View, *, width: int, height: int) -> str:
    console = pytest.importorskip("rich.console", reason="the live table needs rich").Console(
        width=width, height=height
    )
    with console.capture() as capture:
        console.print(live(view, NOW, width=width, height=height))
    return capture.get()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_live_table_fits_the_terminal_and_leaves_the_last_columns_out(fleet, width):
    device = told(fleet, ("status", b"online"), ("state", state()), ("health", health()))
    lines = shown(View([device], ""), width=width, height=24).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert any("kitchen" in line and "online" in line for line in lines)
    assert any("version" in line for line in lines) == (width == 200)


def test_where_not_all_fit_those_who_need_attention_are_shown(fleet):
    for number in range(100):
        fleet.take(f"mien/d{number:02}/status", b"offline" if number in (50, 99) else b"online", NOW)
    lines = shown(View(fleet.devices(), ""), width=100, height=20).splitlines()
    assert len(lines) < 20
    assert sum("offline" in line for line in lines[1:]) == 2
    assert "and 86 more" in lines[-1]


def test_a_lost_connection_is_said_and_markup_is_shown_as_it_stands(fleet):
    device = told(fleet, ("status", b"online"), ("state", state(dominant={"expression": "[bold]happy[/]"})))
    text = shown(View([device], "the connection is lost (why)"), width=120, height=24)
    assert "the connection is lost (why); what is shown may be old" in text
    assert "[bold]happy[/]" in text
