import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmrec import files
from mmrec.files import atomic, remove_leftovers, replacing, sha256


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "folder" / "file.txt"
    with atomic(target) as path:
        path.write_text("whole")
        assert path.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"]


def test_a_failed_block_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"


def test_leftovers_of_killed_writers_are_ignored(tmp_path):
    target = tmp_path / "file.txt"
    with pytest.raises(RuntimeError), atomic(target) as path:
        path.write_text("half of something long")
        raise RuntimeError
    with atomic(target) as path:
        path.write_text("new")
    assert target.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_threads_may_write_the_same_file(tmp_path):
    """Each writes beside it under a name of its own; the last one to end wins."""
    target, both = tmp_path / "file.txt", threading.Barrier(2)

    def write(text: str) -> None:
        with atomic(target) as path:
            path.write_text(text)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, ["one", "two"]))
    assert target.read_text() in ("one", "two")
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    for name in (".a.txt.1-2.tmp", ".b.txt.1-2.tmp", "a.txt", ".a.txt.part", "a.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".a.txt.1-2.tmp").write_text("")
    remove_leftovers(tmp_path, "a.txt")
    assert not (tmp_path / ".a.txt.1-2.tmp").exists() and (tmp_path / ".b.txt.1-2.tmp").exists()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.txt.part", "a.tmp", "a.txt", "below"]
    assert (tmp_path / "below" / ".a.txt.1-2.tmp").exists()
    remove_leftovers(tmp_path / "nowhere")


def test_sha256_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_folder_is_replaced_when_the_block_ends(tmp_path):
    folder = tmp_path / "new" / "folder"
    for content in ("first", "second"):
        with replacing(folder) as partial:
            (partial / content).touch()
            assert not (folder / content).exists()
        assert [path.name for path in folder.iterdir()] == [content]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_a_failed_block_leaves_the_folder_that_was_there(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(RuntimeError), replacing(tmp_path / "folder") as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old"]
    with replacing(tmp_path / "folder") as partial:  # nothing is left of the half
        assert list(partial.iterdir()) == []


def test_a_folder_is_never_half_removed(tmp_path, monkeypatch):
    removed = []
    monkeypatch.setattr(files.shutil, "rmtree", lambda path, **_: removed.append(path.name))
    (tmp_path / "folder").mkdir()
    with replacing(tmp_path / "folder"):
        pass
    assert set(removed) == {"folder.partial", "folder.old"}
