import pytest

from mmrec import progress


@pytest.fixture
def clock(monkeypatch):
    """Time that only moves when told."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """What the file named by MMREC_PROGRESS holds."""
    file = tmp_path / "progress"
    monkeypatch.setenv("MMREC_PROGRESS", str(file))
    return lambda: file.read_text().splitlines() if file.exists() else []


def test_lines_go_to_the_file_and_nowhere_else(lines, capsys):
    progress.report("one")
    progress.report("two")
    assert lines() == ["one", "two"]
    assert capsys.readouterr() == ("", "")


def test_without_the_file_lines_go_to_stderr(monkeypatch, capsys):
    monkeypatch.delenv("MMREC_PROGRESS", raising=False)
    progress.report("one")
    assert capsys.readouterr() == ("", "one\n")


def test_rate_and_time_left(lines, clock):
    run = progress.Progress("pictures", 100)
    clock[0] += 10
    run.advance(25)
    assert lines() == ["pictures: 25/100, 2.5/s, 0:00:30 left"]


def test_few_lines_and_a_last_one(lines, clock):
    run = progress.Progress("pictures", 100)
    for _ in range(100):
        clock[0] += 0.125
        run.advance()
    assert [line.split(",")[0] for line in lines()] == ["pictures: 40/100", "pictures: 80/100", "pictures: 100/100"]
    assert lines()[-1].endswith("8/s, in 0:00:12")


def test_units_of_earlier_runs_do_not_raise_the_rate(lines, clock):
    run = progress.Progress("pictures", 4000, done=1000)
    clock[0] += 5
    run.advance(5)
    assert lines() == ["pictures: 1005/4000, 1/s, 0:49:55 left"]


def test_bytes_are_shown_as_megabytes(lines, clock):
    run = progress.Progress("reviews.json.gz", 40_000_000, done=10_000_000, show=progress.megabytes)
    clock[0] += 5
    run.advance(7_500_000)
    assert lines() == ["reviews.json.gz: 17.5 MB/40.0 MB, 1.5 MB/s, 0:00:15 left"]
