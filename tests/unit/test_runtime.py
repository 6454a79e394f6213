import os
import warnings
from types import SimpleNamespace

import pytest
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__

from mmrec import config, runtime


@pytest.fixture(autouse=True)
def torch_as_it_was():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.utils.deterministic.fill_uninitialized_memory = filled
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


def settings(**changes) -> config.Runtime:
    usual = {"device": "cpu", "threads": 2, "encoder_threads": 1, "instruction_set": "portable"}
    return config.Runtime(**(usual | changes))


def test_the_number_of_threads_reaches_every_library():
    variables = runtime.environment(settings(threads=3))
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "3"


def test_the_instruction_set_is_fixed_only_where_asked_for():
    fixed = {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OPENBLAS_CORETYPE"}
    assert fixed <= set(runtime.environment(settings()))
    assert not fixed & set(runtime.environment(settings(instruction_set="native")))


def test_prepare_sets_threads_and_determinism(monkeypatch):
    chosen = settings(threads=2)
    for name, value in runtime.environment(chosen).items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runtime.prepare(chosen) == torch.device("cpu")
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)


def test_a_process_started_otherwise_is_warned_with_what_to_do(monkeypatch):
    for name, value in runtime.environment(settings()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MKL_CBWR")
    with pytest.warns(UserWarning, match="^MKL_CBWR not set as in the pipeline.*Start with"):
        runtime.prepare(settings())


@pytest.mark.parametrize("threads, side_by_side", [(1, 8), (2, 4), (3, 2), (8, 1), (16, 1)])
def test_as_many_runs_go_side_by_side_as_there_are_cores_for(monkeypatch, threads, side_by_side):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert runtime.workers(settings(threads=threads), torch.device("cpu")) == side_by_side


@pytest.mark.parametrize("gigabytes, side_by_side", [(4, 1), (13, 2), (25, 4), (80, 8)])
def test_on_a_gpu_its_memory_bounds_them_too(monkeypatch, gigabytes, side_by_side):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    memory = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    assert runtime.workers(settings(threads=1), torch.device("cuda")) == side_by_side


@pytest.mark.parametrize("there, chosen", [(True, "cuda"), (False, "cpu")])
@pytest.mark.filterwarnings("ignore:.*not set as in the pipeline")
def test_auto_takes_a_gpu_if_there_is_one(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert runtime.prepare(settings(device="auto")).type == chosen
    assert runtime.prepare(settings(device="cpu")).type == "cpu"


def test_numpy_knows_the_disabled_instruction_sets():
    """It passes over a name that it does not know, and AVX-512 would stay on."""
    assert set(runtime.PORTABLE["NPY_DISABLE_CPU_FEATURES"].split()) <= set(__cpu_dispatch__)


def test_settings_of_the_users_shell_do_not_reach_children(monkeypatch):
    for name in runtime.OF_THE_SHELL:
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    runtime.enter(settings())
    assert not set(runtime.OF_THE_SHELL) & set(os.environ)
