# Every target sets itself up: the first one makes .venv from requirements.lock.
# make itself ends with 2 whatever failed. Where 0 / 1 / 2 matters (shipped, gate failed,
# bad input), call `.venv/bin/python -m fr_lib ...`.

PYTHON ?= python3
CORPUS ?= data/corpus.jsonl.gz
RUN    ?= shipped

PY    := .venv/bin/python
READY := .venv/.installed

# Kernels of this environment come before any that the user has installed elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book smoke test reliability browser corpus stress release publish verify bench lab lint clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  variables: CORPUS=$(CORPUS) RUN=$(RUN) PYTHON=$(PYTHON)"
	@echo "  exit code: 2 whatever failed, as make has it; where 0 shipped / 1 gate failed / 2 bad input"
	@echo "  matters, call $(PY) -m fr_lib run --corpus C --run-dir runs/R"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python >= 3.11 is needed, '$(PYTHON)' is not; name one: make PYTHON=python3.12 ..." >&2; \
	  exit 2; }
	@echo "installing requirements.lock into .venv (some minutes the first time)"
	@$(PYTHON) -m venv .venv || { \
	  echo "no venv module; on Debian and Ubuntu install the package python3-venv" >&2; exit 2; }
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

book: $(READY) ## corpus -> notebooks -> model and book [CORPUS=file RUN=name PROFILE=full]
	@$(PY) -m fr_lib run --corpus "$(CORPUS)" --run-dir "runs/$(RUN)" $(if $(PROFILE),--profile $(PROFILE))

smoke: $(READY) ## the same on a synthetic corpus, in seconds; touches nothing tracked
	@$(PY) -m fr_lib run --smoke

# Compiled once and kept, whatever the environment says of it: 60 files of tests by each process anew
# would take longer than most of what is in them.
test: $(READY) browser ## all tests, on all cores
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -q -n auto --dist worksteal -p no:nbval -p no:anyio -p no:logging

reliability: $(READY) ## the long tests of docs/reliability.md
	@$(PY) -m pytest -q -m reliability -n auto --dist worksteal tests/reliability

# The shell has no windows to draw: the same pages take it three quarters of the time.
browser: ## Chromium for the tests of the pages, installed where it may be
	@for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	command -v apt-get >/dev/null || { \
	  echo "make test: no Chromium, and no apt-get to install it; install Chromium or Chrome" >&2; \
	  exit 2; }; \
	if [ "$$(id -u)" -eq 0 ]; then root=; \
	elif sudo -n true 2>/dev/null; then root=sudo; \
	else echo "make test: no Chromium, no root; run: sudo apt-get install chromium" >&2; exit 2; fi; \
	echo "installing Chromium for the tests of the pages"; \
	$$root apt-get update -qq && \
	for name in chromium-headless-shell chromium; do \
	  $$root apt-get install -y -qq --no-install-recommends $$name >/dev/null && exit 0; \
	done; exit 2

# Runs the target's command; $(1): its arguments, where "$$@" are the clips of FOOTAGE.
define with_clips
	@test -d "$(FOOTAGE)" || { \
	  echo "make $@: FOOTAGE='$(FOOTAGE)' is no folder; give FOOTAGE=dir, a folder of clips" >&2; \
	  exit 2; }
	@set --; \
	for clip in "$(FOOTAGE)"/*; do \
	  case "$$clip" in *.json|*.md|*.txt) ;; *) set -- "$$@" --source "$$clip" ;; esac; \
	done; \
	if [ -f "$(FOOTAGE)/MANIFEST.json" ]; then set -- "$$@" --manifest "$(FOOTAGE)/MANIFEST.json"; fi; \
	$(PY) -m fr_lib $@ $(1)
endef

corpus: $(READY) ## encode and score the clips of a folder: FOOTAGE=dir [CORPUS=file]
	$(call with_clips,@data/grid.args "$$@" --out "$(CORPUS)")

stress: $(READY) ## distort and score the clips of a folder into data/stress.parquet: FOOTAGE=dir
	$(call with_clips,"$$@" --out data/stress.parquet)

release: $(READY) ## put the model of a run into model/tiny [RUN=name]
	@$(PY) -m fr_lib release --run-dir "runs/$(RUN)"

publish: $(READY) ## a run's book and files for a static host, in runs/RUN-public [RUN=name]
	@$(PY) -m fr_lib publish --run-dir "runs/$(RUN)" --out "runs/$(RUN)-public"

verify: $(READY) ## check model/tiny: schema, hashes, sidecars, operators
	@$(PY) -m fr_lib verify

bench: $(READY) ## measure speed, rewrite docs/benchmarks.md [ONLY=a,f]
	@$(PY) -m benchmarks.bench $(if $(ONLY),--only $(ONLY))

lab: $(READY) ## JupyterLab, on a page that lists the notebooks and how far runs/mine is
	@mkdir -p runs
	@$(PY) -m papermill notebooks/00_start.ipynb runs/start.ipynb --no-progress-bar --log-level ERROR
	@$(PY) -m jupyter lab --LabApp.default_url=/lab/tree/runs/start.ipynb

lint: $(READY) ## what the commit hooks check, changing nothing
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@.venv/bin/codespell
	@$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb

clean: ## remove caches; runs/ and .venv stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis .ipynb_checkpoints notebooks/.ipynb_checkpoints *.egg-info
	@find fr_lib tests -name __pycache__ -type d -prune -exec rm -rf {} +
