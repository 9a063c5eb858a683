"""Images as they are downloaded: plain and packed, whole, damaged, cut short and of other systems."""

import gzip
import hashlib
import lzma
import zipfile

import pytest

from edge.errors import BadDataError, InputNotFoundError
from edge.flash_image import blocks, check_sha256, take_head, with_head


def packed(image, kind):
    data = image.read_bytes()
    path = image.with_name(f"{image.name}.{kind}")
    if kind == "xz":
        path.write_bytes(lzma.compress(data, preset=0))
    elif kind == "gz":
        path.write_bytes(gzip.compress(data, 1))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("readme.txt", "hello")
            archive.writestr(image.name, data)
    else:
        path = image
    return path, data


@pytest.mark.parametrize("kind", ["", "xz", "gz", "zip"])
def test_an_image_is_read_through_whatever_it_is_packed_with(raspberry_image, kind, tmp_path):
    path, data = packed(raspberry_image(), kind)
    assert hashlib.sha256(b"".join(blocks(path))).digest() == hashlib.sha256(data).digest()
    head = tmp_path / "head"
    found = take_head(path, head)
    assert head.read_bytes() == data[: found.boot_end]
    head.write_bytes(bytes(found.boot_end))
    assert b"".join(with_head(path, head, len(data))) == bytes(found.boot_end) + data[found.boot_end :]
    assert b"".join(with_head(path, head, len(data) - 999)) == bytes(found.boot_end) + data[found.boot_end : -999]


@pytest.mark.parametrize("kind", ["xz", "gz", "zip"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_one_that_is_cut_short_is_refused(raspberry_image, kind, share):
    path, _ = packed(raspberry_image(), kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BadDataError, match="damaged or cut short"):
        list(blocks(path))


@pytest.mark.parametrize("kind", ["xz", "gz", "zip"])
def test_one_that_is_damaged_is_refused(raspberry_image, kind):
    path, _ = packed(raspberry_image(), kind)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(byte ^ 0x5A for byte in data[middle : middle + 64])
    path.write_bytes(data)
    with pytest.raises(BadDataError, match="damaged or cut short"):
        list(blocks(path))


def test_a_plain_one_that_is_cut_short_is_refused(raspberry_image):
    path = raspberry_image()
    with path.open("r+b") as file:
        file.truncate(39_000_000)
    with pytest.raises(BadDataError, match="cut short: it has 39000000 bytes"):
        list(blocks(path))


def test_what_is_no_image_is_refused(tmp_path):
    page = tmp_path / "page.img.xz"
    page.write_text("<html>not found</html>")
    with pytest.raises(BadDataError, match="no partition table"):
        list(blocks(page))
    page.write_bytes(b"")
    with pytest.raises(BadDataError, match="cut short"):
        list(blocks(page))
    with zipfile.ZipFile(page, "w") as archive:
        archive.writestr("a.img", "")
        archive.writestr("b.img", "")
    with pytest.raises(BadDataError, match="holds 2 images"):
        list(blocks(page))
    with zipfile.ZipFile(page, "w") as archive:
        archive.writestr("a.img", "")
    content = page.read_bytes()
    # The bit of encryption, and a method that nobody has.
    for place, wrong in ((6, 1), (8, 0x61)):
        central = content.index(b"PK\x01\x02") + place + 2
        page.write_bytes(
            content[:place] + bytes([wrong]) + content[place + 1 : central] + bytes([wrong]) + content[central + 1 :]
        )
        with pytest.raises(BadDataError, match=r"cannot be unpacked .*; unpack it yourself first"):
            list(blocks(page))
    with pytest.raises(InputNotFoundError, match="cannot be read"):
        list(blocks(tmp_path / "nowhere.img"))
    with pytest.raises(InputNotFoundError, match="cannot be read"):
        list(blocks(tmp_path))


def test_the_sha256_may_be_that_of_the_file_or_of_the_image_in_it(raspberry_image):
    path, data = packed(raspberry_image(), "xz")
    check_sha256(path, hashlib.sha256(path.read_bytes()).hexdigest().upper())
    check_sha256(path, hashlib.sha256(data).hexdigest())
    with pytest.raises(BadDataError, match="not what --sha256 says"):
        check_sha256(path, "0" * 64)
