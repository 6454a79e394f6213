import subprocess
import sys
from pathlib import Path

import pytest

from mmrec import config, sources
from mmrec.sources.__main__ import main

DEMO = config.DemoSource(
    kind="demo", seed=1, shoppers=5, items=20, mean_length=5.0, image=0.2, text=0.2, category=0.2, popularity=0.2,
    noise=0.2, missing=0.1, permute_items=False,
)  # fmt: skip


def test_every_kind_has_a_reader():
    placed = set(config.PlacedSource.__annotations__["kind"].__args__)
    assert set(sources.READERS) == placed | {"demo"}
    assert set(sources.PLACED) == placed | {"amazon"}


def test_demo_is_fetched_and_read(tmp_path):
    sources.fetch(DEMO, tmp_path / "raw" / "demo")
    tables = sources.read(DEMO, tmp_path / "raw" / "demo")
    assert len(tables.items) == 20 and tables.interactions["user_id"].nunique() == 5


@pytest.mark.parametrize(
    "source",
    [
        *(config.PlacedSource(kind=kind) for kind in ("folder", "hm", "movielens")),
        config.AmazonSource(kind="amazon", release=2014, category="Beauty"),
    ],
    ids=lambda source: source.kind,
)
def test_what_a_person_places_is_not_fetched(tmp_path, source):
    with pytest.raises(sources.SourceError, match=f"of kind {source.kind} is not fetched: place .* in {tmp_path}"):
        sources.fetch(source, tmp_path)
    with pytest.raises(sources.SourceError, match="is missing: place it in"):
        sources.read(source, tmp_path)


def test_no_torch():
    code = "import sys, mmrec.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = Path(__file__).parents[3]
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMREC_WORK", raising=False)
    return tmp_path


def test_the_command_writes_raw_data(project, monkeypatch):
    made = []
    monkeypatch.setattr("mmrec.sources.__main__.fetch", lambda source, folder: made.append((source.kind, folder)))
    main(["fetch", "demo"])
    assert made == [("demo", project / "data" / "raw" / "demo")]


@pytest.mark.parametrize(
    ("dataset", "message"), [("nothing", "no data set 'nothing'; one of demo"), ("hm", "not fetched")]
)
def test_the_command_ends_with_one_line(project, dataset, message):
    with pytest.raises(SystemExit, match=message):
        main(["fetch", dataset])
