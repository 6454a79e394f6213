import gzip
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from mmrec.data.sources.amazon import lines


@given(st.lists(st.integers(0, 70)), st.booleans())
def test_blocks_are_the_file_but_for_what_is_too_long(tmp_path_factory, lengths, is_ended):
    """A line is at most 20 bytes long with its newline; a last one may lack that, and a file end with an empty one."""
    path = tmp_path_factory.mktemp("lines") / "lines.gz"
    whole = [bytes([ord("a") + number % 26]) * length for number, length in enumerate(lengths)]
    path.write_bytes(gzip.compress(b"\n".join(whole) + b"\n" * is_ended))
    if not is_ended and whole[-1:] == [b""]:  # then the newline before it is the last
        whole.pop()
    with mock.patch.object(lines, "LONGEST", 20):
        blocks = list(lines.blocks(path))
    longest = [20 if number == len(whole) - 1 and not is_ended and whole[-1] else 19 for number in range(len(whole))]
    expected = [line if len(line) <= most else b"" for line, most in zip(whole, longest, strict=True)]
    if is_ended and not lengths:
        expected = [b""]
    assert b"".join(block for _, block in blocks) == b"".join(line + b"\n" for line in expected)
    number = 1
    for first, block in blocks:
        assert first == number and block.endswith(b"\n")
        number += block.count(b"\n")
