import pytest

from mmrec.data.download.pictures import Outcome, journal
from mmrec.data.sources import SourceError

PICTURE, MISS = Outcome(image="ab/abc.jpg"), Outcome(reason="not found")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "journal.jsonl"


def test_written_outcomes_are_read_by_the_next_process(path):
    with journal(path) as (outcomes, write):
        assert outcomes == {}
        write("http://a/é", PICTURE)
        write("http://b", MISS)
    with journal(path) as (_, write):
        write("http://b", PICTURE)
    with journal(path) as (outcomes, _):
        assert outcomes == {"http://a/é": PICTURE, "http://b": PICTURE}


def test_a_line_is_on_the_disk_when_it_is_written(path):
    with journal(path) as (_, write):
        write("u", PICTURE)
        assert path.read_text() == '{"url": "u", "image": "ab/abc.jpg", "reason": ""}\n'


def test_a_cut_off_last_line_costs_no_other_line(path):
    with journal(path) as (_, write):
        write("a", PICTURE)
        first = path.stat().st_size
        write("é", MISS)
    whole = path.read_bytes()
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        with journal(path) as (outcomes, write):
            assert outcomes == {"a": PICTURE}
            write("c", MISS)
        with journal(path) as (outcomes, _):
            assert outcomes == {"a": PICTURE, "c": MISS}


@pytest.mark.parametrize(
    "line",
    ["words", "[]", "{}", "1", "", '{"url": "u"}x', '{"url": "u", "picture": ""}', '{"image": "", "reason": ""}'],
)
def test_a_damaged_line_is_named_and_the_lock_released(path, line):
    path.parent.mkdir()
    path.write_text(f'{{"url": "u", "image": "", "reason": "empty"}}\n{line}\n')
    with pytest.raises(SourceError, match="^journal.jsonl:2 is damaged: remove .*journal.jsonl to begin anew"):
        with journal(path):
            pass
    path.write_text("")
    with journal(path):
        pass


def test_one_process_at_a_time(path):
    with journal(path):
        with pytest.raises(SourceError, match="is in use: another process fetches pictures into"):
            with journal(path):
                pass
    with journal(path):
        pass
