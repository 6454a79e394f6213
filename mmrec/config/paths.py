"""Where things lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from mmrec.config.types import ConfigError


@dataclass(frozen=True)
class Paths:
    """Folders of the project. `MMREC_WORK` moves what is computed elsewhere, so that a check can start from nothing."""

    root: Path  # holds params.yaml and notebooks/
    work: Path  # holds data/, .runs/ and reports/

    @classmethod
    def find(cls) -> "Paths":
        """From the working directory upwards: papermill starts in the root, nbval in the notebook's folder.

        Raises:
            ConfigError: no params.yaml here or in any folder above.
        """
        here = Path.cwd()
        for root in (here, *here.parents):
            if (root / "params.yaml").is_file():
                return cls(root, root / os.environ.get("MMREC_WORK", ""))
        raise ConfigError(f"no params.yaml in {here} or above: start inside the project")

    def raw(self, dataset: str) -> Path:
        """As the provider ships it; never written to, except by the stage that makes or fetches it."""
        return self.work / "data" / "raw" / dataset

    def downloads(self, dataset: str) -> Path:
        """What has been fetched of a data set so far, and where a person without internet places it."""
        return self.work / "data" / "downloads" / dataset

    def interim(self, dataset: str) -> Path:
        """Tables every source is turned into: interactions.parquet, items.parquet, quality.json."""
        return self.work / "data" / "interim" / dataset

    def processed(self, dataset: str) -> Path:
        """Sequences, id maps and features/<modality>.safetensors."""
        return self.work / "data" / "processed" / dataset

    def results(self, dataset: str) -> Path:
        """Per-user ranks of all experiments."""
        return self.work / "data" / "results" / dataset

    def group(self, dataset: str, group: str) -> Path:
        """Curves and per-user ranks of a group's finished runs: `main` is one stage, all others another."""
        return self.work / "data" / "trained" / dataset / ("main" if group == "main" else f"ablations/{group}")

    def reports(self, dataset: str = "") -> Path:
        """What people read, committed: of a data set, or of all together."""
        return self.work / "reports" / dataset

    def figure(self, dataset: str, name: str) -> Path:
        """A picture of the reports."""
        return self.reports(dataset) / "figures" / f"{name}.png"

    def tables(self, dataset: str) -> Path:
        """All numbers of a data set, committed as CSV files."""
        return self.reports(dataset) / "tables"

    def table(self, dataset: str, name: str) -> Path:
        """One table of the reports; `mmrec.report.tables.save` writes it."""
        return self.tables(dataset) / f"{name}.csv"

    def archive(self, dataset: str) -> Path:
        """Finished runs of a data set, committed; see `mmrec.experiments.archive`."""
        return self.reports(dataset) / "runs.parquet"

    @property
    def checksums(self) -> Path:
        """SHA-256 and size of every file that was ever fetched, committed."""
        return self.root / "references" / "checksums.json"

    @property
    def runs(self) -> Path:
        """What an interrupted stage continues from; safe to delete."""
        return self.work / ".runs"
