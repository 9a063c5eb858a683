"""Finds the TensorFlow Lite interpreter that is installed: LiteRT's, or the older and smaller tflite-runtime's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.chatter import without_chatter
from edge.errors import UnavailableError

MODULES: Mapping[str, str] = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""Packages by preference, each with the module that holds its `Interpreter`."""

ADVICE = (
    "install one of the two into Mien's environment: pip install ai-edge-litert (64-bit, Python 3.10 and later) or "
    "pip install 'tflite-runtime>=2.14' 'numpy<2' 'opencv-python-headless<4.12' (small; up to Python 3.11)"
)

_CHATTER = b"INFO:"
"""How lines begin that the interpreter prints at every start, such as "INFO: Created TensorFlow Lite XNNPACK ..."."""


class Interpreter(Protocol):
    """What Mien uses of an interpreter; both packages have it."""

    def allocate_tensors(self) -> None:
        """Make room for the tensors. Called once, by `make_interpreter`."""

    def get_input_details(self) -> Sequence[Mapping[str, Any]]:
        """`index`, `shape`, `dtype`, `quantization` and more for each input tensor."""
        ...

    def get_output_details(self) -> Sequence[Mapping[str, Any]]:
        """The same for each output tensor."""
        ...

    def set_tensor(self, tensor_index: int, value: NDArray[np.generic]) -> None:
        """Copy an array into an input tensor of the same shape and type."""

    def invoke(self) -> None:
        """Run the model."""

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        """A copy of a tensor."""
        ...


def make_interpreter(model: bytes | Path, threads: int = 1) -> Interpreter:
    """Build an interpreter for a model, with its tensors allocated.

    Importing proves nothing (tflite-runtime with numpy 2 imports, and then fails), so each package is asked to build.

    Args:
        model: the flatbuffer, or the file that it is in. It is trusted to be whole: `edge.modelfile` checks that.
        threads: CPU threads for one inference.

    Raises:
        ValueError: an interpreter works, but not with this model: an operator or a version that it does not know.
        UnavailableError: no interpreter is installed, or none works; the message says how to get one.
    """
    content = model if isinstance(model, bytes) else model.read_bytes()
    troubles: list[str] = []
    for package, module in MODULES.items():
        try:
            with without_chatter(_CHATTER):
                interpreter: Interpreter = importlib.import_module(module).Interpreter(
                    model_content=content, num_threads=threads
                )
                interpreter.allocate_tensors()
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0] == module.partition(".")[0]
            troubles.append(f"{package} is not installed" if missing else f"{package} lacks {error.name}")
        except (SystemError, ImportError, AttributeError, OSError) as error:
            troubles.append(f"{package} is installed but does not work ({_reason(package, error)})")
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{package} cannot run it: {_one_line(error)}") from None
        else:
            return interpreter
    raise UnavailableError(f"no TensorFlow Lite interpreter: {'; '.join(troubles)}. To mend it, {ADVICE}")


def _reason(package: str, error: Exception) -> str:
    if package == "tflite-runtime" and int(np.__version__.partition(".")[0]) >= 2:
        return f"it was built for numpy 1, and numpy {np.__version__} is here"
    return _one_line(error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
