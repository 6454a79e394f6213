import io
import stat
import zipfile

import pytest
from shop_files import write

from mmrec.data.sources import SourceError, movielens
from mmrec.data.sources.movielens import extract

NAMES = ["ml/a.dat", "ml/b.dat"]


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "films.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ml/a.dat", "a" * 5000)
        file.writestr("ml/b.dat", "b")
        file.writestr("ml/README", "not wanted")
        file.writestr("../outside", "leaves the folder")
    return tmp_path / "films.zip"


def test_named_members_are_extracted_and_nothing_else(archive, tmp_path):
    extract(archive, NAMES, tmp_path / "out")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == set(NAMES)
    assert (tmp_path / "out" / "ml" / "a.dat").read_text() == "a" * 5000
    assert not (tmp_path / "outside").exists()


def test_a_link_is_not_followed(tmp_path):
    write(tmp_path / "secret", "secret")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(link, str(tmp_path / "secret"))
    extract(tmp_path / "x.zip", ["link"], tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()
    assert (tmp_path / "out" / "link").read_text() == str(tmp_path / "secret")


def test_no_more_bytes_than_expected(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "LARGEST", 4999)
    with pytest.raises(SourceError, match=r"films\.zip is not .* \(ml/a\.dat has 5000 bytes, at most 4999 .*fetch it"):
        extract(archive, NAMES, tmp_path / "out")
    assert not (tmp_path / "out" / "ml" / "a.dat").exists()


def test_a_missing_archive(tmp_path):
    with pytest.raises(SourceError, match=f"^films.zip is missing: place it in {tmp_path}$"):
        extract(tmp_path / "films.zip", NAMES, tmp_path / "out")


def damaged(content, what):
    if what == "web page":
        return b"<html>not found</html>"
    if what == "cut off":
        return content[:-20]
    if what == "other bytes":
        return content.replace(b"ml/a.dat", b"ml/c.dat")
    start = content.index(b"ml/a.dat") + len("ml/a.dat")
    return content[:start] + bytes(5) + content[start + 5 :]


@pytest.mark.parametrize("what", ["web page", "cut off", "other bytes", "zeros"])
def test_a_damaged_archive_ends_in_one_line(archive, tmp_path, what):
    archive.write_bytes(damaged(archive.read_bytes(), what))
    with pytest.raises(SourceError) as refusal:
        extract(archive, NAMES, tmp_path / "out")
    assert str(refusal.value).startswith("films.zip is not the archive that it should be (")
    assert "\n" not in str(refusal.value)


def test_a_locked_archive_ends_in_one_line(tmp_path):
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as file:
        file.writestr("ml/a.dat", "a")
    content = bytearray(plain.getvalue())
    content[6] |= 1  # of the member and of the directory: encrypted
    content[content.index(b"PK\x01\x02") + 8] |= 1
    write(tmp_path / "films.zip", bytes(content))
    with pytest.raises(SourceError, match="password"):
        extract(tmp_path / "films.zip", ["ml/a.dat"], tmp_path / "out")
