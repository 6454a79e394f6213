"""Runs on a real Ray cluster of two nodes on this machine: nodes, workers and the driver are killed, the bits stay."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ruamel.yaml import YAML

from mmrec import config, runtime
from mmrec.experiments import grid
from mmrec.features import store

try:
    from ray.cluster_utils import Cluster
except ModuleNotFoundError:
    warnings.warn("NO TEST OF THE RAY ENGINE: pip install 'ray[default]>=2.60'", stacklevel=1)
    pytest.skip("Ray is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow
SHOP = Path(__file__).parents[1] / "fixtures" / "shop.yaml"
PORTS = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
DRIVER = """
import sys
from functools import partial
from pathlib import Path

from mmrec import config, runtime
from mmrec.experiments import cluster, grid

root = Path(sys.argv[1])
settings = config.load(root / "params.yaml")
cluster.run_all = partial(cluster.run_all, seconds=0.1)
grid.run_groups(config.Paths(root, root), settings, "shop", ["main"], runtime.prepare(settings.runtime))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, shop):
    """Make a project for an engine: two models with two seeds whose training takes some seconds, archived."""

    def project(engine: str) -> config.Paths:
        paths = config.Paths(*[tmp_path_factory.mktemp(engine)] * 2)
        params = YAML(typ="safe").load(SHOP)
        params["runtime"]["engine"] = engine
        params["training"] |= {"epochs": 100, "patience": 100}
        params["datasets"]["shop"]["archived"] = True
        YAML().dump(params, paths.root / "params.yaml")
        folder = paths.processed("shop")
        shop.sequences.save(folder / "sequences.safetensors")
        for modality, matrices in shop.features.items():
            store.save(folder / "features" / f"{modality}.safetensors", store.Features(*matrices, {}))
        return paths

    return project


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one processor each. Drivers are on the first."""
    pace = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8, "worker_register_timeout_seconds": 300}
    head = {"include_dashboard": False, "no_monitor": True, "_system_config": pace}
    with pytest.MonkeyPatch.context() as patch:
        # Agents without metrics start in half the time.
        patch.setattr("ray._private.utils.get_dashboard_dependency_error", lambda: "left out", raising=False)
        found = Cluster()
        for node in (head, {}):
            add_node(found, num_cpus=1, object_store_memory=100 * 2**20, include_log_monitor=False, **node)
        yield found
        found.shutdown()


def add_node(cluster: Cluster, **node) -> None:
    """Ray gives the agents of a node fifteen seconds to start. Busy processors need given ports and repetitions."""
    for attempt in range(6):
        try:
            cluster.add_node(**node, **{f"{name}_port": free_port() for name in PORTS})
            return
        except Exception:
            if attempt == 5:
                raise


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


class Driver:
    """A process that trains a project's runs, and its lines so far."""

    def __init__(self, paths: config.Paths, address: str) -> None:
        self.paths, self.told, self.printed = paths, paths.root / "stderr", paths.root / "stdout"
        (paths.root / "driver.py").write_text(DRIVER)
        settings = config.load(paths.root / "params.yaml").runtime
        variables = os.environ | runtime.environment(settings) | {"RAY_ADDRESS": address}
        command = [sys.executable, str(paths.root / "driver.py"), str(paths.root)]
        with self.told.open("w") as told, self.printed.open("w") as printed:
            self.process = subprocess.Popen(command, stdout=printed, stderr=told, cwd=paths.root, env=variables)

    @property
    def lines(self) -> list[str]:
        return self.told.read_text().splitlines()

    def wait(self, found):
        """The first true answer of `found()`."""
        until = time.monotonic() + 300
        while not (answer := found()):
            assert time.monotonic() < until and self.process.poll() is None, self.told.read_text()
            time.sleep(0.05)
        return answer

    def end(self) -> list[str]:
        assert self.process.wait(300) == 0, self.told.read_text()
        assert self.printed.read_text() == "", "a notebook would keep it"
        return self.lines

    def in_training(self, node: str = "", besides: str = "") -> re.Match | None:
        """Label, node and process of a run on `node` that came to epoch 10 at least and is far from its end."""
        text = "\n".join(self.lines)
        for started in re.finditer(r"^(.*): (?:begins|continues) on node (\w+) \(.*\), process (\d+)$", text, re.M):
            reached = [epochs[-1] for epochs in epochs_of(self.lines, started[1]) if epochs]
            here = not node or node.startswith(started[2])
            if here and started[1] != besides and reached and 10 <= reached[-1] < 60:
                return started
        return None


