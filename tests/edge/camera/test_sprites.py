"""Faces cut from the sample photos are faces to Haar at any size, and what is no face is none."""

import cv2
import numpy as np
import pytest

from edge.camera.sprites import CAST, THINGS, draw_room, paste_face, paste_thing, patch_of, visible
from edge.cascade import find_cascade
from edge.frame import Box

SIZE = (300, 300)


@pytest.mark.parametrize("sprite", range(CAST))
def test_haar_finds_everyone_of_the_cast_from_40_to_200_pixels(sprite):
    cascade = cv2.CascadeClassifier(str(find_cascade()))
    for side in (40, 70, 110, 200):
        image = np.full(SIZE[::-1], 120, np.uint8)
        face = Box((SIZE[0] - side) // 2, (SIZE[1] - side) // 2, side, side)
        paste_face(image, sprite, face)
        found = cascade.detectMultiScale(image, scaleFactor=1.05, minNeighbors=3, minSize=(30, 30))
        assert max(face.iou(Box(*map(int, box))) for box in found) > 0.6, side


def test_everyone_of_the_cast_looks_different():
    patches = []
    for sprite in range(CAST):
        image = np.full((96, 96), 120, np.uint8)
        paste_face(image, sprite, Box(18, 18, 60, 60))
        patches.append(image)
    assert min(cv2.absdiff(a, b).mean() for a in patches for b in patches if a is not b) > 3


def test_a_sprite_leaves_what_is_outside_its_patch_as_it_is_also_over_the_edge():
    for box in (Box(100, 100, 60, 60), Box(-30, 250, 60, 60), Box(290, -40, 60, 60), Box(400, 400, 60, 60)):
        image = np.full(SIZE[::-1], 120, np.uint8)
        paste_face(image, 0, box)
        around = patch_of(box)
        touched = np.argwhere(image != 120)
        assert all(around.y <= y < around.y + 96 and around.x <= x < around.x + 96 for y, x in touched)
    assert len(touched) == 0


def test_grey_and_colour_show_the_same():
    gray, color = np.full((200, 200), 120, np.uint8), np.full((200, 200, 3), 120, np.uint8)
    paste_face(gray, 1, Box(50, 50, 80, 80))
    paste_face(color, 1, Box(50, 50, 80, 80))
    for image in (gray, color):
        paste_thing(image, 2, Box(-20, -20, 70, 70))
    assert cv2.absdiff(cv2.cvtColor(color, cv2.COLOR_BGR2GRAY), gray).max() <= 3


@pytest.mark.parametrize("thing", range(THINGS))
def test_a_thing_has_texture_and_is_no_face(thing):
    image = np.full(SIZE[::-1], 120, np.uint8)
    paste_thing(image, thing, Box(30, 30, 240, 240))
    assert image[100:200, 100:200].std() > 2
    assert len(cv2.CascadeClassifier(str(find_cascade())).detectMultiScale(image, 1.1, 5, minSize=(30, 30))) == 0


@pytest.mark.parametrize(
    ("face", "before", "share"),
    [
        (Box(100, 100, 60, 60), [], 1.0),
        (Box(-30, 100, 60, 60), [], 0.5),
        (Box(-30, 270, 60, 60), [], 0.25),
        (Box(300, 100, 60, 60), [], 0.0),
        (Box(100, 100, 60, 60), [Box(60, 60, 140, 140)], 0.0),
        (Box(100, 100, 60, 60), [Box(180, 100, 60, 60)], 1.0),
        (Box(100, 100, 60, 60), [Box(130, 30, 200, 200)], 0.8),
    ],
)
def test_a_face_is_seen_as_far_as_it_is_inside_the_frame_and_not_hidden(face, before, share):
    assert visible(face, SIZE, before) == pytest.approx(share, abs=0.12)


def test_rooms_are_plain_textured_or_full_of_real_things():
    def edges(kind):
        return cv2.Laplacian(draw_room(kind, np.random.default_rng(1), 320, 240), cv2.CV_32F).std()

    assert edges("plain") == 0
    assert edges("photo") > 5 * edges("textured") > 0
