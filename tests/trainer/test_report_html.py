"""The full report: one page that stands alone, says what was measured, and shows nobody unasked."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="the trainer extra is not installed")
pytest.importorskip("sklearn", reason="the trainer extra is not installed")
pytest.importorskip("matplotlib", reason="the trainer extra is not installed")

from edge.labels import FER2013_LABELS
from trainer.datasets import Split
from trainer.examination import examine
from trainer.report_html import About, as_html

pytestmark = pytest.mark.trainer

VOID = {"meta", "img", "br", "link", "input"}
SECTIONS = [
    "summary", "classes", "confusion", "calibration", "coverage", "thresholds", "robustness", "size", "jitter", "parts",
    "mistakes",
]  # fmt: skip
ABOUT = About("mien.tflite", [("model", "mien.tflite, int8"), ("trained by", "fit <x> & more")], "drawn.npz", "test")


class Page(HTMLParser):
    """Text, pictures, anchors and links of a page; fails where a tag is closed that is not open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def each(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.attributes if name == tag]


def split_of(faces, count: int) -> Split:
    images, labels = faces(count, 32, 2)
    flipped = np.random.default_rng(0).random(count) < 0.2
    return Split(images, np.where(flipped, (labels + 1) % 7, labels), np.arange(count, dtype=np.int64))


@pytest.fixture(scope="module")
def split(faces) -> Split:
    return split_of(faces, 210)


@pytest.fixture(scope="module")
def found(band_classifier, split):
    return examine(band_classifier, split, split, samples=70)


@pytest.fixture(scope="module")
def html(found) -> str:
    return as_html(found, ABOUT)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_every_section_is_there_and_linked(page):
    assert [each["id"] for each in page.each("section")] == SECTIONS
    assert [each["href"] for each in page.each("a")] == [f"#{name}" for name in SECTIONS]


def test_it_stands_alone(html, page):
    assert "script" not in page.tags
    assert "link" not in page.tags
    for tag, attributes in page.attributes:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in {"src", "href"}:
                assert value.startswith(("data:image/", "#")), value[:60]
    assert not re.search(r"https?://|url\(|@import", html)


def test_every_picture_is_one_and_is_told_to_those_who_do_not_see_it(page):
    pictures = page.each("img")
    assert len(pictures) > 12
    for picture in pictures:
        assert len(picture["alt"]) > 10
        kind, _, content = picture["src"].partition(";base64,")
        content = base64.b64decode(content, validate=True)
        if kind == "data:image/png":
            assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).size > 100
        else:
            assert kind == "data:image/svg+xml"
            assert content.rstrip().endswith(b"</svg>")


def test_it_says_the_figures_that_json_says(page, found):
    told = found.to_dict()
    shown = [f"{told['accuracy']:.2%}", f"± {100 * told['interval_95']:.2f} points", f"{told['macro_f1']:.4f}"]
    for label, each in told["classes"].items():
        shown.append(f"{label} {each['precision']:.3f} {each['recall']:.3f} {each['f1']:.3f} {each['support']}")
    shown += [f"error {error:.4f}" for error in told["calibration"]["expected_calibration_error"].values()]
    shown += [f"logits by {told['calibration']['temperature']:g} before", "own temperature is 2."]
    shown += [f"curve: {told['risk_coverage']['area']:.4f}"]
    shown += [f"{coverage} {accuracy:.2%}" for coverage, accuracy in told["risk_coverage"]["accuracy_at"].items()]
    for label, each in told["thresholds"]["classes"].items():
        shown.append(f"{label} {each['threshold']:.3f} {each['answers']} {each['coverage']:.1%}")
    own = told["own_thresholds"]
    shown.append(f"{own['coverage']:.1%} of the faces are named, {own['accuracy']:.1%} of these rightly")
    for name, levels in told["robustness"].items():
        shown.append(name + "".join(f" {each['accuracy']:.1%} · {each['macro_f1']:.3f}" for each in levels))
    for each in told["face_size"] + told["jitter"]:
        shown.append(f"{each['meaning']} {each['accuracy']:.1%} {each['macro_f1']:.3f}")
    for each in told["worst_mistakes"]:
        shown.append(f"{each['row']} {each['truth']} {each['answer']} {each['confidence']:.1%}")
    assert len(shown) > 60
    for figure in shown:
        assert figure in page.text, figure


def test_names_are_text_and_neither_markup_nor_mathematics(found):
    odd = ("<script>alert(1)</script>", "\"quoted' & <b>", "$\\frac{$", "a|b", "m" * 64, "ünïcødé", "-")
    named = dict(zip(FER2013_LABELS, odd, strict=True))
    thresholds = {named[label]: value for label, value in found.naming.thresholds.items()}
    mistakes = tuple(replace(each, truth=named[each.truth], answer=named[each.answer]) for each in found.mistakes)
    renamed = replace(
        found,
        evaluation=replace(found.evaluation, labels=odd),
        naming=replace(found.naming, thresholds=thresholds),
        mistakes=mistakes,
    )
    page = Page(as_html(renamed, ABOUT))
    assert not {"script", "b"} & set(page.tags)
    for name in (*odd, "fit <x> & more"):
        assert name in page.text


def test_the_commonest_mistake_is_the_one_made_most_often(page, found):
    wrong = found.evaluation.confusion * (1 - np.eye(7, dtype=int))
    truth, answer = np.unravel_index(wrong.argmax(), wrong.shape)
    labels = found.evaluation.labels
    assert f"commonest mistake is {labels[truth]} taken for {labels[answer]} ({wrong.max()}, " in page.text


def test_the_numbers_of_many_labels_stand_apart():
    from trainer.figures import confusion_size

    for labels in (2, 7, 20):
        assert min(confusion_size(labels)) / labels > 0.45  # inches; "100%" in 8 points takes 0.35


def test_it_can_be_printed(html):
    assert "@media print" in html
    assert "break-inside: avoid" in html
    assert 'name="viewport"' in html


def test_faces_are_shown_only_where_asked_for(found, split, html):
    def shown(page: str) -> set[bytes]:
        pngs = re.findall(r"data:image/png;base64,([^\"]+)", page)
        pictures = (cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_GRAYSCALE) for png in pngs)
        return {picture[::2, ::2].tobytes() for picture in pictures}

    faces = {split.images[each.place].tobytes() for each in found.mistakes}
    assert not faces & shown(html)
    assert "--show-faces" in html
    asked = as_html(found, ABOUT, faces=split.images)
    assert faces <= shown(asked)
    assert set(re.findall('data:image/[^"]+', html)) < set(
        re.findall('data:image/[^"]+', asked)
    )  # all else is the same


def test_a_label_without_a_face_is_told_of_and_the_mean_of_few_faces_is_not_shown(band_classifier, split, html):
    part = split.where(split.labels != 1)
    few = as_html(examine(band_classifier, part, part, samples=14), ABOUT)
    page = Page(few)
    assert "holds no image of disgust" in page.text
    assert "no face of disgust" in page.text
    assert "too few faces for their mean to show nobody" in page.text
    assert "The mean face" in html
    assert "The mean face" not in few


def test_one_label_alone_and_no_mistake_make_a_page_too(band_classifier, faces):
    images, labels = faces(70, 32, 2)
    part = Split(images, labels, np.arange(70, dtype=np.int64)).where(labels == 3)
    page = Page(as_html(examine(band_classifier, part, part, samples=7), ABOUT))
    assert "There are none." in page.text
    assert "There is no mistake." in page.text
    assert FER2013_LABELS[3] in page.text
