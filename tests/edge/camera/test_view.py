"""How a camera hangs and what of its picture matters."""

import numpy as np
import pytest

from edge.camera import open_camera
from edge.camera.view import View
from edge.frame import Frame

# Every pixel tells where it was: row 10 y + x.
WIDTH, HEIGHT = 6, 4
GRAY = (10 * np.arange(HEIGHT)[:, None] + np.arange(WIDTH)).astype(np.uint8)
ORIENTATIONS = [(rotate, flip) for rotate in (0, 90, 180, 270) for flip in ("", "horizontal", "vertical")]


def frame(gray=GRAY, **values):
    return Frame(gray, 1.5, 7, color=np.dstack([gray, gray + 1, gray + 2]), name="a.png", **values)


def upright(gray, rotate, flip):
    """The same by numpy's means."""
    turned = np.rot90(gray, -rotate // 90)
    return {"": turned, "horizontal": turned[:, ::-1], "vertical": turned[::-1]}[flip]


def test_where_nothing_is_asked_the_frame_itself_comes_back():
    plain = frame()
    assert View().apply(plain) is plain
    assert plain.origin == (0, 0)
    assert plain.whole == plain.size == (WIDTH, HEIGHT)


def test_rotation_is_clockwise_and_comes_before_the_flip():
    assert View(90).apply(frame()).gray[0].tolist() == [30, 20, 10, 0]
    assert View(90, "horizontal").apply(frame()).gray[0].tolist() == [0, 10, 20, 30]
    assert View(270).apply(frame()).gray[0].tolist() == [5, 15, 25, 35]
    assert View(0, "vertical").apply(frame()).gray[0].tolist() == [30, 31, 32, 33, 34, 35]


@pytest.mark.parametrize(("rotate", "flip"), ORIENTATIONS)
@pytest.mark.parametrize("region", [(0, 0, 1, 1), (0.5, 0.25, 0.5, 0.5), (0, 0.5, 0.34, 0.5), (0.9, 0.9, 0.1, 0.1)])
def test_a_region_is_cut_from_the_upright_picture(rotate, flip, region):
    seen = View(rotate, flip, region).apply(frame())
    whole = upright(GRAY, rotate, flip)
    (x, y), (width, height) = seen.origin, seen.size
    assert np.array_equal(seen.gray, whole[y : y + height, x : x + width])
    assert np.array_equal(seen.color, np.dstack([seen.gray, seen.gray + 1, seen.gray + 2]))
    assert seen.whole == whole.shape[::-1]
    assert seen.gray.flags.c_contiguous
    assert seen.color.flags.c_contiguous
    assert (seen.time, seen.number, seen.name) == (1.5, 7, "a.png")
    assert np.allclose((x, y), np.multiply(region[:2], seen.whole), atol=1.0)
    assert np.allclose((width, height), np.multiply(region[2:], seen.whole), atol=1.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2), (4000, 3000)])
@pytest.mark.parametrize("region", [(0.999, 0.999, 0.001, 0.001), (0, 0, 0.001, 1), (0.3, 0.4, 0.7, 0.6)])
def test_a_region_is_never_empty_and_never_outside(size, region):
    seen = View(90, "horizontal", region).apply(Frame(np.zeros(size, np.uint8), 0.0, 0))
    assert seen.gray.size >= 1
    assert seen.origin[0] + seen.size[0] <= seen.whole[0] == size[0]
    assert seen.origin[1] + seen.size[1] <= seen.whole[1] == size[1]


def test_regions_beside_each_other_share_no_pixel_and_lose_none():
    left, right = (View(region=(x, 0, 0.5, 1)).apply(Frame(np.zeros((5, 7), np.uint8), 0, 0)) for x in (0, 0.5))
    assert left.size[0] + right.size[0] == 7
    assert right.origin == (left.size[0], 0)


def test_every_kind_of_source_is_seen_through_the_view():
    view = View(90, region=(0.5, 0, 0.5, 1))
    with open_camera("synthetic:size=64x48,seconds=1,fps=10", view=view) as camera:
        assert (camera.spec, camera.live, camera.promised) == ("synthetic:size=64x48,seconds=1,fps=10", False, 0)
        frames = list(camera)
        assert len(frames) == 10
        assert (frames[3].size, frames[3].origin, frames[3].whole) == ((24, 64), (24, 0), (48, 64))
        camera.close()
        assert camera.read() is None
