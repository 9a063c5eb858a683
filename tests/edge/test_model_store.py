"""Installed models and which is used, also where somebody pulls the plug between any two steps."""

import hashlib
import itertools
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge import model_install
from edge.cli import main
from edge.config import Config, ModelConfig
from edge.control import open_folder
from edge.errors import InputNotFoundError, UsageError
from edge.labels import FER2013_LABELS
from edge.model_chosen import open_chosen
from edge.model_store import (
    CHOICE,
    FOLDER,
    SHIPPED,
    TRIES,
    Choice,
    begin,
    confirm,
    entry_of,
    excuse,
    find,
    find_previous,
    give_up,
    incoming,
    keep,
    path_of,
    read_choice,
    remove,
    short,
    stored,
    tidy,
    use,
)
from edge.model_trial import Trial

MODELS = Path(__file__).parent / "models"
GREY, COLOUR = MODELS / "grey_int8_logits.tflite", MODELS / "rgb_uint8_softmax.tflite"
SHIPPED_AS = "mien-v1-48@" + "f87dae28" * 8


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


A, B = (entry_of(path.stem, sha256(path)) for path in (GREY, COLOUR))


@pytest.fixture
def folder(tmp_path) -> Path:
    return open_folder(tmp_path / "state", shared=False, name=FOLDER)


def put(folder: Path, source: Path) -> str:
    entry = entry_of(source.stem, sha256(source))
    with incoming(folder) as (path, file):
        file.write(source.read_bytes())
        keep(folder, path, file, entry)
    return entry


def come_up(folder: Path, entry: str) -> None:
    """Choose a model and have it come up."""
    use(folder, entry)
    begin(folder)
    confirm(folder, entry)


def test_what_is_kept_has_name_and_digest_and_can_be_read_by_the_service(folder):
    before = os.umask(0o077)
    try:
        assert put(folder, GREY) == A
    finally:
        os.umask(before)
    path = folder / f"grey_int8_logits@{sha256(GREY)}.tflite"
    assert path.read_bytes() == GREY.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o644
    assert (stored(folder), short(A)) == ([A], f"grey_int8_logits@{sha256(GREY)[:8]}")
    assert read_choice(folder) == Choice()


def test_what_was_not_kept_is_gone(folder):
    with incoming(folder) as (path, file):
        file.write(b"half")
        assert path.exists()
    assert list(folder.iterdir()) == []


def test_a_chosen_model_is_on_trial_and_the_one_that_came_up_before_is_kept(folder):
    put(folder, GREY), put(folder, COLOUR)
    come_up(folder, A)
    assert use(folder, B) == Choice(current=B, previous=A, starts=0)
    confirm(folder, B)
    assert read_choice(folder) == Choice(current=B, previous=A)
    assert find_previous(folder) == A


def test_one_that_has_not_come_up_is_nothing_to_go_back_to(folder):
    put(folder, GREY), put(folder, COLOUR)
    use(folder, A)
    assert use(folder, B) == Choice(current=B, previous=SHIPPED, starts=0)
    come_up(folder, A)
    use(folder, B)
    assert use(folder, A) == Choice(current=A, previous=SHIPPED, starts=0)
    use(folder, SHIPPED)
    with pytest.raises(UsageError, match="no other model was used"):
        find_previous(folder)


def test_only_what_is_there_can_be_chosen(folder):
    with pytest.raises(InputNotFoundError, match="grey_int8_logits@c8321773 is not installed"):
        use(folder, A)
    assert read_choice(folder) == Choice()


def test_so_many_starts_and_no_more_are_tried(folder):
    put(folder, GREY), put(folder, COLOUR)
    come_up(folder, A)
    use(folder, B)
    assert [begin(folder).current for _ in range(TRIES)] == [B] * TRIES
    back = begin(folder)
    assert (back.current, back.refused, back.starts) == (A, B, None)
    assert "3 starts with it ended before a picture was looked at" in back.why
    assert begin(folder) == back == read_choice(folder)


def test_a_start_that_is_excused_does_not_count(folder):
    put(folder, GREY)
    use(folder, A)
    for _ in range(10):
        assert begin(folder).current == A
        assert excuse(folder, A)
    assert not excuse(folder, B)
    assert read_choice(folder).starts == 0


def test_who_chooses_anew_meanwhile_is_not_confirmed_by_the_one_before(folder):
    put(folder, GREY), put(folder, COLOUR)
    use(folder, A)
    begin(folder)
    use(folder, B)
    assert not confirm(folder, A)
    assert give_up(folder, A, "crashed") == read_choice(folder) == Choice(current=B, previous=SHIPPED, starts=0)


def test_the_one_that_is_given_up_may_be_tried_again(folder):
    put(folder, GREY)
    use(folder, A)
    assert give_up(folder, A, "damaged") == Choice(current=SHIPPED, refused=A, why="damaged")
    assert use(folder, A) == Choice(current=A, previous=SHIPPED, starts=0)


