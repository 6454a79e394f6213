import gzip
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from mmrec.data.sources.amazon import lines


@given(st.lists(st.integers(0, 70)), st.booleans())
def test_numbered_lines_are_those_of_the_file_and_too_long_ones_are_empty(tmp_path_factory, lengths, is_ended):
    """A line has at most 20 bytes with its newline. A last line may lack the newline, and a file may end with one."""
    path = tmp_path_factory.mktemp("lines") / "lines.gz"
    whole = [bytes([ord("a") + number % 26]) * length for number, length in enumerate(lengths)]
    content = b"\n".join(whole) + b"\n" * is_ended
    path.write_bytes(gzip.compress(content))
    with mock.patch.object(lines, "LONGEST", 20):
        found = list(lines.numbered_lines(path))
    expected = [b"" if len(line) > 20 else line.removesuffix(b"\n") for line in content.splitlines(keepends=True)]
    assert found == list(enumerate(expected, start=1))
