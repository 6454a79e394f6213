"""Processes that train runs in parallel.

The pool is the standard library's: workers of joblib 1.6 outlive a killed parent (tried).
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import Any

import torch

from mmrec import config, runtime
from mmrec.experiments.inputs import load_data
from mmrec.progress import Progress

data_once = lru_cache(maxsize=1)(load_data)  # a worker reads the data set once, not once a run


def run_parallel(
    work: Callable[[Any], Any],
    tasks: list[Any],
    settings: config.Runtime,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Any]:
    """`work` of each task, in order, in as many processes as `runtime.workers` allows.

    `progress` counts finished tasks in this order.
    """
    data_once.cache_clear()  # files may have changed
    processes = min(runtime.workers(settings, device), len(tasks))
    if processes <= 1:
        return _counted(map(work, tasks), progress)
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in an unknown state
    with ProcessPoolExecutor(processes, context, _start_worker, (settings,)) as pool:
        return _counted(pool.map(work, tasks), progress)


def _counted(answers: Iterable[Any], progress: Progress | None) -> list[Any]:
    found = []
    for answer in answers:
        found.append(answer)
        if progress:
            progress.advance()
    return found


def _start_worker(settings: config.Runtime) -> None:
    runtime.prepare(settings)
    # A worker ends with a killed parent: it must not work beside its successor.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
