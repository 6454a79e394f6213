from hashlib import sha256
from pathlib import Path

import pytest

from mmrec import config
from mmrec.data import provenance

ROOT = Path(__file__).parents[3]


def test_files_at_hand_are_compared_with_the_record(tmp_path):
    (tmp_path / "same.csv").write_text("a")
    (tmp_path / "other.csv").write_text("b")
    digest = sha256(b"a").hexdigest()
    files = dict.fromkeys(("same.csv", "other.csv", "gone.csv"), digest)
    known = provenance.Provenance(source="a shop", rebuilt="nothing", shown="all", files=files)
    lines = provenance.told(known, tmp_path).splitlines()
    assert lines[:3] == ["source: a shop", "rebuilt: nothing", "shown: all"]
    assert lines[3].endswith(f"SHA-256 {digest}, as recorded")
    assert lines[4].endswith(f"recorded is {digest}") and lines[5].startswith("gone.csv: SHA-256 missing")
    assert "does not know" in provenance.told(None, tmp_path)


def test_every_placed_data_set_of_the_reports_has_a_record():
    known = provenance.load(ROOT / "references" / "provenance.yaml")
    archived = {name for name, of in config.load(ROOT / "params.yaml").datasets.items() if of.archived}
    assert archived - {"movielens_1m_1500_users", "beauty_2014_sampled"} <= set(known)


def test_a_wrong_key_is_named(tmp_path):
    (tmp_path / "provenance.yaml").write_text("shop: {source: a, rebuilt: b, shown: c, file: {}}\n")
    with pytest.raises(config.ConfigError, match=r"provenance.yaml.shop.file: no such key"):
        provenance.load(tmp_path / "provenance.yaml")
