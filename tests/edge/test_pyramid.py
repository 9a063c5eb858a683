import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frame import Box
from edge.pyramid import Pyramid

sides = st.integers(1, 70)


@given(width=sides, height=sides, number=st.integers(0, 8))
def test_each_level_is_half_of_the_one_before_and_never_without_a_pixel(width, height, number):
    picture = np.random.default_rng(width).integers(0, 256, (height, width), np.uint8)
    level = Pyramid(picture).level(number)
    assert level.dtype == np.uint8
    assert level.shape == (max(1, height >> number), max(1, width >> number))


def test_a_level_holds_the_means_of_squares():
    picture = np.random.default_rng(1).integers(0, 256, (33, 47), np.uint8)
    means = picture[:32, :44].reshape(8, 4, 11, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(Pyramid(picture).level(2), means, atol=1)


def test_nothing_is_computed_twice_and_the_picture_itself_is_level_0():
    picture = np.zeros((48, 64), np.uint8)
    pyramid = Pyramid(picture)
    assert pyramid.size == (64, 48)
    assert pyramid.level(0) is picture
    assert pyramid.level(2) is pyramid.level(2)


@st.composite
def regions(draw: st.DrawFn, longest: int = 200) -> tuple[tuple[int, int], Box]:
    """The size of a picture and a part of it."""
    width, height = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    wide, high = draw(st.integers(1, width)), draw(st.integers(1, height))
    return (width, height), Box(draw(st.integers(0, width - wide)), draw(st.integers(0, height - high)), wide, high)


@given(where=regions(), scale=st.floats(0.01, 4.0))
def test_a_piece_is_as_large_as_its_region_at_that_scale(where, scale):
    (width, height), region = where
    piece = Pyramid(np.full((height, width), 77, np.uint8)).piece(region, scale)
    assert piece.shape == (max(1, round(region.height * scale)), max(1, round(region.width * scale)))
    assert (piece == 77).all()


@given(where=regions(), scale=st.floats(0.05, 2.0))
def test_a_piece_shows_its_own_region_and_nothing_else(where, scale):
    (width, height), region = where
    picture = np.full((height, width), 255, np.uint8)
    picture[region.y : region.y + region.height, region.x : region.x + region.width] = 0
    piece = Pyramid(picture).piece(region, scale)
    # A halving whose squares do not begin at the region's corner reaches over its edge by less than a square.
    assert piece[1:-1, 1:-1].max(initial=0) == 0


@given(data=st.data(), scale=st.floats(0.1, 2.0))
def test_a_bright_square_lies_in_the_piece_where_it_should(data, scale):
    width, height = data.draw(st.integers(60, 200)), data.draw(st.integers(60, 200))
    region = Box(data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9)), width - 20, height - 20)
    side = max(8, round(3 / scale))
    square = Box(
        region.x + data.draw(st.integers(0, region.width - side)),
        region.y + data.draw(st.integers(0, region.height - side)),
        side,
        side,
    )
    picture = np.zeros((height, width), np.uint8)
    picture[square.y : square.y + side, square.x : square.x + side] = 255
    moments = cv2.moments(Pyramid(picture).piece(region, scale))
    middle = [moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]]
    expected = [(at - start) * scale - 0.5 for at, start in zip(square.middle, (region.x, region.y), strict=True)]
    assert middle == pytest.approx(expected, abs=1.0)


def test_a_piece_at_full_size_is_the_picture_itself():
    picture = np.random.default_rng(2).integers(0, 256, (50, 60), np.uint8)
    np.testing.assert_array_equal(Pyramid(picture).piece(Box(7, 5, 31, 23), 1.0), picture[5:28, 7:38])


def test_a_view_into_another_picture_has_the_same_levels_and_pieces():
    whole = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
    views = [whole[::-1, ::-1, 1], whole[3:, 5:, 0], whole[::2, ::2, 2], np.broadcast_to(whole[:1, :, 0], (60, 120))]
    for view in views:
        ours, plain = Pyramid(view), Pyramid(np.ascontiguousarray(view))
        np.testing.assert_array_equal(ours.level(2), plain.level(2))
        np.testing.assert_array_equal(ours.piece(Box(3, 2, 30, 20), 0.3), plain.piece(Box(3, 2, 30, 20), 0.3))
