"""Imports run one way: export -> trainer -> edge, and never back."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("edge", "trainer", "export")
MAY_IMPORT = {"edge": {"edge"}, "trainer": {"edge", "trainer"}, "export": {"edge", "trainer", "export"}}
EDGE_NEEDS = {"numpy", "cv2", "paho", "ai_edge_litert", "tflite_runtime", "picamera2", "libcamera"}
EDGE_NEEDS |= {"prometheus_client", "rich", "gpiozero", "cryptography"}  # extras
HEAVY = {"tensorflow", "keras", "torch", "jax", "matplotlib", "sklearn"}


def modules(floor: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / floor).rglob("*.py"))
    }


def type_checking_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def imported(path: Path, *, at_import: bool = False) -> set[str]:
    """What a module imports, by full name; `at_import`: only what its own import runs."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if type_checking_only(node) or (at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; name the module in full"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def foreign(names: set[str]) -> set[str]:
    return tops(names) - set(FLOORS) - sys.stdlib_module_names


def needed(module: str) -> set[str]:
    """The foreign packages that importing one of edge's modules brings in, through edge's own modules too."""
    known = modules("edge")
    seen: set[str] = set()
    todo, packages = [module], set()
    while todo:
        name = todo.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        names = imported(known[name], at_import=True)
        packages |= foreign(names)
        todo += [part for part in names if part.startswith("edge")] + [name.rpartition(".")[0]]
    return packages


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


ALL = [(floor, name) for floor in FLOORS for name in modules(floor)]


@pytest.mark.parametrize(("floor", "name"), ALL, ids=[name for _, name in ALL])
def test_a_floor_imports_only_itself_and_what_is_below(floor, name):
    names = imported(modules(floor)[name])
    assert tops(names) & set(FLOORS) <= MAY_IMPORT[floor]
    if floor == "edge":
        assert foreign(names) <= EDGE_NEEDS


@pytest.mark.parametrize("name", ["edge.crop", "edge.frame", "edge.labels", "edge.errors"])
def test_what_the_trainer_shares_needs_numpy_and_opencv_alone(name):
    assert needed(name) <= {"numpy", "cv2"}
    assert not loaded(f"import {name}") & (EDGE_NEEDS | HEAVY) - {"numpy", "cv2"}


def test_training_needs_neither_an_mqtt_client_nor_an_interpreter():
    below = {name for path in modules("trainer").values() for name in imported(path) if name in modules("edge")}
    assert "edge.crop" in below
    assert set().union(*map(needed, below)) <= {"numpy", "cv2"}


def test_the_daemon_loads_nothing_of_the_trainers():
    assert not loaded("import edge.daemon") & (HEAVY | {"trainer", "export"})


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["run", "--help"],
        ["classify", "--help"],
        ["bench", "--help"],
        ["log", "--help"],
        ["fleet", "--help"],
        ["doctor", "--help"],
        ["pause", "--help"],
        ["resume", "--help"],
        ["erase", "--help"],
        ["model", "--help"],
        ["model", "install", "--help"],
        ["model", "list"],
        ["--version"],
        ["nonsense"],
    ],
)
def test_help_loads_neither_numpy_nor_opencv(argv):
    held = loaded(f"from edge.cli import main; main({argv!r})")
    assert "edge" in held
    assert not held & (EDGE_NEEDS | HEAVY | {"trainer", "export"})


def test_these_rules_can_see_an_import(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("import os.path\nfrom keras import layers\ndef late():\n    import trainer.cli\n")
    assert foreign(imported(module)) == {"keras"}
    assert "trainer" in tops(imported(module))
    assert "trainer" not in tops(imported(module, at_import=True))
