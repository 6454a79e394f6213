"""Folders and files of the project."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmrec.config.types import ConfigError


def _below_work(pattern: str) -> Callable[..., Path]:
    """A method: names, such as that of a data set, -> a path below `work`."""
    return lambda paths, *names: paths.work / pattern.format(*names)


@dataclass(frozen=True)
class Paths:
    """`MMREC_WORK` moves computed files elsewhere, so that a check can start from nothing."""

    root: Path  # holds params.yaml and notebooks/
    work: Path  # holds data/, .runs/ and reports/

    # Each takes a data set. Only the stage that makes or fetches raw files writes to `raw`.
    raw = _below_work("data/raw/{}")  # as the provider ships it
    downloads = _below_work("data/downloads/{}")  # fetched so far; a person without internet places files here
    interim = _below_work("data/interim/{}")  # tables of every source: interactions.parquet, items.parquet
    processed = _below_work("data/processed/{}")  # sequences, id maps, features/<modality>.safetensors
    results = _below_work("data/results/{}")  # per-user ranks of all experiments
    # Committed. `table` and `figure` take a name, too.
    tables = _below_work("reports/{}/tables")
    table = _below_work("reports/{}/tables/{}.csv")  # written by `mmrec.report.tables.save`
    figure = _below_work("reports/{}/figures/{}.png")
    archive = _below_work("reports/{}/runs.parquet")  # finished runs, see `mmrec.experiments.archive`
    # Attributes: SHA-256 and size of every file that was ever fetched, committed; and the store, safe to delete.
    checksums = property(lambda paths: paths.root / "references" / "checksums.json")
    runs = property(lambda paths: paths.work / ".runs")  # see `mmrec.experiments.store`

    @classmethod
    def find(cls) -> "Paths":
        """From the working directory upwards: papermill starts in the root, nbval in the notebook's folder.

        Raises ConfigError: no params.yaml here or in any folder above.
        """
        here = Path.cwd()
        for root in (here, *here.parents):
            if (root / "params.yaml").is_file():
                return cls(root, root / os.environ.get("MMREC_WORK", ""))
        raise ConfigError(f"no params.yaml in {here} or above: start inside the project")

    def group(self, dataset: str, group: str) -> Path:
        """Curves and per-user ranks of a group's finished runs: `main` is one stage, all others another."""
        return self.work / "data" / "trained" / dataset / ("main" if group == "main" else f"ablations/{group}")

    def reports(self, dataset: str = "") -> Path:
        """Committed reports of a data set, or of all together."""
        return self.work / "reports" / dataset