def results(paths: config.Paths) -> dict[str, bytes]:
    """Ranks, curves and weights."""
    files = [*paths.group("shop", "main").iterdir(), *paths.runs.glob("*/model.safetensors")]
    return {str(path.relative_to(paths.work)): path.read_bytes() for path in files}


def epochs_of(lines: list[str], label: str) -> list[list[int]]:
    """Epochs that a run reported, a list for each process that trained it."""
    found: list[list[int]] = []
    for line in lines:
        if re.match(rf"{re.escape(label)}: (begins|continues) on ", line):
            found.append([])
        elif told := re.match(rf"{re.escape(label)}: epoch (\d+),", line):
            found[-1].append(int(told[1]))
    return found


@pytest.fixture(scope="module")
def local(project):
    """Results of engine local."""
    paths = project("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "workers", lambda *_: 1)
        grid.run_groups(paths, config.load(paths.root / "params.yaml"), "shop", ["main"], torch.device("cpu"))
    found = results(paths)
    assert len(found) == 2 + 4
    return found


def test_a_killed_driver_goes_on_and_trains_nothing_finished_again(cluster, project, local):
    driver = Driver(project("ray"), cluster.address)
    driver.wait(lambda: any(driver.paths.runs.glob("*/model.safetensors")) and driver.in_training())
    interrupted = driver.in_training()[1].split("] ")[1]
    driver.process.kill()
    driver.process.wait()
    finished = {path: path.read_bytes() for path in driver.paths.runs.glob("*/run.json")}
    assert 1 <= len(finished) <= 5
    lines = (again := Driver(driver.paths, cluster.address)).end()
    assert results(again.paths) == local
    assert {path: path.read_bytes() for path in finished} == finished, "a finished run was trained again"
    starts = [line for line in lines if re.search(": (begins|continues) on ", line)]
    assert len(starts) == 6 - len(finished)
    (continued,) = [line.split(": continues on ")[0] for line in starts if f"{interrupted}: continues on " in line]
    assert epochs_of(lines, continued)[0][0] > 5


def test_runs_of_a_killed_worker_and_of_a_killed_node_go_on_from_their_checkpoints(cluster, project, local):
    driver = Driver(project("ray"), cluster.address)
    worker = driver.wait(driver.in_training)
    os.kill(int(worker[3]), signal.SIGKILL)
    (node,) = cluster.worker_nodes
    other = driver.wait(lambda: driver.in_training(node.node_id, besides=worker[1]))
    cluster.remove_node(node, allow_graceful=False)
    lines = driver.end()
    assert results(driver.paths) == local
    lost = Counter(line.split(": lost on ")[0] for line in lines if ": lost on " in line)
    assert {worker[1], other[1]} == set(lost)
    labels = {line.split(": begins on ")[0] for line in lines if ": begins on " in line}
    assert len(labels) == 6
    for label in labels:
        first, *further = epochs_of(lines, label)
        assert len(further) == lost[label], "a run was trained again though nothing killed it"
        for epochs in further:
            assert 5 < epochs[0] <= first[-1] + 5, "not from its last checkpoint"


def test_a_run_takes_the_part_of_a_gpu_that_was_measured(monkeypatch):
    from mmrec.experiments import cluster

    device = SimpleNamespace(total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    assert cluster.gpu_share(None, torch.device("cuda")) == 0.25  # 6 of 24 GiB
    records = [(kind, gibibytes * 2**30) for kind, gibibytes in (("cuda", 2), ("cuda", 1), ("cpu", 9))]
    held = {n: {"key": {"device": kind}, "peak_memory_bytes": peak} for n, (kind, peak) in enumerate(records)}
    monkeypatch.setattr(cluster.archive, "records", lambda _: held)
    assert cluster.gpu_share(Path("runs.parquet"), torch.device("cuda")) == 0.13  # 1.25 x 2 + 0.5 of 24 GiB
    device.total_memory = 2**30
    assert cluster.gpu_share(None, torch.device("cuda")) == 1.0
