.PHONY: setup demo replicate test lint lab lock
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

setup: .venv/complete  ## the environment, in .venv

# --no-deps: the lock is complete, and one package declares a dependency that nothing here needs (see pyproject.toml).
.venv/complete: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock:  ## resolve requirements.lock and environment.yml anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --quiet --upgrade \
		--no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock
	sed -i -E "s/ (and|;) platform_machine == 'x86_64' and sys_platform == 'linux'//" requirements.lock