def test_the_shipped_one_goes_back_to_what_came_up_before_it(folder):
    put(folder, GREY)
    come_up(folder, A)
    use(folder, SHIPPED)
    assert give_up(folder, SHIPPED, "crashed").current == A


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        "\0\xff",
        "[" * 100_000,
        '{"current": "../../etc/passwd", "previous": "shipped"}',
        '{"current": "shipped", "previous": "a@' + "0" * 63 + '"}',
        '{"current": "shipped", "previous": "shipped", "starts": -1}',
        '{"current": "shipped", "previous": "shipped", "starts": true}',
    ],
)
def test_a_choice_that_is_none_is_the_shipped_one_and_says_so(content, folder):
    (folder / CHOICE).write_text(content)
    choice = read_choice(folder)
    assert (choice.current, choice.starts) == (SHIPPED, None)
    assert choice.why == f"{folder / CHOICE} is damaged"
    put(folder, GREY)
    assert use(folder, A) == read_choice(folder) == Choice(current=A, starts=0)


def test_a_choice_that_may_not_be_read_is_the_shipped_one_too(folder):
    (folder / CHOICE).symlink_to(folder / "elsewhere")
    assert "cannot be read" in read_choice(folder).why


def test_what_is_used_is_not_removed_and_behind_what_was_kept_is_the_shipped_one(folder):
    put(folder, GREY), put(folder, COLOUR)
    come_up(folder, A)
    come_up(folder, B)
    with pytest.raises(UsageError, match="is in use; use another one first"):
        remove(folder, B)
    with pytest.raises(UsageError, match="comes with Mien stays"):
        remove(folder, SHIPPED)
    remove(folder, A)
    assert stored(folder) == [B]
    assert read_choice(folder) == Choice(current=B, previous=SHIPPED)


def test_what_is_being_filled_stays_when_somebody_tidies_up(folder):
    (folder / ".incoming-1-dead").write_bytes(b"half")
    (folder / f".{CHOICE}.4711").write_bytes(b"{")
    with incoming(folder) as (path, _):
        tidy(folder)
        assert list(folder.iterdir()) == [path]


def test_what_a_cautious_umask_has_left_is_tidied_up_by_others_too(folder):
    before = os.umask(0o077)
    try:
        with incoming(folder) as (path, _):
            assert path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_pipes_links_and_folders_are_no_models_and_hold_up_nobody(folder):
    digests = [letter * 64 for letter in "abc"]
    os.mkfifo(path_of(folder, f"pipe@{digests[0]}"))
    path_of(folder, f"link@{digests[1]}").symlink_to("/dev/zero")
    path_of(folder, f"folder@{digests[2]}").mkdir()
    os.mkfifo(folder / ".incoming-1-pipe")
    (folder / ".incoming-1-folder").mkdir()
    (folder / f".{CHOICE}.1").mkdir()
    tidy(folder)
    assert stored(folder) == []
    with pytest.raises(InputNotFoundError, match="not installed"):
        use(folder, f"pipe@{digests[0]}")
    assert main(["model", "list", "--state", str(folder.parent)]) == 0
    (folder / CHOICE).write_text(f'{{"current": "pipe@{digests[0]}", "previous": "link@{digests[1]}"}}')
    chosen = open_chosen(Config(), folder.parent, shared=False)
    assert (chosen.model.name, chosen.refused) == (SHIPPED_AS[:19], f"link@{digests[1][:8]}")


def test_files_of_other_names_are_no_models(folder):
    for name in ("notes.txt", "mine.tflite", "a@12.tflite", f"-@{'0' * 64}.tflite"):
        (folder / name).write_text("")
    assert stored(folder) == []


@pytest.mark.parametrize(
    "wanted", ["grey_int8_logits", "grey_int8_logits@c832", "c832", "C8321773", A], ids=lambda wanted: wanted[:24]
)
def test_a_name_or_the_first_digits_are_enough(wanted, folder):
    put(folder, GREY), put(folder, COLOUR)
    assert find(folder, wanted, SHIPPED_AS) == A


@pytest.mark.parametrize("wanted", [SHIPPED, "mien-v1-48", "mien-v1-48@f87dae28", "f87d"])
def test_the_shipped_one_has_its_name_too(wanted, folder):
    assert find(folder, wanted, SHIPPED_AS) == SHIPPED


def test_a_name_that_none_or_several_have_is_refused_with_those_that_there_are(folder):
    put(folder, GREY)
    for wanted in ("grey", "c83", "", "@", "grey_int8_logits@d"):
        with pytest.raises(InputNotFoundError, match="expected one of shipped, grey_int8_logits@c8321773"):
            find(folder, wanted, SHIPPED_AS)
    path_of(folder, entry_of(GREY.stem, "0" * 64)).write_text("")
    with pytest.raises(UsageError, match="grey_int8_logits@00000000 or grey_int8_logits@c8321773; say which"):
        find(folder, "grey_int8_logits", SHIPPED_AS)


# The plug


