.DEFAULT_GOAL := help
.PHONY: help setup demo replicate check test lint lab site test-site test-scale lock
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: .venv/complete ## the environment, in .venv

define known_python
@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" \
	|| { echo "Python 3.11 to 3.13 is needed; say which: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
endef

# --no-deps: the lock is complete, and one package declares a dependency that nothing here needs (see pyproject.toml).
.venv/complete: requirements.lock pyproject.toml
	$(known_python)
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## the generated shop and its negative control, from nothing to result tables and probes
	dvc repro results@demo results@demo_null probe@demo probe@demo_null explore@demo

replicate: setup ## every data set whose raw files this machine has or can make, then the verdicts
	set -o pipefail; targets=$$(python -m mmrec stages) && dvc repro $$targets controls && dvc repro claims

check: setup lint ## lint, unit and golden tests, in at most 2 minutes
	pytest --numprocesses 2 --dist worksteal -m "not slow" tests/unit $(wildcard tests/golden)

test: setup lint ## every test: unit, golden, integration, notebooks
	pytest --numprocesses 2 --dist loadfile

lint: setup ## ruff and the direction of imports
	ruff check .
	ruff format --check .
	lint-imports

lab: setup ## JupyterLab with the pipeline's arithmetic
	python -m mmrec.runtime jupyter lab

# An environment of its own: with torch beside it, parsing the API follows its imports and takes two minutes more.
.venv-site/complete: requirements-site.lock
	$(known_python)
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --require-hashes --no-deps --requirement requirements-site.lock
	touch $@

site: .venv-site/complete ## static pages of docs, executed notebooks and API, in data/site/html
	rm -rf data/site && mkdir -p data/site/source
	.venv-site/bin/sphinx-build -c docs -d data/site/doctrees --jobs 2 --quiet --fail-on-warning data/site/source data/site/html

test-site: site ## the pages in a browser (chromium and chromedriver)
	.venv-site/bin/python -m pytest -rs --confcutdir tests/browser tests/browser

test-scale: setup ## runs on a Ray cluster of two nodes whose worker, node and driver are killed; installs Ray
	.venv/bin/python -m pip install --quiet 'ray[default]>=2.60'
	pytest --numprocesses 0 tests/integration/test_cluster.py

lock: ## resolve both locks anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --quiet --upgrade \
		--no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock
	uv pip compile --group site --universal --generate-hashes --quiet --upgrade \
		--no-emit-index-url --custom-compile-command "make lock" --output-file requirements-site.lock
	sed -i -E "s/ (and|;) platform_machine == 'x86_64' and sys_platform == 'linux'//" requirements.lock requirements-site.lock
