import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge.errors import UnavailableError
from edge.interpreter import make_interpreter

MODEL = Path(__file__).parent / "models" / "grey_int8_logits.tflite"


def pretend(monkeypatch, module: str, interpreter: object) -> None:
    """Let `import module` give a module with this `Interpreter`; None: as if it were not installed."""
    package = module.partition(".")[0]
    if interpreter is None:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return
    stand_in = ModuleType(module)
    stand_in.Interpreter = interpreter
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, module, stand_in)


class Works:
    def __init__(self, model_content: bytes, num_threads: int) -> None:
        self.content, self.threads, self.allocated = model_content, num_threads, False

    def allocate_tensors(self) -> None:
        self.allocated = True


def breaks(error: Exception):
    def build(**_: object) -> None:
        raise error

    return build


@pytest.mark.parametrize("model", [MODEL, MODEL.read_bytes()], ids=["file", "bytes"])
def test_the_interpreter_that_is_installed_runs_a_model(model):
    interpreter = make_interpreter(model, threads=2)
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(source["index"], np.zeros(source["shape"], source["dtype"]))
    interpreter.invoke()
    assert interpreter.get_tensor(result["index"]).shape == (1, 7)


def test_building_says_nothing_on_standard_error(capfd):
    make_interpreter(MODEL)
    assert capfd.readouterr().err == ""


def test_what_is_no_chatter_still_reaches_standard_error(monkeypatch, capfd):
    class Warns(Works):
        def allocate_tensors(self) -> None:
            os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: out of luck\n")

    pretend(monkeypatch, "ai_edge_litert.interpreter", Warns)
    make_interpreter(MODEL)
    assert capfd.readouterr().err == "ERROR: out of luck\n"


def test_without_litert_tflite_runtime_is_used(monkeypatch):
    pretend(monkeypatch, "ai_edge_litert.interpreter", None)
    pretend(monkeypatch, "tflite_runtime.interpreter", Works)
    interpreter = make_interpreter(b"model", threads=3)
    assert isinstance(interpreter, Works)
    assert (interpreter.content, interpreter.threads, interpreter.allocated) == (b"model", 3, True)


def test_a_litert_that_does_not_work_gives_way_to_tflite_runtime(monkeypatch):
    pretend(monkeypatch, "ai_edge_litert.interpreter", breaks(ImportError("libc is too old")))
    pretend(monkeypatch, "tflite_runtime.interpreter", Works)
    assert isinstance(make_interpreter(b"model"), Works)


def test_without_either_both_are_named_with_the_commands_that_install_them(monkeypatch):
    pretend(monkeypatch, "ai_edge_litert.interpreter", None)
    pretend(monkeypatch, "tflite_runtime.interpreter", None)
    with pytest.raises(UnavailableError) as refusal:
        make_interpreter(b"model")
    said = str(refusal.value)
    assert "ai-edge-litert is not installed; tflite-runtime is not installed" in said
    assert "pip install ai-edge-litert" in said
    assert "pip install 'tflite-runtime>=2.14' 'numpy<2'" in said


def test_tflite_runtime_beside_numpy_2_is_told_what_ails_it(monkeypatch):
    pretend(monkeypatch, "ai_edge_litert.interpreter", None)
    pretend(monkeypatch, "tflite_runtime.interpreter", breaks(SystemError("returned a result with an exception set")))
    monkeypatch.setattr("edge.interpreter.np.__version__", "2.4.6")
    with pytest.raises(
        UnavailableError, match=r"does not work \(it was built for numpy 1, and numpy 2\.4\.6 is here\)"
    ):
        make_interpreter(b"model")


def test_a_model_that_the_interpreter_refuses_is_the_models_fault(monkeypatch):
    pretend(
        monkeypatch,
        "ai_edge_litert.interpreter",
        breaks(ValueError("Didn't find op for\n  builtin opcode 'X' version '12'")),
    )
    with pytest.raises(ValueError, match="ai-edge-litert cannot run it: Didn't find op for builtin opcode 'X'"):
        make_interpreter(b"model")