class Plug:
    """Pulled before the nth thing that is done to files: the process is gone, what was not synced is cut in half."""

    STEPS = ("open", "replace", "unlink", "mkdir", "chmod", "fchmod", "fsync")

    def __init__(self, until: int) -> None:
        self.left = until
        self.opened: dict[int, str] = {}
        self.unsynced: set[str] = set()
        self.real = {name: getattr(os, name) for name in self.STEPS}
        for name in self.STEPS:
            setattr(os, name, getattr(self, name, None) or self.passing(name))

    def count(self) -> None:
        self.left -= 1
        if self.left > 0:
            return
        for path in self.unsynced:
            if os.path.exists(path):  # noqa: PTH110  # pathlib would come through here
                os.truncate(path, os.path.getsize(path) // 2)  # noqa: PTH202
        os.kill(os.getpid(), signal.SIGKILL)

    def passing(self, name: str) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            self.count()
            return self.real[name](*arguments, **options)

        return step

    def open(self, path: object, flags: int, *rest: object, **options: object) -> int:
        self.count()
        handle = self.real["open"](path, flags, *rest, **options)
        if flags & (os.O_WRONLY | os.O_RDWR):
            self.opened[handle] = os.fspath(path)
            self.unsynced.add(os.fspath(path))
        return handle

    def replace(self, source: object, target: object) -> None:
        self.count()
        self.real["replace"](source, target)
        names = {os.fspath(source): os.fspath(target)}
        self.opened = {handle: names.get(path, path) for handle, path in self.opened.items()}
        self.unsynced = {names.get(path, path) for path in self.unsynced}

    def fsync(self, handle: int) -> None:
        self.count()
        self.real["fsync"](handle)
        self.unsynced.discard(self.opened.get(handle, ""))


def dies_before(step: int, action: Callable[[], object]) -> bool:
    """Whether a process that does this dies before this step; it has fewer steps where it does not."""
    child = os.fork()
    if child == 0:
        try:
            Plug(step)
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def install(state: Path, source: Path) -> int:
    return main(["model", "install", str(source), "--state", str(state), "--json"])


OLD = entry_of("old", "0" * 64)
ON_TRIAL = (lambda folder: come_up(folder, A), lambda folder: put(folder, COLOUR), lambda folder: use(folder, B))

# What was done before, what is done, and which models may be used behind that.
ACTIONS = {
    "install": (ON_TRIAL[:1], lambda state: install(state, COLOUR), {A, B}),
    "install the same again": (ON_TRIAL[:1], lambda state: install(state, GREY), {A}),
    "use": (ON_TRIAL[:2], lambda state: use(state / FOLDER, B), {A, B}),
    "roll back": (ON_TRIAL, lambda state: use(state / FOLDER, find_previous(state / FOLDER)), {A, B}),
    "remove what is kept": (ON_TRIAL, lambda state: remove(state / FOLDER, A), {B}),
    "remove": (ON_TRIAL[:1], lambda state: remove(state / FOLDER, OLD), {A}),
    "tidy": (ON_TRIAL[:1], lambda state: tidy(state / FOLDER), {A}),
    "count a start": (ON_TRIAL, lambda state: begin(state / FOLDER), {B}),
    "confirm": (ON_TRIAL, lambda state: confirm(state / FOLDER, B), {B}),
    "give up": (ON_TRIAL, lambda state: give_up(state / FOLDER, B, "crashed"), {A, B}),
}


@pytest.fixture
def quick_trial(monkeypatch) -> None:
    """The process that tries a model is another test's; a file that is not whole fails here too."""

    def tried(file, shown, **_: object) -> Trial:
        file.seek(0)
        content = file.read()
        assert content in {GREY.read_bytes(), COLOUR.read_bytes()}
        return Trial(
            name=Path(shown).stem,
            sha256=hashlib.sha256(content).hexdigest(),
            labels=FER2013_LABELS,
            size=48,
            channels=1,
            self_test=False,
            expression="happy",
            confidence=0.9,
            milliseconds=1.0,
            shipped=1.0,
        )

    monkeypatch.setattr(model_install, "try_model", tried)


@pytest.mark.parametrize("action", ACTIONS)
def test_wherever_the_plug_is_pulled_a_working_model_is_left(action, tmp_path, quick_trial):
    before, (setup, act, allowed) = tmp_path / "before", ACTIONS[action]
    folder = open_folder(before, shared=False, name=FOLDER)
    put(folder, GREY)
    for step in setup:
        step(folder)
    path_of(folder, OLD).write_text("")
    (folder / ".incoming-1-dead").write_bytes(b"half")
    config = Config(model=ModelConfig(labels=FER2013_LABELS))
    for step in itertools.count(1):
        state = tmp_path / str(step)
        shutil.copytree(before, state)
        if not dies_before(step, partial(act, state)):
            break
        chosen = open_chosen(config, state, shared=False)
        assert chosen.model.name in set(map(short, allowed))
        assert chosen.refused in {None, short(B) if action == "give up" else None}
        tidy(state / FOLDER)  # as the next command does
        come_up(state / FOLDER, put(state / FOLDER, COLOUR))
        assert not [path.name for path in (state / FOLDER).iterdir() if path.name.startswith(".")]
        assert open_chosen(config, state, shared=False).model.name == short(B)
    assert step > 2
