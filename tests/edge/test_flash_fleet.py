"""A fleet from a CSV: every wrong row is told by number and column before anything is written."""

import time

import pytest

from edge.errors import BadDataError, InputNotFoundError
from edge.flash_firstboot import templates
from edge.flash_fleet import read_fleet


@pytest.fixture
def fleet(tmp_path):
    def read(text, encoding="utf-8", **common):
        path = tmp_path / "cards.csv"
        path.write_bytes(text.encode(encoding))
        options = {name.replace("_", "-"): value for name, value in common.items()}
        return read_fleet(path, options, default_config=templates() / "mien.toml")

    return read


def test_each_row_is_a_card_with_what_all_have_in_common(fleet):
    cards = fleet(
        "hostname,device,source.rotate,country\nkitchen,k-1,180,\n\n# a note,,,\nhall,h-1,,GB\n", country="DE"
    )
    assert [card.hostname for card in cards] == ["kitchen", "hall"]
    assert [card.country for card in cards] == ["DE", "GB"]
    assert "rotate = 180" in cards[0].config
    assert "rotate" not in cards[1].config


def test_a_table_as_excel_saves_it_is_read(fleet):
    assert fleet("hostname,device\r\nkitchen,k\r\n", encoding="utf-8-sig")[0].hostname == "kitchen"


def test_files_lie_beside_the_csv(fleet, tmp_path):
    (tmp_path / "kitchen.password").write_text("secret\n")
    [card] = fleet("hostname,mqtt-password-file\nkitchen,kitchen.password\n")
    assert dict(card.secrets) == {"mien.mqtt-password": "secret"}


def test_all_wrong_rows_are_told_at_once(fleet, tmp_path):
    with pytest.raises(BadDataError) as refused:
        fleet("hostname,country\nkitchen,DE\n-hall,DE\nattic,germany\ncellar\nKITCHEN,DE\n,DE\n")
    said = str(refused.value)
    where = f"{tmp_path}/cards.csv, row "
    assert f"{where}3, column hostname: '-hall' is no host name" in said
    assert f"{where}4, column country: 'germany' is no country" in said
    assert f"{where}5: it has 1 cells, and there are 2 columns" in said
    assert f"{where}6, column hostname: KITCHEN is that of row 2 too" in said
    assert f"{where}7, column hostname is missing" in said
    assert "row 2," not in said.replace("of row 2 too", "")
    assert "nothing was written" in said


def test_two_cards_are_no_one_device(fleet):
    with pytest.raises(BadDataError, match="row 3, column device: k is that of row 2 too"):
        fleet("hostname,device\nkitchen,k\nhall,k\n")
    with pytest.raises(BadDataError, match="row 3, column device: all is that of row 2 too"):
        fleet("hostname\nkitchen\nhall\n", device="all")


def test_a_fleet_of_thousands_is_read_in_seconds_and_says_no_more_than_can_be_read(fleet, tmp_path):
    (tmp_path / "password").write_text("hunter22")
    common = {"wifi": "Home", "wifi_password_file": str(tmp_path / "password"), "country": "DE", "user": "ada"}
    common |= {"user_password_file": str(tmp_path / "password"), "timezone": "Europe/Berlin"}
    began = time.process_time()
    assert len(fleet("hostname\n" + "".join(f"pi-{number}\n" for number in range(1000)), **common)) == 1000
    assert time.process_time() - began < 5
    with pytest.raises(BadDataError, match="and 900 more") as refused:
        fleet("hostname\n" + "-\n" * 1000)
    assert len(str(refused.value).splitlines()) == 102


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("hostname\n", "no card"),
        ("name\nkitchen\n", "row 1: there is no column 'name'"),
        ("device\nkitchen\n", "row 1: column hostname is missing"),
        ("hostname;device\nkitchen;k\n", "row 1: there is no column"),
        ("hostname,hostname\na,b\n", "row 1: column hostname is there twice"),
        ('hostname\n"kit"chen\n', "row 2: it is no CSV"),
        ("hostname,colour.red\nkitchen,1\n", "row 2, column colour.red"),
    ],
)
def test_what_is_no_table_of_cards_is_refused(fleet, text, why):
    with pytest.raises(BadDataError, match=why):
        fleet(text)


def test_what_is_no_text_is_refused(fleet):
    with pytest.raises(BadDataError, match="row 2: expected UTF-8"):
        fleet("hostname\nkü\n", encoding="latin-1")


def test_a_csv_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"nowhere\.csv"):
        read_fleet(tmp_path / "nowhere.csv", {}, default_config=templates() / "mien.toml")
