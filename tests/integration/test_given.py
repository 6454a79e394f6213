"""Notebooks 1 and 2 on a shop of ids alone whose modalities are given vectors."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from mmrec.data.sources import given
from mmrec.features import store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """30 users of 20 items; pictures of 19 of them are given, and texts of all."""
    root = tmp_path_factory.mktemp("project")
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    (root / "references").symlink_to(ROOT / "references")
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    mine = {"title": "vectors", "source": {"kind": "folder"}, "image": "given", "text": "given"}
    params |= {"datasets": {"mine": mine | {"user_core": 1, "item_core": 1}}}
    params["protocol"]["negatives"] = 5
    yaml.dump(params, root / "params.yaml")
    raw = root / "data" / "raw" / "mine"
    raw.mkdir(parents=True)
    items = [f"{item:03}" for item in range(20)]
    walks = [(user, items[(user + step) % 20], 1_500_000_000 + step) for user in range(30) for step in range(6)]
    pd.DataFrame(walks, columns=["user_id", "item_id", "timestamp"]).to_csv(raw / "interactions.csv", index=False)
    pd.DataFrame({"item_id": items}).to_csv(raw / "items.csv", index=False)
    vectors = list(np.random.default_rng(0).normal(size=(20, 4)))
    given.save(pd.DataFrame({"item_id": ["nobody", *items[1:]], "vector": vectors}), raw / "features" / "image.parquet")
    given.save(pd.DataFrame({"item_id": items, "vector": vectors}), raw / "features" / "text.parquet")
    return root


def run(project: Path, stage: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mmrec", "run", stage, "mine"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


@pytest.mark.slow
def test_vectors_become_modalities_of_a_shop_of_ids(project):
    for stage in ("01_prepare_data", "02_extract_features"):
        ended = run(project, stage)
        assert ended.returncode == 0, ended.stderr
    reports = project / "reports" / "mine"
    first, second = ((reports / f"{name}.ipynb").read_text() for name in ("01_prepare_data", "02_extract_features"))
    assert "image.parquet: 20 vectors of 4 numbers, 1 of no item" in first
    assert "1 of 20 items have no image vector" in first and "0 of 20 items have no text vector" in first
    tables = [output["data"]["text/plain"] for cell in json.loads(second)["cells"] for output in cell.get("outputs", [])
              if "text/html" in output.get("data", {})]  # fmt: skip
    neighbours = ["".join(table) for table in tables if "2nd" in "".join(table)]
    assert len(neighbours) == 2 and all(re.search(r"\b0\d\d\b", table) for table in neighbours)
    for modality, present in (("image", 19), ("text", 20)):
        features = store.load(project / "data" / "processed" / "mine" / "features" / f"{modality}.safetensors")
        assert features.meta["counts"]["present"] == present and features.matrix.shape == (21, 4)


@pytest.mark.slow
def test_a_wrong_file_ends_the_first_stage_with_one_line(project):
    path = project / "data" / "raw" / "mine" / "features" / "image.parquet"
    pd.DataFrame({"item_id": ["001", "002"], "vector": [[1.0], [float("nan")]]}).to_parquet(path)
    ended = run(project, "01_prepare_data")
    assert ended.returncode == 1
    assert "SourceError: image.parquet, row 2: number 1 is nan, not finite" in ended.stderr
    assert "Traceback" not in ended.stderr
