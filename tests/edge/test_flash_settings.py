"""What is said of a card becomes a checked `Card`, or is refused by the name that it was said with."""

import shutil
import tomllib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadDataError, ConfigError, InputNotFoundError, MienError, UsageError
from edge.flash_firstboot import templates
from edge.flash_settings import RefusedError, make_card, to_toml, wifi_key

DEFAULT = templates() / "mien.toml"


def card(ask=None, folder=None, **options):
    given = {"hostname": "kitchen"} | {name.replace("_", "-"): value for name, value in options.items()}
    return make_card(
        given, default_config=DEFAULT, where=lambda name: f"--{name}", ask=ask, **({"folder": folder} if folder else {})
    )


def test_a_card_needs_a_host_name_and_nothing_else():
    made = card()
    assert made.hostname == "kitchen"
    assert made.config == DEFAULT.read_text()
    assert (made.user, made.wifi, made.secrets) == ("", None, ())


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("hostname", "", "missing"),
        ("hostname", "-kitchen", "no host name"),
        ("hostname", "kitchen.local", "no host name"),
        ("hostname", "a" * 64, "no host name"),
        ("hostname", "$(reboot)", "no host name"),
        ("hostname", "localhost", "no host name"),
        ("hostname", "kit\nchen", "control character"),
        ("user", "root", "account of the system"),
        ("user", "-ada", "no user's name"),
        ("user", "Ada", "no user's name"),
        ("user", "ada", "nobody could log in"),
        ("wifi", "a" * 33, "32 bytes"),
        ("wifi", "é" * 17, "32 bytes"),
        ("wifi", "a\x00b", "control character"),
        ("wifi", "a\x7fb", "control character"),
        ("wifi", "a\ud800b", "control character"),
        ("country", "de", "no country"),
        ("country", "GB;", "no country"),
        ("timezone", "../../etc/shadow", "no time zone"),
        ("timezone", "localtime", "no time zone"),
        ("wifi-hidden", "maybe", "yes or no"),
        ("wifi-open", "yes", "network's name"),
        ("device", "a/b", "device.name"),
        ("mqtt", "http://broker", "mqtt.url"),
        ("mqtt", "mqtt://me:secret@broker", "password in its URL"),
        ("source.rotate", "45", "source.rotate"),
        ("source.rotat", "90", "did you mean"),
        ("colour", "red", "unknown"),
    ],
)
def test_what_cannot_be_is_refused_by_name(option, value, why):
    with pytest.raises((UsageError, ConfigError)) as refused:
        make_card({"hostname": "kitchen", option: value}, default_config=DEFAULT, where=lambda name: f"<{name}>")
    assert f"<{option}>" in str(refused.value)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_wifi_password_becomes_the_key_of_80211i():
    # The test vectors of IEEE 802.11i, H.4.3.
    assert wifi_key("IEEE", "password") == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    assert wifi_key("ThisIsASSID", "ThisIsAPassword") == (
        "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"
    )
    assert wifi_key("any", "A" * 64) == "a" * 64


@pytest.mark.parametrize("password", ["short", "a" * 65, "g" * 64, "pässword", "pass\tword"])
def test_what_can_be_no_wifi_password_is_refused(password):
    with pytest.raises(RefusedError):
        wifi_key("Home", password)


def test_a_wifi_password_is_asked_for_where_somebody_can_be_asked():
    made = card(wifi="Home", country="DE", ask=lambda prompt: "password1" if "Home" in prompt else "")
    assert made.wifi.key == wifi_key("Home", "password1")
    with pytest.raises(UsageError, match="--wifi-password-file is missing"):
        card(wifi="Home", country="DE")
    with pytest.raises(UsageError, match="--country is missing"):
        card(wifi="Home", ask=lambda _: "password1")
    assert card(wifi="Home", country="DE", wifi_open="yes").wifi.key == ""


def test_nothing_secret_is_in_what_is_printed_of_a_card(tmp_path, public_key):
    (tmp_path / "secret").write_text("hunter2hunter2\n")
    files = dict.fromkeys((f"{kind}-password-file" for kind in ("wifi", "mqtt", "source", "user")), "secret")
    made = card(folder=tmp_path, user="ada", ssh_key=str(public_key), wifi="Home", country="DE", **files)
    assert dict(made.secrets) == {"mien.mqtt-password": "hunter2hunter2", "mien.source-password": "hunter2hunter2"}
    assert not {"hunter2hunter2", made.wifi.key, made.password} & set(repr(made).replace("'", " ").split())
    assert "hunter2" not in made.password


