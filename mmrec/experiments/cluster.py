"""Runs of the grid as tasks of a Ray cluster, for `runtime.engine: ray`. docs/scale.md shows its use.

Nodes share no disk. Code, settings and data reach them through Ray. Checkpoints, progress and finished runs come back
to the driver's store of runs, which looks the same after either engine: one continues the other's runs.
"""

import io
import logging
import math
import os
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import mmrec
from mmrec import runtime
from mmrec.config import Config, ConfigError, Experiment, Paths
from mmrec.experiments import archive, store
from mmrec.experiments.inputs import Data, load_data
from mmrec.experiments.run import commit, run, run_key
from mmrec.files import atomic
from mmrec.progress import Progress, report

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise ConfigError("runtime.engine: ray is not installed: pip install '.[scale]', or say local") from error

RETRIES = 20  # of a run, each from its last checkpoint; a bound, for a run may kill every process that trains it
SECONDS_BETWEEN_CHECKPOINTS = 10.0  # a checkpoint is four times as large as the weights
CUDA_CONTEXT = 2**29  # bytes that a process takes on a GPU besides its tensors


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Home:
    """The driver's store of runs and its progress, for tasks on other nodes. It lives on the driver's node."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.places: dict[str, str] = {}  # run -> node and process that train it
        self.lines: list[str] = []

    def begin(self, name: str, label: str, place: str) -> tuple[bool, bytes | None]:
        """Whether the run is finished, and its last checkpoint, if any."""
        folder, checkpoint = self.runs / name, None
        if store.finished(folder):
            return True, None
        with suppress(FileNotFoundError):
            checkpoint = (folder / "checkpoint.pt").read_bytes()
        if lost := self.places.get(name):
            self.lines.append(f"{label}: lost on {lost}")
        self.places[name] = place
        self.lines.append(f"{label}: {'continues' if checkpoint else 'begins'} on {place}")
        return False, checkpoint

    def keep(self, name: str, lines: list[str], files: dict[str, bytes]) -> None:
        """Add progress lines and write files of a run; run.json, written last, finishes it."""
        self.lines += lines
        folder = self.runs / name
        if not store.finished(folder):
            for file in sorted(files, key=lambda file: file == "run.json"):
                with atomic(folder / file) as path:
                    path.write_bytes(files[file])
        if store.finished(folder):
            (folder / "checkpoint.pt").unlink(missing_ok=True)

    def take_lines(self) -> list[str]:
        """Progress since the last call."""
        lines, self.lines = self.lines, []
        return lines


def train(
    home: Any, data: Data, settings: Config, experiment: Experiment, key: dict[str, Any], label: str, seconds: float
) -> None:
    """One run, in a folder of its own on this node; a checkpoint goes home every `seconds`.

    Raises:
        ConfigError: the run's key on this node differs from the driver's `key`, for instance in torch's version.
    """
    runtime.prepare(settings.runtime_of(experiment.dataset))
    data, name = _moved(data, torch.device(key["device"])), store.run_folder(key, Path()).name
    place = f"node {ray.get_runtime_context().get_node_id()[:8]} ({socket.gethostname()}), process {os.getpid()}"
    mine = run_key(experiment, key["seed"], data, settings)
    if differing := [f"{entry}: {mine[entry]}, not {key[entry]}" for entry in key if mine[entry] != key[entry]]:
        raise ConfigError(f"{label}: {place} has another {'; '.join(differing)}: install the driver's versions there")
    finished, checkpoint = ray.get(home.begin.remote(name, label, place))
    if finished:
        return
    with tempfile.TemporaryDirectory(prefix="mmrec-") as folder:
        runs = Path(folder)
        if checkpoint:
            (runs / name).mkdir()
            (runs / name / "checkpoint.pt").write_bytes(checkpoint)
        with _sending(home, runs, name, seconds):
            run(experiment, key["seed"], data, settings, runs, label)
        files = {path.name: path.read_bytes() for path in (runs / name).iterdir()}
        ray.get(home.keep.remote(name, [], files))


def _moved(data: Data, device: torch.device) -> Data:
    features = {name: (matrix.to(device), mask.to(device)) for name, (matrix, mask) in data.features.items()}
    return replace(data, sequences=data.sequences.to(device), features=features)


@contextmanager
def _sending(home: Any, runs: Path, name: str, seconds: float) -> Iterator[None]:
    """Send progress and new checkpoints home while the block trains, apart from it: training does not wait."""
    progress, checkpoint, done = runs / "progress", runs / name / "checkpoint.pt", threading.Event()
    progress.touch()
    os.environ["MMREC_PROGRESS"] = str(progress)

    def send() -> None:
        last_look, told, sent = False, 0, None
        while not last_look:
            last_look, files = done.wait(seconds), {}
            with suppress(FileNotFoundError), checkpoint.open("rb") as file:  # gone: the run is finished
                if (written := os.fstat(file.fileno()).st_mtime_ns) != sent:
                    files, sent = {checkpoint.name: file.read()}, written
            lines = progress.read_text(encoding="utf-8").splitlines()
            ray.get(home.keep.remote(name, lines[told:], files))
            told = len(lines)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_all(
    paths: Paths,
    settings: Config,
    device: torch.device,
    archived: Path | None,
    tasks: list[tuple[Experiment, int, str]],
    progress: Progress,
    seconds: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> None:
    """Train the runs of one data set on the cluster of RAY_ADDRESS, else on one that starts and ends here.

    Args:
        device: of the runs, and of this machine, whose memory stands for that of all GPUs.
        archived: file to which finished runs are added, if any.
        tasks: experiment, seed, and the start of progress lines.
    """
    if not tasks:
        return
    dataset = tasks[0][0].dataset
    arithmetic = settings.runtime_of(dataset)
    data = load_data(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    asked = ray.remote(train).options(
        num_cpus=arithmetic.threads,
        num_gpus=gpu_share(archived, device) if device.type == "cuda" else 0,
        max_retries=RETRIES,
    )
    with _connected(runtime.environment(arithmetic) | {"MMREC_COMMIT": commit()}):
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        home = Home.options(scheduling_strategy=here).remote(paths.runs.resolve())
        shared = ray.put(_moved(data, torch.device("cpu")))
        pending: dict[Path, Any] = {}
        places: Counter[Path] = Counter()  # experiments with equal settings share a run
        for experiment, seed, place in tasks:
            key, label = run_key(experiment, seed, data, settings), f"{place} {dataset} {experiment.name} seed {seed}"
            folder = store.run_folder(key, paths.runs)
            places[folder] += 1
            if folder not in pending:
                pending[folder] = asked.remote(home, shared, settings, experiment, key, label, seconds)
        while pending:
            done, _ = ray.wait(list(pending.values()), timeout=1)
            for line in ray.get(home.take_lines.remote()):
                report(line)
            for folder in [folder for folder, task in pending.items() if task in done]:
                try:
                    ray.get(pending.pop(folder))
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error  # its message is one line
                if archived:
                    archive.append(archived, [store.read(folder)])
                progress.advance(places[folder])


def gpu_share(archived: Path | None, device: torch.device) -> float:
    """Part of a GPU that a run takes: by the largest archived run of the data set, else by `GPU_BYTES_A_RUN`."""
    records = archive.records(archived).values() if archived else []
    peaks = [one["peak_memory_bytes"] for one in records if one["key"]["device"] == "cuda"]
    # A quarter more: the allocator's memory lies in pieces.
    needed = 1.25 * max(peaks) + CUDA_CONTEXT if peaks else runtime.GPU_BYTES_A_RUN
    total = torch.cuda.get_device_properties(device).total_memory
    return min(1.0, math.ceil(100 * needed / total) / 100)


@contextmanager
def _connected(variables: dict[str, str]) -> Iterator[None]:
    """Connect to the cluster; its processes get this package and these environment variables."""
    address = os.environ.get("RAY_ADDRESS", "local")
    if address.startswith("ray://"):
        raise ConfigError(f"RAY_ADDRESS: {address} is a client's; start the driver on a node and say auto")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray would print advice
    code = {"py_modules": [mmrec], "env_vars": variables}
    # A notebook keeps what is printed. So Ray tells errors alone, and its lines about lost workers become progress.
    ray.init(address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with redirect_stdout(_Reported()):
            yield
    finally:
        ray.shutdown()


class _Reported(io.TextIOBase):
    """The first line of each printed text becomes progress: Ray appends a log of the lost node."""

    def write(self, text: str) -> int:
        if text.strip():
            report(text.strip().splitlines()[0])
        return len(text)
