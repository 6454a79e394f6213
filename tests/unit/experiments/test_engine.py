import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from mmrec.experiments import engine
from mmrec.features import store

CPU = torch.device("cpu")


def test_tasks_are_worked_on_in_order_and_answered_in_order(settings):
    worked = []

    def work(task):
        worked.append(task)
        return task * 10

    assert engine.run_parallel(work, [3, 1, 2], replace(settings.runtime, threads=10**6), CPU) == [30, 10, 20]
    assert worked == [3, 1, 2]
    assert engine.run_parallel(work, [], settings.runtime, CPU) == []


def test_changed_data_are_read_again(settings, paths, make_features, one_by_one):
    folder = paths.processed("shop")

    def digest(_):
        return engine.data_once(folder, ("text",), CPU).digests["text"]

    first = engine.run_parallel(digest, [0], settings.runtime, CPU)
    store.save(folder / "features" / "text.safetensors", store.Features(*make_features(30, seed=1)["text"], {}))
    assert engine.run_parallel(digest, [0], settings.runtime, CPU) != first


WORK = """
import os, sys, time
from pathlib import Path

import torch

from mmrec import config, runtime
from mmrec.experiments import engine

def work(task):
    if task == "broken":
        arithmetic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        raise ValueError(f"{os.environ['OMP_NUM_THREADS']} {arithmetic}")
    if task:  # a folder: tell this process's id, and work for a minute
        (Path(task) / str(os.getpid())).touch()
        time.sleep(60)

if __name__ == "__main__":
    settings = config.load(Path(sys.argv[1])).runtime
    runtime.enter(settings)
    runtime.workers = lambda *_: 2
    engine.run_parallel(work, sys.argv[2:], settings, torch.device("cpu"))
"""


@pytest.fixture
def start(shop_params, tmp_path):
    """Run WORK with these tasks in two workers."""
    (tmp_path / "work.py").write_text(WORK)

    def start(*tasks):
        command = [sys.executable, str(tmp_path / "work.py"), str(shop_params), *tasks]
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


@pytest.mark.slow
def test_workers_compute_as_the_pipeline_does_and_errors_come_back(start):
    with start("", "broken") as process:
        _, error = process.communicate()
    assert process.returncode == 1 and error.splitlines()[-1] == "ValueError: 1 (1, True)"


@pytest.mark.slow
def test_workers_of_a_killed_process_end(start, tmp_path):
    told = tmp_path / "told"
    told.mkdir()
    with start(str(told), str(told)) as process:
        until = time.monotonic() + 300
        while len(list(told.iterdir())) < 2:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        workers = [int(path.name) for path in told.iterdir()]
        until = time.monotonic() + 10
        while any(alive(worker) for worker in workers):
            assert time.monotonic() < until
            time.sleep(0.01)


def alive(process):
    """A zombie, whose parent has not yet waited for it, is dead."""
    try:
        return open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
