"""Is a data set the one that others published numbers of?"""

from dataclasses import replace

from mmrec.config import Statistics
from mmrec.data.preprocessing import SequenceError, check_statistics

RULE = "!" * 100
WARNING = "WARNING: THESE ARE NOT THE DATA THAT NUMBERS ARE PUBLISHED OF"
EXPLANATION = """\
Why this may be: the provider has changed the release since; a download or a placed file is not whole; those who
published filtered otherwise (by pictures, by duplicates, once instead of until nothing changes) and did not say so.
What follows: numbers published of these data are of other users and items. Compare models with each other here, and
with published numbers only in order of magnitude."""


def verdict(report: dict[str, int], expected: Statistics | None) -> str:
    """Counts beside those published, as a reader should see them; if they differ, in a warning hard to overlook.

    Args:
        report: counts after filtering, as `sequences.build` gives them.

    Raises:
        SequenceError: a count differs, and `expected` does not say that a warning is enough.
    """
    if expected is None:
        return "no statistics of these data are published"
    published = {name: getattr(expected, name) for name in ("users", "items", "interactions")}
    lines = [
        f"{name}: {report[name]:,} here, {count:,} published ({report[name] / count - 1:+.1%})"
        for name, count in published.items()
        if count
    ]
    try:
        check_statistics(report, replace(expected, interactions=expected.interactions or report["interactions"]))
    except SequenceError:
        if expected.on_mismatch == "raise":
            raise
        lines = [RULE, WARNING, *lines, EXPLANATION, RULE]
    return "\n".join(lines)