def test_a_users_password_is_hashed_and_a_hash_is_left_as_it_is(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (apt-get install openssl)")
    (tmp_path / "plain").write_text("correct horse\n")
    made = card(folder=tmp_path, user="ada", **{"user-password-file": "plain"})
    assert made.password.startswith("$6$")
    (tmp_path / "hash").write_text(made.password)
    assert card(folder=tmp_path, user="ada", **{"user-password-file": "hash"}).password == made.password


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "private key"),
        ("", "holds no key"),
        ("ssh-ed25519 AAAA\n", "key 1 is no SSH public key"),
        ("ssh-ed25519\n", "key 1 is no SSH public key"),
        ('command="reboot" ssh-ed25519 AAAA\n', "key 1 is no SSH public key"),
        ("\xff", "is no SSH public key"),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path, content, why):
    (tmp_path / "key").write_text(content)
    with pytest.raises(BadDataError, match=why):
        card(folder=tmp_path, user="ada", ssh_key="key")


@pytest.mark.parametrize(
    "option", ["ssh_key", "user_password_file", "mqtt_password_file", "wifi_password_file", "ca_file", "config"]
)
def test_a_file_that_is_not_there_is_named_unless_that_may_be_the_password_itself(tmp_path, option):
    more = {"wifi": "Home", "country": "DE"} if option.startswith("wifi") else {}
    more |= {"user": "ada"} if option in {"ssh_key", "user_password_file"} else {}
    with pytest.raises(InputNotFoundError) as refused:
        card(folder=tmp_path, **more, **{option: "nowhere"})
    assert ("nowhere" in str(refused.value)) != option.endswith("password_file")


def test_what_is_said_twice_is_refused():
    with pytest.raises(UsageError, match=r"device and .*device.name are the same"):
        card(device="a", **{"device.name": "b"})


def test_options_are_put_into_the_configuration(tmp_path):
    (tmp_path / "mine.toml").write_text('[smoothing]\npatience = 2.5\n[mqtt]\nbase = "house"\n')
    made = card(
        folder=tmp_path, config="mine.toml", source="v4l2:/dev/video0", mqtt="mqtts://broker", device="k-1",
        **{"source.rotate": "180", "source.region": "0.25,0,0.5,1", "homeassistant.enabled": "false"},
    )  # fmt: skip
    assert tomllib.loads(made.config) == {
        "smoothing": {"patience": 2.5},
        "mqtt": {"base": "house", "url": "mqtts://broker"},
        "source": {"spec": "v4l2:/dev/video0", "rotate": 180, "region": [0.25, 0.0, 0.5, 1.0]},
        "device": {"name": "k-1"},
        "homeassistant": {"enabled": False},
    }


def test_a_configuration_that_mien_would_refuse_never_gets_onto_a_card(tmp_path):
    (tmp_path / "mine.toml").write_text("[source]\nrotate = 45\n")
    with pytest.raises(ConfigError, match=r"mine\.toml, line 2"):
        card(folder=tmp_path, config="mine.toml")


def test_the_brokers_authority_comes_along(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    made = card(folder=tmp_path, ca_file="ca.pem", mqtt="mqtts://broker")
    assert made.ca.startswith(b"-----BEGIN")
    assert tomllib.loads(made.config)["mqtt"]["ca_file"] == "/etc/mien/broker-ca.pem"
    (tmp_path / "no.pem").write_text("hello")
    with pytest.raises(BadDataError, match="no certificate"):
        card(folder=tmp_path, ca_file="no.pem")
    (tmp_path / "no.pem").write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\n")
    with pytest.raises(BadDataError, match=r"no.pem holds a private key, which stays with you"):
        card(folder=tmp_path, ca_file="no.pem")


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(TEXTS, st.integers(-(2**31), 2**31), st.booleans(), st.lists(TEXTS, max_size=3))


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3))
def test_whatever_stands_in_a_configuration_is_read_back_as_it_was(table):
    assert tomllib.loads(to_toml(table)) == table


@given(st.text())
def test_no_option_whatever_makes_a_fault_of_ours(text):
    for name in ("hostname", "user", "wifi", "country", "timezone", "device", "mqtt", "source"):
        with suppress(MienError):
            assert make_card({"hostname": "k", name: text}, default_config=DEFAULT, where=lambda name: name).hostname
