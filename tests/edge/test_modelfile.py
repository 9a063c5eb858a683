import hashlib
import io
import json
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from edge.errors import BadDataError, InputNotFoundError
from edge.flatbuffer import BrokenFlatbufferError, check_flatbuffer
from edge.modelfile import SHIPPED, SMALL, find_model, parse_model_file, read_model_file

MODELS = Path(__file__).parent / "models"
FLATBUFFER = (MODELS / "grey_int8_logits.tflite").read_bytes()
LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
LABELS_TXT = "\n".join(LABELS) + "\n"
SIZE = 48


def card(**changes: object) -> dict[str, object]:
    return {
        "schema": "mien/model/1",
        "name": "mien-test",
        "labels": LABELS,
        "input": {"size": SIZE, "channels": 1, "margin": 1.0, "scaling": "x/127.5-1"},
        "output": {"kind": "logits", "temperature": 1.5},
        "thresholds": {"fear": 0.4},
        "provenance": {"dataset": "none"},
        "tflite": {"bytes": len(FLATBUFFER), "sha256": hashlib.sha256(FLATBUFFER).hexdigest()},
    } | changes


def appended(
    *entries: tuple[str, str | bytes], flatbuffer: bytes = FLATBUFFER, method: int = zipfile.ZIP_STORED
) -> bytes:
    """A model with a ZIP appended as `zipfile`'s own append mode does it."""
    buffer = io.BytesIO(flatbuffer)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one name twice is what some tests want
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def packed(**changes: object) -> bytes:
    return appended(("labels.txt", LABELS_TXT), ("mien.json", json.dumps(card(**changes))))


def test_a_model_of_ours_is_taken_apart():
    data = packed()
    file = parse_model_file(data, "m.tflite")
    assert file.flatbuffer == FLATBUFFER
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert file.labels == tuple(LABELS)
    assert file.card is not None
    assert (file.card.size, file.card.channels, file.card.temperature) == (48, 1, 1.5)
    assert file.card.thresholds == {"fear": 0.4}
    assert file.card.content["provenance"] == {"dataset": "none"}


def test_a_bare_model_has_neither_labels_nor_card():
    file = parse_model_file(FLATBUFFER, "m.tflite")
    assert (file.flatbuffer, file.labels, file.card) == (FLATBUFFER, None, None)


@pytest.mark.parametrize("name", ["labels.txt", "retrained_labels.TXT", "assets/emotions.txt"])
def test_the_only_text_in_a_foreign_zip_holds_the_labels(name):
    assert parse_model_file(appended((name, LABELS_TXT), ("info.bin", b"\0")), "m").labels == tuple(LABELS)


def test_labels_txt_wins_over_other_texts_and_two_strange_texts_are_no_labels():
    assert parse_model_file(appended(("labels.txt", LABELS_TXT), ("readme.txt", "hi\n")), "m").labels == tuple(LABELS)
    assert parse_model_file(appended(("a.txt", LABELS_TXT), ("b.txt", "hi\n")), "m").labels is None
    assert parse_model_file(appended(("README.txt", "Made by X\n")), "m").labels is None


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_label():
    text = b"\xef\xbb\xbf" + LABELS_TXT.replace("\n", "\r\n").encode()
    assert parse_model_file(appended(("labels.txt", text)), "m").labels == tuple(LABELS)


def test_a_deflated_zip_is_read_too():
    data = appended(("labels.txt", LABELS_TXT), method=zipfile.ZIP_DEFLATED)
    assert parse_model_file(data, "m").labels == tuple(LABELS)


def test_a_missing_model_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"gone\.tflite: no such model file"):
        read_model_file(tmp_path / "gone.tflite")
    with pytest.raises(BadDataError, match="a folder"):
        read_model_file(tmp_path)


@pytest.mark.parametrize("content", [b"", b"TFL", b"\x89PNG\r\n\x1a\n" + bytes(100), LABELS_TXT.encode()])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "photo.tflite"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"photo\.tflite"):
        read_model_file(path)


