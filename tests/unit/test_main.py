import errno

import pytest

from mmrec import __main__ as command
from mmrec.data.sources import SourceError


@pytest.fixture
def fails(monkeypatch):
    """Let the command `available` raise an error."""

    def fails(error):
        def do(_):
            raise error

        monkeypatch.setattr(command, "_available", do)
        command.main(["available"])

    return fails


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SourceError("items.csv:3: no item_id"), "items.csv:3: no item_id"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the disk is full: make room, then run the same command again; nothing finished is lost",
        ),
        (RuntimeError("first\nsecond"), "RuntimeError: first (MMREC_DEBUG=1 shows where)"),
        (KeyError(), "KeyError: no message (MMREC_DEBUG=1 shows where)"),
    ],
)
def test_an_error_ends_in_one_line(fails, monkeypatch, error, line):
    monkeypatch.delenv("MMREC_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        fails(error)
    assert ended.value.code == line


def test_a_traceback_is_shown_where_asked_for(fails, monkeypatch):
    monkeypatch.setenv("MMREC_DEBUG", "1")
    with pytest.raises(RuntimeError, match="first"):
        fails(RuntimeError("first"))


def test_an_interrupt_says_that_nothing_is_lost(fails, capsys):
    with pytest.raises(SystemExit) as ended:
        fails(KeyboardInterrupt())
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped; nothing finished is lost, and the same command goes on from here\n"
