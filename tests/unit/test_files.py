import hashlib

import pytest

from mmrec.files import atomic, sha256


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "folder" / "file.txt"
    with atomic(target) as path:
        path.write_text("whole")
        assert path.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"]


def test_a_failed_block_leaves_what_was_there(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"


def test_what_a_killed_writer_left_beside_does_not_matter(tmp_path):
    target = tmp_path / "file.txt"
    with pytest.raises(RuntimeError), atomic(target) as path:
        path.write_text("half of something long")
        raise RuntimeError
    with atomic(target) as path:
        path.write_text("new")
    assert target.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_sha256_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
