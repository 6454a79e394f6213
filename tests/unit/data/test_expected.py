import pytest

from mmrec.config import Statistics
from mmrec.data.preprocessing import SequenceError, verdict

REPORT = {"users": 3819, "items": 1494, "interactions": 27_000, "left_by_core": 5}


def published(**changes):
    return Statistics(**({"users": 3819, "items": 1494, "interactions": 27_000} | changes))


def test_nothing_is_published():
    assert verdict(REPORT, None) == "no statistics of these data are published"


@pytest.mark.parametrize("on_mismatch", ["raise", "warn"])
def test_all_is_as_published(on_mismatch):
    assert verdict(REPORT, published(on_mismatch=on_mismatch)).splitlines() == [
        "users: 3,819 here, 3,819 published (+0.0%)",
        "items: 1,494 here, 1,494 published (+0.0%)",
        "interactions: 27,000 here, 27,000 published (+0.0%)",
    ]


def test_interactions_need_not_be_published():
    assert "interactions" not in verdict(REPORT, published(interactions=None))


@pytest.mark.parametrize("changes", [{"users": 3362}, {"items": 1}, {"interactions": 1}])
def test_a_difference_is_an_error_unless_a_warning_is_asked_for(changes):
    with pytest.raises(SequenceError, match="are published"):
        verdict(REPORT, published(**changes))


def test_a_warning_is_framed_and_explains_every_count():
    lines = verdict(REPORT, published(users=3362, interactions=None, on_mismatch="warn")).splitlines()
    assert lines[0] == lines[-1] == "!" * 100
    assert lines[1].startswith("WARNING") and lines[1].isupper()
    assert lines[2:4] == ["users: 3,819 here, 3,362 published (+13.6%)", "items: 1,494 here, 1,494 published (+0.0%)"]
    assert lines[4].startswith("Why this may be") and any(line.startswith("What follows") for line in lines)
