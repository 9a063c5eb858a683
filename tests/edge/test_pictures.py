"""What reading picture files promises, on the sample photos and on files made to harm."""

import contextlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge.errors import BadDataError, InputNotFoundError, OutputError
from edge.pictures import find_pictures, is_video, read_picture, write_picture

SAMPLES = Path(__file__).parents[2] / "edge/samples"
KINDS = ("jpg", "png", "webp", "bmp", "tiff")


@pytest.fixture(scope="module")
def hopper():
    return cv2.imread(str(SAMPLES / "grace_hopper.jpg"))


def png_of(width: int, height: int) -> bytes:
    """A whole, valid one-bit PNG of one colour: a 30,000 x 30,000 one takes 110 KB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_photo_becomes_grey_and_colour_of_one_size():
    picture = read_picture(SAMPLES / "astronaut.png")
    assert picture.gray.shape == (512, 512)
    assert picture.gray.dtype == np.uint8
    assert picture.color.shape == (512, 512, 3)
    blue, _, red = picture.color[300, 100].tolist()  # her orange suit
    assert red > 180 > 120 > blue


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind, tmp_path, hopper):
    path = tmp_path / f"hopper.{kind}"
    write_picture(path, hopper)
    assert cv2.PSNR(read_picture(path).color, hopper) > 30


def test_a_progressive_jpeg_with_thumbnail_and_trailing_bytes_is_whole(tmp_path):
    path = tmp_path / "phone.jpg"
    photo = Image.open(SAMPLES / "grace_hopper.jpg")
    exif = Image.Exif()
    exif[0x0131] = "\xff\xd9 in the middle of a comment"
    photo.save(path, progressive=True, exif=exif, comment=b"\xff\xd9")
    path.write_bytes(path.read_bytes() + b"a phone's own trailer" * 100)
    assert read_picture(path).gray.shape == (600, 512)


def test_exif_rotation_is_applied(tmp_path, hopper):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.open(SAMPLES / "grace_hopper.jpg").save(path, exif=exif, quality=95)
    upright = read_picture(path).color
    assert upright.shape == (512, 600, 3)
    assert cv2.PSNR(upright, cv2.rotate(hopper, cv2.ROTATE_90_CLOCKWISE)) > 30


def test_transparency_palettes_grey_and_16_bits_are_brought_to_8_bit_colour(tmp_path, hopper):
    gray = cv2.cvtColor(hopper, cv2.COLOR_BGR2GRAY)
    for name, image in {
        "alpha": cv2.cvtColor(hopper, cv2.COLOR_BGR2BGRA),
        "grey": gray,
        "deep": gray.astype(np.uint16) * 257,
    }.items():
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), image)
        picture = read_picture(path)
        assert picture.color.shape == (600, 512, 3)
        assert picture.color.dtype == np.uint8
        assert cv2.PSNR(picture.gray, gray) > 40


def test_what_is_not_there_is_told_apart_from_what_is_broken(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"nobody\.jpg: not there"):
        read_picture(tmp_path / "nobody.jpg")
    with pytest.raises(BadDataError, match="a folder"):
        read_picture(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"<html>404</html>", b"BM", b"II*\0\xff\xff\xff\xff"])
def test_a_picture_that_is_none_is_refused_by_name(content, tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"letter\.jpg: not a picture"):
        read_picture(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_picture_cut_short_is_refused_by_name_in_silence(kind, share, tmp_path, hopper, capfd):
    path = tmp_path / f"half.{kind}"
    write_picture(path, hopper[::3, ::3])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadDataError, match=rf"half\.{kind}.*cut short"):
        read_picture(path)
    assert capfd.readouterr().err == ""


def test_a_damaged_colour_profile_is_no_news(capfd):
    read_picture(SAMPLES / "astronaut.png")  # OpenCV before 4.12 warns of its profile
    assert capfd.readouterr().err == ""


def test_a_picture_with_a_flipped_byte_is_read_or_refused_in_silence(tmp_path, capfd):
    path = tmp_path / "worn.png"
    data = bytearray((SAMPLES / "astronaut.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with contextlib.suppress(BadDataError):
        read_picture(path)
    assert capfd.readouterr().err == ""


def test_a_tiff_whose_pixels_are_missing_is_cut_short(tmp_path):
    path = tmp_path / "scan.tif"
    Image.open(SAMPLES / "grace_hopper.jpg").save(path)  # Pillow writes the head first
    assert read_picture(path).gray.shape == (600, 512)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadDataError, match="cut short"):
        read_picture(path)


def test_a_real_picture_of_900_megapixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "wall.png"
    path.write_bytes(png_of(30_000, 30_000))
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(BadDataError, match=r"wall\.png: 30,000 x 30,000 pixels"):
        read_picture(path)


def test_the_png_maker_above_makes_real_pictures(tmp_path):
    (tmp_path / "small.png").write_bytes(png_of(300, 200))
    assert read_picture(tmp_path / "small.png").gray.shape == (200, 300)


@pytest.mark.parametrize(
    ("kind", "at", "claim"),
    [
        ("jpg", None, struct.pack(">HH", 30_000, 30_000)),
        ("bmp", 18, struct.pack("<ii", 30_000, -30_000)),
        ("webp", None, struct.pack("<HH", 16_383, 16_383)),
    ],
)
def test_a_head_that_claims_too_many_pixels_is_refused(kind, at, claim, tmp_path, hopper):
    path = tmp_path / f"claim.{kind}"
    Image.fromarray(hopper).save(path)
    data = bytearray(path.read_bytes())
    if kind == "jpg":
        at = data.index(b"\xff\xc0") + 5
    elif kind == "webp":
        at = data.index(b"\x9d\x01\x2a") + 3
    data[at : at + len(claim)] = claim
    path.write_bytes(data)
    with pytest.raises(BadDataError, match="pixels are more than"):
        read_picture(path)


def test_a_tiff_of_one_huge_tile_is_refused(tmp_path):
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (322, 4, 1, 30_000), (323, 4, 1, 30_000)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    (tmp_path / "tile.tif").write_bytes(head + bytes(4))
    with pytest.raises(BadDataError, match="30,000 x 30,000"):
        read_picture(tmp_path / "tile.tif")


def test_garbage_behind_a_good_head_never_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    good = (SAMPLES / "grace_hopper.jpg").read_bytes()
    path = tmp_path / "noise.jpg"
    for keep in (4, 20, 200, 700):
        path.write_bytes(good[:keep] + rng.bytes(5000) + b"\xff\xd9")
        with pytest.raises(BadDataError, match=r"noise\.jpg"):
            read_picture(path)


def test_pictures_are_found_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.JPG", "2.jpg", "b.png", "a.webp", "notes.txt", ".hidden.jpg", "clip.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in find_pictures(tmp_path)] == ["2.jpg", "10.JPG", "a.webp", "b.png"]


def test_an_empty_folder_and_a_missing_one_are_inputs_that_are_not_there(tmp_path):
    with pytest.raises(InputNotFoundError, match="no picture in this folder"):
        find_pictures(tmp_path)
    with pytest.raises(InputNotFoundError, match="not there"):
        find_pictures(tmp_path / "nowhere")


def test_videos_are_told_by_their_suffix():
    assert is_video(Path("party.MP4"))
    assert not is_video(Path("party.jpg"))


def test_a_picture_is_written_with_its_folders_and_a_refusal_names_the_path(tmp_path, hopper):
    write_picture(tmp_path / "new/folder/hopper.png", hopper)
    assert np.array_equal(read_picture(tmp_path / "new/folder/hopper.png").color, hopper)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/hopper\.png: cannot be written"):
        write_picture(tmp_path / "file/hopper.png", hopper)
    with pytest.raises(OutputError, match=r"hopper\.txt: no picture's suffix"):
        write_picture(tmp_path / "hopper.txt", hopper)
