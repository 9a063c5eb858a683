import os
from pathlib import Path

import pytest

from edge.credentials import credential, has_password, hide_password, read_secret, url_with_password
from edge.errors import BadDataError, InputNotFoundError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://u:p@h/x", "rtsp://***@h/x"),
        ("cannot open rtsp://u:p@ss/w@h:554/x now", "cannot open rtsp://***@h:554/x now"),
        ("http://h/x?user=u&password=p&y=1", "http://h/x?user=u&password=***&y=1"),
        ("no rtsp:/u:p@h/x here", "no rtsp:/***@h/x here"),
        ("unknown: --mqtt-password hunter2 --debug", "unknown: --mqtt-password *** --debug"),
        ("--password=hunter2", "--password=***"),
        ("--password-file secret.txt", "--password-file secret.txt"),
        ("--password --debug", "--password --debug"),
        ("/dev/video0", "/dev/video0"),
        ("me@home/a:b@c.jpg", "me@home/a:b@c.jpg"),
    ],
)
def test_messages_show_urls_without_what_is_secret(text, shown):
    assert hide_password(text) == shown


def test_a_password_file_holds_one_line(tmp_path):
    path = tmp_path / "password"
    path.write_text("pass word \n")
    assert read_secret(path, "mqtt.password_file") == "pass word "


@pytest.mark.parametrize("content", [b"", b"\n", b"hunter2\nhunter2\n", b"hunter2\xff", b"hunter2" * 1000])
def test_a_password_file_with_anything_else_is_refused_without_showing_it(tmp_path, content):
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"mqtt.password_file: .*password") as raised:
        read_secret(path, "mqtt.password_file")
    assert "hunter2" not in str(raised.value)


def test_a_missing_password_file_names_the_key(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"mqtt.password_file: .*absent cannot be read"):
        read_secret(tmp_path / "absent", "mqtt.password_file")


def test_what_may_be_the_password_in_place_of_its_files_name_is_not_shown():
    with pytest.raises(InputNotFoundError, match=r"mqtt.password_file: the file .*whole path") as raised:
        read_secret(Path("hunter2"), "mqtt.password_file")
    assert "hunter2" not in str(raised.value)


def test_a_password_is_put_into_a_url_so_that_any_character_survives():
    url = url_with_password("rtsp://u@camera:554/live?x=1", "p@:/#")
    assert url == "rtsp://u:p%40%3A%2F%23@camera:554/live?x=1"
    assert has_password(url)


def test_a_credential_is_a_file_in_systemds_folder(tmp_path):
    (tmp_path / "mqtt-password").write_text("hunter2")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert credential(environ, "mqtt-password") == tmp_path / "mqtt-password"
    assert credential(environ, "source-password") is None
    assert credential({}, "mqtt-password") is None


def test_a_credential_that_may_not_be_looked_for_is_told_when_it_is_read(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    path = credential({"CREDENTIALS_DIRECTORY": str(tmp_path)}, "mqtt-password")
    with pytest.raises(InputNotFoundError, match=r"mqtt-password cannot be read \(Permission denied\)"):
        read_secret(path, "mqtt.password_file")
