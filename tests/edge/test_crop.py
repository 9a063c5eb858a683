"""THE crop, held to pictures that were worked out by hand: one pixel's shift costs accuracy and shows nowhere else."""

import numpy as np
import pytest

from edge.crop import crop_face, scale_pixels
from edge.frame import Box

PICTURE = np.arange(1, 21, dtype=np.uint8).reshape(4, 5)
""" 1  2  3  4  5
    6  7  8  9 10
   11 12 13 14 15
   16 17 18 19 20"""

CROPS = {
    "a box inside": (Box(1, 1, 2, 2), 1.0, [[7, 8], [12, 13]]),
    "the longer side of a box, about its middle": (Box(1, 1, 1, 3), 1.0, [[6, 7, 8], [11, 12, 13], [16, 17, 18]]),
    "wider than the box, about its middle": (Box(2, 1, 1, 1), 3.0, [[2, 3, 4], [7, 8, 9], [12, 13, 14]]),
    "narrower than the box": (Box(0, 0, 4, 4), 0.5, [[7, 8], [12, 13]]),
    "over the left edge, which goes on": (Box(-1, 0, 2, 2), 1.0, [[1, 1], [6, 6]]),
    "over the top": (Box(0, -1, 2, 2), 1.0, [[1, 2], [1, 2]]),
    "over the right edge": (Box(4, 2, 2, 2), 1.0, [[15, 15], [20, 20]]),
    "over the lower edge and a corner": (Box(4, 3, 2, 2), 1.0, [[20, 20], [20, 20]]),
}


@pytest.mark.parametrize(("box", "margin", "expected"), CROPS.values(), ids=CROPS)
def test_a_crop_is_the_square_about_the_box(box, margin, expected):
    crop = crop_face(PICTURE, box, len(expected), margin)
    np.testing.assert_array_equal(crop, np.array(expected, np.uint8))
    assert crop.dtype == np.uint8


def test_colours_are_cut_as_grey_is():
    grey = crop_face(PICTURE, Box(-1, 1, 3, 3), 2)
    colour = crop_face(np.dstack([PICTURE, PICTURE, PICTURE]), Box(-1, 1, 3, 3), 2)
    np.testing.assert_array_equal(colour, np.dstack([grey, grey, grey]))


def test_what_is_shrunk_is_averaged_over_areas():
    np.testing.assert_array_equal(crop_face(PICTURE, Box(0, 0, 4, 4), 2), [[4, 6], [14, 16]])


def test_what_is_enlarged_is_linear_between_the_pixels():
    edge = np.array([[0, 200], [0, 200]], np.uint8)
    np.testing.assert_array_equal(crop_face(edge, Box(0, 0, 2, 2), 4), [[0, 50, 150, 200]] * 4)


@pytest.mark.parametrize("box", [Box(5, 0, 2, 2), Box(0, -2, 2, 2), Box(1, 1, 0, 2), Box(1, 1, 2, 0)], ids=str)
def test_a_box_without_a_pixel_of_the_image_is_refused(box):
    with pytest.raises(ValueError, match="does not overlap the image of 5x4 pixels"):
        crop_face(PICTURE, box, 48)


def test_pixels_are_scaled_to_minus_one_and_one():
    scaled = scale_pixels(np.array([0, 51, 255], np.uint8))
    np.testing.assert_allclose(scaled, [-1.0, -0.6, 1.0], atol=1e-7)
    assert scaled.dtype == np.float32