@pytest.mark.parametrize("name", sorted(path.name for path in MODELS.glob("*.tflite")))
def test_a_bare_model_is_refused_wherever_it_is_cut(name):
    whole = (MODELS / name).read_bytes()
    check_flatbuffer(whole)
    for length in range(8, len(whole)):
        with pytest.raises(BrokenFlatbufferError):
            check_flatbuffer(whole[:length])


def test_a_model_of_ours_is_refused_wherever_it_is_cut_but_at_the_seam():
    data = packed()
    for length in [*range(0, len(FLATBUFFER), 97), *range(len(FLATBUFFER) + 2, len(data))]:
        with pytest.raises(BadDataError, match=r"m\.tflite: .*(cut short|empty)"):
            parse_model_file(data[:length], "m.tflite")


def test_a_flipped_bit_is_noticed_by_the_digest():
    data = bytearray(packed())
    data[len(FLATBUFFER) // 2] ^= 1
    with pytest.raises(BadDataError, match="altered after its export"):
        parse_model_file(bytes(data), "m")


def test_a_hole_in_the_model_is_noticed_by_its_length():
    data = packed()
    with pytest.raises(BadDataError, match=r"has 6,732 bytes and had 6,832"):
        parse_model_file(data[:3000] + data[3100:], "m")


def test_an_offset_that_points_backwards_out_of_the_file_is_refused():
    data = bytearray(FLATBUFFER)
    root = struct.unpack_from("<I", data)[0]
    struct.pack_into("<i", data, root, 2**30)  # the distance back to the vtable
    with pytest.raises(BrokenFlatbufferError, match="before its start"):
        check_flatbuffer(bytes(data))


@pytest.mark.parametrize(
    ("name", "limit"), [("labels.txt", "64 KiB"), ("mien.json", "1024 KiB")], ids=["labels", "card"]
)
def test_an_entry_that_swells_is_refused_by_the_size_it_claims(name, limit):
    data = appended((name, b" " * 50_000_000), method=zipfile.ZIP_DEFLATED)
    assert len(data) < 100_000
    with pytest.raises(BadDataError, match=f"'{name}' in its ZIP swells to more than {limit}"):
        parse_model_file(data, "m")


def test_an_entry_that_lies_about_its_size_is_refused_while_it_is_read():
    data = bytearray(appended(("labels.txt", b"a\n" * 1_000_000), method=zipfile.ZIP_DEFLATED))
    claim = struct.pack("<L", 2_000_000)
    for place in (data.index(claim), data.rindex(claim)):
        struct.pack_into("<L", data, place, 1000)
    with pytest.raises(BadDataError, match=r"m: .*ZIP"):
        parse_model_file(bytes(data), "m")


def test_an_entry_packed_with_a_method_that_cannot_be_bounded_is_refused():
    data = appended(("labels.txt", LABELS_TXT), method=zipfile.ZIP_BZIP2)
    with pytest.raises(BadDataError, match="neither stored nor deflated"):
        parse_model_file(data, "m")


def test_a_zip_with_too_many_files_is_refused():
    with pytest.raises(BadDataError, match="lists 17 files; at most 16"):
        parse_model_file(appended(*((f"{number}.bin", b"") for number in range(17))), "m")


def test_a_zip_with_one_name_twice_is_refused():
    with pytest.raises(BadDataError, match="one name twice"):
        parse_model_file(appended(("labels.txt", "a\nb\n"), ("labels.txt", "b\na\n")), "m")


def test_labels_that_are_not_text_are_refused():
    with pytest.raises(BadDataError, match=r"'labels\.txt' in its ZIP is not UTF-8 text \(byte 2\)"):
        parse_model_file(appended(("labels.txt", b"ab\xff\n")), "m")


def test_a_damaged_zip_is_refused():
    data = bytearray(appended(("labels.txt", LABELS_TXT)))
    data[data.rindex(b"disgust")] ^= 1  # the checksum tells
    with pytest.raises(BadDataError, match="the ZIP appended to it is damaged"):
        parse_model_file(bytes(data), "m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("happy\n", "1 labels; a classifier has at least two"),
        ("", "0 labels"),
        ("happy\n\nsad\n", "label 2 is empty"),
        ("happy\nsad\nhappy\n", "'happy' stands twice"),
        ("happy\nuncertain\n", "label 2 is 'uncertain'"),
        ("happy\n\x1b[31msad\n", "unprintable"),
        ("happy\n" + "s" * 65 + "\n", "longer than 64"),
    ],
)
def test_labels_that_cannot_be_labels_are_refused(text, said):
    with pytest.raises(BadDataError, match=said):
        parse_model_file(appended(("labels.txt", text)), "m")


