"""Settings of arithmetic: device, threads, instruction set, determinism.

`python -m mmrec.runtime COMMAND` starts any command, such as Jupyter, with the arithmetic of the pipeline.

The last bits of a float depend on the order of additions, and this order on the width of vector instructions and on the
number of threads. So both are fixed. `training.fit` and `losses.SampledSoftmax` avoid functions that begin with an
estimate by the processor.
"""

import os
import sys
import warnings
from typing import TYPE_CHECKING

from mmrec.config import Runtime, project

if TYPE_CHECKING:
    import torch


# Libraries that choose instructions at run time. COMPATIBLE is the only branch of MKL that processors of all makers
# share; it takes 1.5 times as long. NumPy computes intervals with OpenBLAS.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # log and exp of NumPy differ with AVX-512
}


def environment(runtime: Runtime) -> dict[str, str]:
    """Environment variables of a process. Libraries read them when they are loaded."""
    variables = {
        "OMP_NUM_THREADS": str(runtime.threads),
        "MKL_NUM_THREADS": str(runtime.threads),
        "MKL_DYNAMIC": "FALSE",  # else MKL takes fewer threads on fewer cores
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic products on a GPU
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm asks for widgets, whose state would enter the notebooks
    }
    return variables | (PORTABLE if runtime.instruction_set == "portable" else {})


# The user's own settings of libraries, which may choose another kernel, other fonts or no figures.
OF_THE_SHELL = ("IPYTHONDIR", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "MATPLOTLIBRC", "MPLBACKEND")


def enter(runtime: Runtime) -> None:
    """Set the variables for this process's children; earlier values are replaced."""
    for name in (*PORTABLE, *OF_THE_SHELL):
        os.environ.pop(name, None)
    # The kernel called python3 is this environment's, and files are read as UTF-8 in any locale.
    os.environ |= environment(runtime) | {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONUTF8": "1"}


def prepare(runtime: Runtime, threads: int | None = None) -> "torch.device":
    """Set torch up and choose the device (`auto`: a GPU if there is one).

    Warns if the process was started without `environment`: the last bits of results may then differ.

    Args:
        threads: of an encoder, in place of training threads. Features are always portable, so the instruction set of
            the runs is not checked.
    """
    import torch

    wanted = (dict.fromkeys(PORTABLE) if threads is None else {}) | environment(runtime)
    wrong = [name for name, value in wanted.items() if os.environ.get(name) != value]
    if wrong:
        told = f"{', '.join(wrong)} not set as in the pipeline: last bits may differ from the committed results. "
        warnings.warn(
            f"{told}Start with `make lab`, or put `python -m mmrec.runtime` before the command.", stacklevel=2
        )
    torch.set_num_threads(threads or runtime.threads)
    torch.use_deterministic_algorithms(True)
    # Filling new tensors with NaN takes a quarter of an evaluation's time; only tests need it.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if runtime.device == "auto" else runtime.device)


GPU_BYTES_A_RUN = 6 * 2**30  # a safe guess: 0.3 GB were measured on Amazon Beauty, which has no pictures


def workers(runtime: Runtime, device: "torch.device") -> int:
    """The number of parallel runs, limited by cores and by GPU memory. No result depends on it.

    One small model leaves a GPU mostly idle: launching a step on the CPU takes longer than computing it.
    """
    processes = len(os.sched_getaffinity(0)) // runtime.threads
    if device.type == "cuda":
        import torch

        processes = min(processes, torch.cuda.get_device_properties(device).total_memory // GPU_BYTES_A_RUN)
    return max(1, processes)


if __name__ == "__main__":
    enter(project()[1].runtime)
    os.execvp(sys.argv[1], sys.argv[1:])
