import subprocess
import sys
from pathlib import Path

import pytest
from shop_files import write

from mmrec import config
from mmrec.__main__ import main
from mmrec.data import sources

LISTENS = "mmrec.data.download.files._listens"
DEMO = config.DemoSource(
    kind="demo", seed=1, shoppers=5, items=20, mean_length=5.0, image=0.2, text=0.2, category=0.2, popularity=0.2,
    noise=0.2, missing=0.1, permute_items=False,
)  # fmt: skip


def test_every_kind_has_a_reader():
    placed = set(config.PlacedSource.__annotations__["kind"].__args__)
    assert set(sources.READERS) == placed | {"demo"}
    assert set(sources.PLACED) == placed | {"amazon", "movielens"}


def test_demo_is_fetched_and_read(tmp_path):
    sources.fetch(DEMO, tmp_path / "raw" / "demo", tmp_path / "downloads", tmp_path / "checksums.json")
    tables = sources.read(DEMO, tmp_path / "raw" / "demo")
    assert len(tables.items) == 20 and tables.interactions["user_id"].nunique() == 5


@pytest.mark.parametrize(
    "source",
    [
        *(config.PlacedSource(kind=kind) for kind in ("folder", "hm")),
        config.MovieLensSource(kind="movielens"),
        config.AmazonSource(kind="amazon", release=2014, category="Beauty"),
    ],
    ids=lambda source: source.kind,
)
def test_placed_sources_are_not_fetched(tmp_path, source):
    with pytest.raises(sources.SourceError, match=f"of kind {source.kind} is not fetched: place .* in {tmp_path}"):
        sources.fetch(source, tmp_path, tmp_path / "downloads", tmp_path / "checksums.json")
    with pytest.raises(sources.SourceError, match="is missing: place it in"):
        sources.read(source, tmp_path)


def test_no_torch():
    code = "import sys, mmrec.data.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = Path(__file__).parents[4]
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMREC_WORK", raising=False)
    return tmp_path


def test_the_command_writes_raw_data(project, monkeypatch):
    made = []
    monkeypatch.setattr("mmrec.data.sources.fetch", lambda source, *places: made.append((source.kind, *places)))
    main(["fetch", "demo"])
    data = project / "data"
    assert made == [
        ("demo", data / "raw" / "demo", data / "downloads" / "demo", project / "references" / "checksums.json")
    ]


@pytest.mark.parametrize(
    ("dataset", "message"), [("nothing", "no data set 'nothing'; one of .*demo"), ("hm", "not fetched")]
)
def test_the_command_ends_with_one_line(project, dataset, message):
    with pytest.raises(SystemExit, match=message):
        main(["fetch", dataset])


def test_placed_files_are_looked_for_and_left_alone(tmp_path, capsys):
    folder, source = tmp_path / "raw", config.PlacedSource(kind="folder")
    write(folder / "images" / "a.png", "kept")
    (folder / "items.csv").symlink_to(write(tmp_path / "elsewhere.csv", "item_id"))  # DVC reads the file behind it
    sources.fetch(source, folder, tmp_path, tmp_path)
    assert capsys.readouterr().out == f"{folder} holds the placed files of a data set of kind folder\n"
    assert (folder / "images" / "a.png").read_text() == "kept"


@pytest.mark.parametrize("link", ["raw", "raw/images", "raw/images/nothing.png"])
def test_links_that_dvc_does_not_follow_are_refused(tmp_path, link):
    elsewhere = write(tmp_path / "elsewhere" / "a.png", "").parent
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(elsewhere / "gone" if "nothing" in link else elsewhere)
    with pytest.raises(sources.SourceError, match=f"{tmp_path / link} links to a folder or to nothing"):
        sources.fetch(config.PlacedSource(kind="folder"), tmp_path / "raw", tmp_path, tmp_path)


def test_available_are_made_placed_and_served_data_sets(project, monkeypatch, capsys):
    monkeypatch.setattr(LISTENS, lambda host, port: host == "jmcauley.ucsd.edu" and port == 443)
    (project / "data" / "raw" / "hm").mkdir(parents=True)
    main(["available"])
    printed = capsys.readouterr()
    names = printed.out.split()
    assert {"demo", "demo_null", "hm", "luxury_beauty"} <= set(names)
    assert "movielens_1m" not in names and "beauty_2014" not in names
    left_out = dict(line.split(" is left out: ", 1) for line in printed.err.splitlines())
    placed = {"movielens_1m", "movielens_1m_1500_users", "hm_by_time", "beauty_2014", "beauty_2014_sampled"}
    assert placed <= set(left_out) and not set(left_out) & set(names)
    assert left_out["movielens_1m"].startswith("ml-1m.zip is not in ")
    assert left_out["movielens_1m"].endswith("and files.grouplens.org cannot be reached")
    assert left_out["beauty_2014"].startswith("nobody has placed its reviews and its metadata")
    assert left_out["movielens_1m_1500_users"].startswith("nobody has placed ml-1m/, plots.csv and posters/")


def test_placed_data_are_available_without_a_network(project, monkeypatch, capsys):
    monkeypatch.setattr(LISTENS, lambda host, port: False)
    for name in ("Luxury_Beauty_5.json.gz", "meta_Luxury_Beauty.json.gz"):
        write(project / "data" / "downloads" / "luxury_beauty" / name, "")
        write(
            project / "data" / "raw" / "musical_instruments" / name.replace("Luxury_Beauty", "Musical_Instruments"), ""
        )
    write(project / "data" / "downloads" / "sports_and_outdoors" / "Sports_and_Outdoors_5.json.gz", "")  # half of it
    main(["available"])
    printed = capsys.readouterr()
    assert printed.out.split() == ["demo", "demo_null", "luxury_beauty", "musical_instruments"]
    assert "meta_Sports_and_Outdoors.json.gz is not in" in printed.err


def test_making_the_files_anew_keeps_given_features(tmp_path):
    folder = tmp_path / "raw" / "demo"
    write(folder / "features" / "image.parquet", "vectors")
    write(folder / "stale.csv", "")
    sources.fetch(DEMO, folder, tmp_path / "downloads", tmp_path / "checksums.json")
    assert (folder / "features" / "image.parquet").read_text() == "vectors"
    assert (folder / "items.csv").exists() and not (folder / "stale.csv").exists()
