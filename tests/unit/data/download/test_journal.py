import pytest

from mmrec.data.download.pictures import Journal, Outcome
from mmrec.data.sources import SourceError

PICTURE, MISS = Outcome(image="ab/abc.jpg"), Outcome(reason="not found")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "journal.jsonl"


def test_what_was_written_is_read_by_the_next(path):
    with Journal(path) as journal:
        assert journal.outcomes == {}
        journal.write("http://a/é", PICTURE)
        journal.write("http://b", MISS)
    with Journal(path) as journal:
        journal.write("http://b", PICTURE)
    with Journal(path) as journal:
        assert journal.outcomes == {"http://a/é": PICTURE, "http://b": PICTURE}


def test_a_line_is_on_the_disk_when_it_is_written(path):
    with Journal(path) as journal:
        journal.write("u", PICTURE)
        assert path.read_text() == '{"url": "u", "image": "ab/abc.jpg", "reason": ""}\n'


def test_wherever_the_last_line_is_cut_off_the_others_stay(path):
    with Journal(path) as journal:
        journal.write("a", PICTURE)
        first = path.stat().st_size
        journal.write("é", MISS)
    whole = path.read_bytes()
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            assert journal.outcomes == {"a": PICTURE}
            journal.write("c", MISS)
        with Journal(path) as journal:
            assert journal.outcomes == {"a": PICTURE, "c": MISS}


@pytest.mark.parametrize(
    "line",
    ["words", "[]", "{}", "1", "", '{"url": "u"}x', '{"url": "u", "picture": ""}', '{"image": "", "reason": ""}'],
)
def test_a_line_of_somebody_else(path, line):
    path.parent.mkdir()
    path.write_text(f'{{"url": "u", "image": "", "reason": "empty"}}\n{line}\n')
    with pytest.raises(SourceError, match="^journal.jsonl:2 is damaged: remove .*journal.jsonl to begin anew"):
        Journal(path)
    path.write_text("")
    Journal(path)  # the lock is free again


def test_one_at_a_time(path):
    with Journal(path):
        with pytest.raises(SourceError, match="is in use: another process fetches pictures into"):
            Journal(path)
    with Journal(path):
        pass
