"""Packaging of `mien`. The base install is what a Raspberry Pi needs and nothing more."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "edge/__init__.py").read_text())[1]

# Small Bookworm Pis: the old runtime is built against numpy 1, and OpenCV asks for numpy 2 from 4.12 on. There is no
# such runtime, and no numpy 1, for later Pythons: the markers leave those with LiteRT.
OLD = "; python_version < '3.12'"
TFLITE_RUNTIME = ["tflite-runtime>=2.14" + OLD, "numpy<2" + OLD, "opencv-python-headless>=4.6,<4.12" + OLD]
# The live table of `mien fleet`.
FLEET = ["rich>=13"]
# Keras before 3.12 could be talked out of its safe mode by a crafted file.
TRAINER = [
    "tensorflow>=2.19",
    "keras>=3.12",
    "tensorboard>=2.19",
    "matplotlib>=3.8",
    "scikit-learn>=1.4",
    "scipy>=1.10",
    *FLEET,
]
# From 2 on through lgpio, the way that today's kernels have.
GPIO = ["gpiozero>=2", "lgpio>=0.2"]
# From 0.20 on its server can be ended.
METRICS = ["prometheus-client>=0.20"]
# Of models that come from an address; a Pi has Debian's python3-cryptography.
SIGNATURE = ["cryptography>=38"]
# The linters are held to a series, so that a release of theirs turns no gate red by itself.
DEV = [
    *METRICS,
    *SIGNATURE,
    "pytest>=8",
    "pytest-timeout>=2.3",
    "gpiozero>=2",
    "hypothesis>=6.100",
    "ruff>=0.17,<0.18",
    "mypy>=2.4,<2.5",
    "jinja2>=3",
    "jsonschema>=4",
    "types-jsonschema",
    "pillow>=10",
    "pyyaml>=6",
]

setup(
    name="mien",
    version=VERSION,
    description="Reads facial expressions on a Raspberry Pi: trainer, exporter and a light daemon",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # No package, but what `mien-flash` puts on cards: in the wheel it lies where edge.flash_firstboot looks for it.
    packages=["edge", "edge.camera", "edge.sinks", "edge.systemd", "trainer", "export"],
    package_dir={"edge.systemd": "systemd"},
    package_data={"edge": ["py.typed", "*.json", "models/*", "samples/*"], "edge.systemd": ["mien.toml", "flash/*"]},
    install_requires=[
        "numpy>=1.24",
        "opencv-python-headless>=4.6,<5",
        "paho-mqtt>=2,<3",
        "ai-edge-litert>=1.2",
    ],
    extras_require={
        "tflite-runtime": TFLITE_RUNTIME,
        "metrics": METRICS,
        "fleet": FLEET,
        "gpio": GPIO,
        "signature": SIGNATURE,
        "trainer": TRAINER,
        "dev": DEV,
    },
    entry_points={
        "console_scripts": [
            "mien = edge.cli:program",
            "mien-flash = edge.cli_flash:main",
            "mien-train = trainer.cli:main",
            "mien-export = export.cli:main",
        ]
    },
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