def test_labels_and_card_must_agree():
    data = appended(("labels.txt", "\n".join(reversed(LABELS))), ("mien.json", json.dumps(card())))
    with pytest.raises(BadDataError, match=r"labels\.txt .* and mien\.json .* differ"):
        parse_model_file(data, "m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": NaN}', r"not valid JSON \(NaN is no JSON number"),
        ("[]", "not a JSON object"),
        ("{}", r"schema is None and this Mien reads 'mien/model/1'"),
        ('{"schema": "mien/model/2"}', "schema is 'mien/model/2'.*upgrade Mien"),
    ],
)
def test_a_card_that_is_no_card_is_refused(text, said):
    with pytest.raises(BadDataError, match=rf"m: mien\.json: {said}"):
        parse_model_file(appended(("mien.json", text)), "m")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "two words"}, "name: expected 1 to 64 letters"),
        ({"labels": "angry"}, "labels: expected a list of text, found 'angry'"),
        ({"input": None}, "input: expected an object, found nothing"),
        ({"input": {"size": 0, "channels": 1}}, "input.size: expected a whole number from 1 to 1024, found 0"),
        ({"input": {"size": 48, "channels": 2}}, "input.channels: expected one of 1, 3, found 2"),
        ({"input": {"size": 48, "channels": True}}, "input.channels: expected one of 1, 3, found True"),
        ({"input": {"size": 48, "channels": 1, "scaling": "x*2"}}, "input.scaling: expected one of x/127.5-1, x/255"),
        ({"output": {"kind": "regression"}}, "output.kind: expected one of logits, probabilities"),
        ({"output": {"kind": "logits", "temperature": 0}}, "output.temperature: expected a number from 0.01"),
        ({"thresholds": {"bored": 0.5}}, "thresholds.bored: no such label"),
        ({"thresholds": {"happy": 1.5}}, "thresholds.happy: expected a number from 0 to 1, found 1.5"),
        ({"tflite": {"bytes": 1, "sha256": "abc"}}, "tflite.sha256: expected 64 hexadecimal digits"),
        ({"self_test": {"face": "AAAA", "logits": [0] * 7}}, "self_test.face: expected 2304 pixels in base64"),
        ({"thresholds": {"happy": 10**400}}, "thresholds.happy: expected a number from 0 to 1, found 1000"),
        ({"self_test": {"face": "é", "logits": [0] * 7}}, "self_test.face: expected 2304 pixels"),
        ({"self_test": {"face": "*", "logits": [0] * 7}}, "self_test.face: expected 2304 pixels"),
        ({"self_test": {"face": "AAAA", "logits": [0] * 6}}, "self_test.logits: expected 7 whole numbers"),
    ],
)
def test_a_wrong_key_in_the_card_is_named(changes, said):
    with pytest.raises(BadDataError, match=said.replace(".", r"\.").replace("[", r"\[")):
        parse_model_file(packed(**changes), "m")


def test_the_signature_of_a_zip_inside_a_model_is_no_zip():
    # Weights may hold any bytes; only what reaches to the file's end exactly is an end.
    data = bytearray(FLATBUFFER)
    data[3000:3004] = b"PK\x05\x06"
    assert parse_model_file(bytes(data), "m").flatbuffer == bytes(data)


def test_no_name_and_small_mean_the_two_that_come_with_mien_and_a_path_means_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model(None) == SHIPPED
    assert find_model(Path("small")) == SMALL
    assert find_model(Path("mine.tflite")) == Path("mine.tflite")
    Path("small").write_bytes(FLATBUFFER)
    assert find_model(Path("small")) == Path("small"), "somebody's own file"
