"""Runs that tests of this folder share: nobody trains what another test has trained."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from mmrec import config, runtime
from mmrec.experiments import grid, run


@pytest.fixture(scope="session")
def choose(settings) -> Callable[..., config.Experiment]:
    """An experiment by its name."""
    return lambda name, group="main": next(e for e in settings.resolve("shop", group) if e.name == name)


@pytest.fixture(scope="session")
def made(shop, settings, choose, tmp_path_factory) -> Callable[..., Path]:
    """Folder of a finished run, to be read alone."""
    runs = tmp_path_factory.mktemp("runs")
    return cache(lambda name, group="main", seed=0: run.run(choose(name, group), seed, shop, settings, runs))


@pytest.fixture
def one_by_one(monkeypatch):
    """No process but this one trains."""
    monkeypatch.setattr(runtime, "workers", lambda *_: 1)


@pytest.fixture(scope="session")
def trained_project(settings, write_shop, tmp_path_factory) -> config.Paths:
    """A project whose group main is finished, to be read alone."""
    root = tmp_path_factory.mktemp("project")
    paths = config.Paths(root, root)
    write_shop(paths.processed("shop"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "workers", lambda *_: 1)
        grid.run_groups(paths, settings, "shop", ["main"], torch.device("cpu"))
    return paths


@pytest.fixture
def gathered(paths, trained_project, one_by_one) -> Path:
    """Tables of group main in a project of the test's own, whose store is filled."""
    for folder in (".runs", "data/trained"):
        shutil.copytree(trained_project.work / folder, paths.work / folder)
    return paths.group("shop", "main")


class Interrupted(Exception):
    """Instead of SIGKILL."""


@pytest.fixture
def interrupt(monkeypatch) -> Callable[..., list[str]]:
    """Have a module's n-th write raise `Interrupted`, before or after it; returns the names of files written."""

    def interrupt(module, number: int, after_the_write: bool) -> list[str]:
        original, writes = module.atomic, []

        class atomic:
            def __init__(self, path):
                self.inner, self.stop = original(path), len(writes) == number
                writes.append(path.name)

            def __enter__(self):
                if self.stop and not after_the_write:
                    raise Interrupted
                return self.inner.__enter__()

            def __exit__(self, *error):
                self.inner.__exit__(*error)
                if self.stop:
                    raise Interrupted

        monkeypatch.setattr(module, "atomic", atomic)
        return writes

    interrupt.exception = Interrupted
    return interrupt
