# Every habit of the project, one target each. `make` alone prints the list.
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help env check figures test test-all lint format bench submission report page handout bundle gallery clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp is written only after a successful install, so an interrupted one is taken up again.
# PYTHON=...: another Python than the first of these that is 3.11 or later and can make an environment. PIP_OPTIONS=...:
# more options for pip, such as where to find packages.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3 python
USABLE  := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON  ?= $(shell for p in $(PYTHONS); do $$p -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS)
NEEDED  := Python 3.11 or later is needed (on Debian and Ubuntu with python3-venv); PYTHON=/path/to/python names one

$(VENV)/.runtime: requirements.txt
	@test -x $(BIN)/python || { python="$(PYTHON)"; test -n "$$python" || { echo "$(NEEDED)" >&2; exit 1; }; \
	"$$python" -c '$(USABLE)' || { echo "$$python cannot be used: $(NEEDED)" >&2; exit 1; }; \
	"$$python" -m venv $(VENV); }
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt page/requirements.txt | $(VENV)/.runtime
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.bench: benchmarks/requirements.txt | $(VENV)/.dev
	$(PIP) -r $<
	@touch $@

$(VENV)/.page: page/requirements.txt | $(VENV)/.runtime
	@echo "installing what the page needs (gradio, about 200 MB with what it needs)"
	$(PIP) -r $<
	@touch $@

env: $(VENV)/.runtime  ## create the environment in .venv (PIP_OPTIONS="...": options for pip)

# Each script draws what it can; one that cannot says why, and the others go on.
SCRIPTS := ./class_visualization.py ./saliency_visualization.py ./gradcam_visualization.py ./style_transfer.py
FOURIER := ./class_visualization.py --method fourier --output visualization/feature_visualization.png
figures: $(VENV)/.runtime  ## draw the figures of the assignment, and the fourier classes, in visualization/
	@failed=; draw() { $(RUN) "$$@" || { test $$? = 130 && exit 130; failed=1; }; }; \
	for script in $(SCRIPTS); do draw $$script; done; \
	$(if $(wildcard extras),draw $(FOURIER);) test -z "$$failed"

check: $(VENV)/.runtime  ## check your work and see the points (TASK=4: one task)
	$(BIN)/python -m grading check $(if $(TASK),--task $(TASK))

# One worker per core, up to four; one that has finished takes tests from another.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal

test: $(VENV)/.dev  ## run the tests (a few minutes)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-all: $(VENV)/.dev  ## run the tests, the long ones too
	$(BIN)/python -m pytest -m 'slow or not slow' $(SIDE_BY_SIDE)

lint: $(VENV)/.dev  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

submission: $(VENV)/.dev  ## check the work and zip it for the autograder
	$(BIN)/python collect_submission.py

report: $(VENV)/.runtime  ## set the written part as assignment_3_report.pdf (after `make figures` and your answers)
	$(BIN)/python -m report

page: $(VENV)/.page  ## open the live page in the browser
	$(BIN)/python -m page

handout: $(VENV)/.runtime  ## make the student's blank copy, dist/assignment_3_handout.zip
	$(BIN)/python -m grading handout

bundle: $(VENV)/.runtime  ## make Gradescope's dist/autograder.zip
	$(BIN)/python -m grading bundle

bench: $(VENV)/.bench  ## measure speed beside other libraries; writes docs/benchmarks.md (half an hour)
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

gallery: $(VENV)/.dev  ## make the pictures of README and docs again (ONLY="name ..." some of them)
	$(BIN)/python docs/gallery.py $(if $(ONLY),--only $(ONLY))

clean:  ## remove outputs and caches (the environment stays)
	rm -rf visualization/* .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f assignment_3_submission.zip assignment_3_report.pdf
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
