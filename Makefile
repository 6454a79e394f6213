.PHONY: setup demo replicate test lint lab lock
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

setup: .venv/complete ## the environment, in .venv

# --no-deps: the lock is complete, and one package declares a dependency that nothing here needs (see pyproject.toml).
.venv/complete: requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" \
		|| { echo "Python 3.11 to 3.13 is needed; say which: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## the generated shop and its negative control, from nothing to result tables and probes
	dvc repro results@demo results@demo_null probe@demo probe@demo_null

replicate: setup ## every data set whose raw files this machine has or can make, then the verdicts
	set -o pipefail; names=$$(python -m mmrec available | paste -sd "|") \
		&& dvc repro $$(dvc stage list --name-only | grep -E "^(results|probe|probe_training|published)@($$names)$$") \
		&& dvc repro --single-item claims

test: setup lint ## unit, integration and notebook tests
	pytest --numprocesses 2 --dist loadfile

lint: setup
	ruff check .
	ruff format --check .
	lint-imports

lab: setup ## JupyterLab with the pipeline's arithmetic
	python -m mmrec.runtime jupyter lab

lock: ## resolve requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --quiet --upgrade \
		--no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock
	sed -i -E "s/ (and|;) platform_machine == 'x86_64' and sys_platform == 'linux'//" requirements.lock
