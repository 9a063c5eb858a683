# README's two commands are `make demo` and `make test`; both set up all that they need by themselves.
# PYTHON chooses the interpreter (3.11 to 3.13), VENV where its packages go, ARCH the .deb's processor, RELEASE the
# system that `packages` is for, and SYSTEM what of tests/system runs, such as SYSTEM='-k amd64'.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
OUT ?= out/demo
ARCH ?= arm64
RELEASE ?= trixie
BIN := $(VENV)/bin

.PHONY: help demo test test-system test-backends wheelhouse deb packages lint bench bench-clone clean check-python

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/.base  ## read the expressions on the sample photos and on a video made from them
	$(BIN)/mien demo --out $(OUT)

test: $(VENV)/.dev  ## run the tests; mosquitto and systemd-analyze are installed through apt where that is allowed
	@sh .ci/install-for-tests
	$(BIN)/python -m pytest

test-system: $(VENV)/.dev  ## what takes hours: a hundred faults on the way to a broker, emulated systems, a virtual Pi
	$(BIN)/python -m benchmarks.mqtt_faults --faults 100 --events 20000
	MIEN_SYSTEM=1 $(BIN)/python -m pytest tests/system --timeout 7200 $(SYSTEM)

test-backends:  ## training on PyTorch and JAX, on two devices too, in an environment of its own
	$(MAKE) VENV=$(VENV)-backends $(VENV)-backends/.dev
	$(VENV)-backends/bin/python -m pip install --quiet jax torch==2.13.0
	$(VENV)-backends/bin/python -m pytest tests/trainer/test_backends.py

wheelhouse: $(VENV)/.made  ## dist/wheelhouse: to install without a network on Bookworm and Trixie
	systemd/deb/wheelhouse.sh $(BIN)/python

deb: wheelhouse  ## dist/mien_*.deb for a Pi; ARCH=amd64 for a PC
	systemd/deb/build.sh $(ARCH)

packages:  ## dist/packages-RELEASE: what Mien needs of Debian, for cards without a network; RELEASE=bookworm or trixie
	systemd/deb/packages.sh $(RELEASE)

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## measure it anew, the long ones shortened; the model's need FER2013 (MIEN_FER2013), and PrivateTest stays shut
	$(BIN)/python -m benchmarks.help_time
	$(BIN)/python -m benchmarks.install_size
	$(BIN)/python -m benchmarks.shipped_model
	$(BIN)/python -m benchmarks.shipped_model --model small
	$(BIN)/python -m benchmarks.training_speed --rounds 3
	$(BIN)/python -m benchmarks.vision
	$(BIN)/python -m benchmarks.vision_profile
	$(BIN)/python -m benchmarks.daemon_cost --frames 5000 --seconds 15
	$(BIN)/python -m benchmarks.mqtt_fleet --seconds 60
	$(BIN)/python -m benchmarks.mqtt_outage --events 20000 --rounds 4
	$(BIN)/python -m benchmarks.vision_steps
	$(BIN)/python -m benchmarks.mqtt_faults --faults 22 --events 3000
	$(BIN)/python -m benchmarks.arm64_events || test $$? -eq 69  # its tools may be missing: it says which

bench-clone:  ## README's two commands in a fresh clone with a fresh environment
	$(PYTHON) -m benchmarks.fresh_clone

check-python:
	@test -n "$(PYTHON)" || { echo "Mien needs Python 3.11, 3.12 or 3.13 with venv: apt install python3-venv, or make PYTHON=/path/to/python3"; exit 1; }

# Made anew unless it was finished: a killed `venv` leaves half of one behind.
$(VENV)/.made: | check-python
	$(PYTHON) -m venv --clear "$(VENV)"
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

# Two stages, so that the demo needs no TensorFlow.
$(VENV)/.base: setup.py | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: setup.py | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --editable '.[trainer,dev]'
	@touch $(VENV)/.base $@

clean:  ## remove what these commands made
	rm -rf $(VENV) out build dist *.egg-info
