"""FER+'s votes: read, checked, joined to the rows that they are about."""

import os
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadDataError, InputNotFoundError
from trainer.datasets import Split, load_dataset
from trainer.votes import VOTED, read_votes, votes_of

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
pytestmark = pytest.mark.trainer


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_votes_become_shares_without_unknown_and_no_face(tmp_path):
    path = write(tmp_path / "votes.csv", "Training,a.png,4,0,0,1,3,2,0,0,0,0", "Training,b.png,0,6,0,0,0,0,0,2,1,1")
    votes = read_votes(path)
    assert votes.dtype == np.float32
    np.testing.assert_allclose(votes[0], [0.4, 0, 0, 0.1, 0.3, 0.2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(votes[1], [0, 0.75, 0, 0, 0, 0, 0, 0.25], atol=1e-6)


def test_an_image_that_is_no_face_to_anybody_has_no_votes(tmp_path):
    votes = read_votes(write(tmp_path / "votes.csv", "Training,,0,0,0,0,0,0,0,0,0,10"))
    np.testing.assert_array_equal(votes, np.zeros((1, 8)))


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["Training,a.png,1"], "Usage,Image name,neutral", "no column 'happiness'"),
        (["Training,a.png,many,0,0,1,3,2,0,0,0,0"], HEADER, "line 2: votes must be whole numbers"),
        (["Training,a.png,1,0"], HEADER, "line 2: votes must be whole numbers"),
        (["Training,a.png,-1,0,0,1,3,2,0,0,0,0"], HEADER, "line 2: votes must not be negative"),
        ([], HEADER, "holds no row"),
    ],
)
def test_what_is_not_ferplus_is_refused_by_file_and_line(tmp_path, rows, header, message):
    with pytest.raises(BadDataError, match=rf"votes\.csv: {message}"):
        read_votes(write(tmp_path / "votes.csv", *rows, header=header))


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"gone\.csv: cannot be read"):
        read_votes(tmp_path / "gone.csv")
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(BadDataError, match=r"model\.h5: not a CSV"):
        read_votes(tmp_path / "model.h5")


def test_votes_follow_their_rows_through_cleaning():
    votes = np.arange(5 * len(VOTED), dtype=np.float32).reshape(5, -1)
    kept = Split(np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), np.array([4, 1]))
    np.testing.assert_array_equal(votes_of(votes, kept, "votes.csv", 5), votes[[4, 1]])


def test_votes_about_another_data_set_are_refused():
    split = Split(np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), np.arange(2))
    with pytest.raises(BadDataError, match=r"votes\.csv: holds votes on 5 images, the data set has 2 rows"):
        votes_of(np.zeros((5, 8), np.float32), split, "votes.csv", 2)


def test_pictures_in_a_folder_have_no_rows_to_join_votes_to(tmp_path, make_folders):
    make_folders(tmp_path, ("happy", "sad"), 12)
    folder = load_dataset(tmp_path)
    with pytest.raises(BadDataError, match=r"votes\.csv: votes go with the rows of fer2013\.csv, and a folder's"):
        votes_of(np.zeros((24, 8), np.float32), folder.train, "votes.csv", folder.rows)


def test_real_votes_agree_with_fer2013_on_most_happy_faces(real_fer2013):
    place = Path(os.environ.get("MIEN_FER2013", Path(__file__).parents[2].parent / "shared" / "data"))
    path = (place if place.is_dir() else place.parent) / "ferplus.csv"
    if not path.is_file():
        pytest.skip(f"FER+'s votes are not at {path}")
    votes = read_votes(path)
    emotion = np.load(real_fer2013)["emotion"]
    assert votes.shape == (35_887, 8)
    happy = votes[emotion == 3].argmax(axis=1) == VOTED.index("happiness")
    assert happy.mean() > 0.85
