# make train   set up .venv and train ResNet34 on the embedded digits
# make test    set up .venv, lint, check types, run the tests (at most 10 minutes on 2 cores)
# make ci      the slower tests, and those that learn on another instruction set
# make chapters  train every chapter on real data, where that is there; half an hour
# make machines  two machines as network namespaces, the cable between them cut; needs root and iproute2; some minutes
# make faults  the whole fault campaign, about an hour on 2 cores; its table goes to docs/reliability.md
# make faults-kill  one family of it, here kill, at most 45 minutes
# make kills   a sweep of 12 runs, killed 10 times at random moments and resumed; some minutes
# make bench   measures beside peers, in an environment of its own; its table goes to docs/performance.md
# make gpu-wheels  gathers what a machine with a GPU and torch may lack, in .gpu-wheels
# make gpu     there, without a network: its tests, the faults in steps, its benchmarks; 8 minutes; GPU_PYTHON has torch
# make setup   only install
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
SETUP_FILES := requirements.txt constraints.txt $(wildcard installer/visdom/*)

# The tests start hundreds of processes, and each would compile all files again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup train check test ci chapters machines faults kills bench gpu-wheels gpu clean

setup: $(READY)

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)

$(READY): $(SETUP_FILES) | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(TOOLS): requirements-dev.txt $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

train: $(READY)
	$(BIN)/python main.py train --model=ResNet34

check: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy utils configs trainer data/loading data/looking

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

# An instruction set that no processor of today has as its own: sums are rounded in another order.
OTHER_ISA ?= ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default

ci: $(TOOLS)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not gpu and not chapter and not machines"
	$(OTHER_ISA) $(BIN)/python -m pytest -n 2 --dist loadfile -m "learns and not slow and not gpu"

chapters: $(TOOLS)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m chapter

machines: $(TOOLS)
	$(BIN)/python -m pytest -s -m machines

faults: $(TOOLS)
	$(BIN)/python -m tests.faults --write=docs/reliability.md

faults-%: $(TOOLS)
	timeout --signal=INT 45m $(BIN)/python -m tests.faults $* --write=docs/reliability.md

kills: $(TOOLS)
	$(BIN)/python -m tests.kill_studies

PHOTOS ?= data/dogcat/train
BENCH := benchmarks/.venv
$(BENCH)/.ready: benchmarks/requirements.txt $(SETUP_FILES)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

bench: $(READY) $(BENCH)/.ready
	$(BENCH)/bin/python -m benchmarks --write docs/performance.md --json benchmarks/results.json --photos=$(PHOTOS)

GPU_PYTHON ?= python3
gpu-wheels: $(READY)
	$(BIN)/python installer/gpu.py wheels .gpu-wheels

gpu:
	$(GPU_PYTHON) installer/gpu.py run .gpu-wheels --photos=$(PHOTOS) $(GPU_FLAGS)

clean:
	rm -rf $(VENV) .ruff_cache .mypy_cache
