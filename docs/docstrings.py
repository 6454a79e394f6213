"""The parser of mmrec's docstrings: Markdown with Google's sections."""

import re
import textwrap
from inspect import cleandoc

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser

SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):\n((?:[ ]+.+\n?|\n)+)", re.MULTILINE)
NAMED = re.compile(r"^(\w[\w., *]*):[ ]", re.MULTILINE)


def markdown(docstring: str) -> str:
    """Sections become a bold word and a paragraph or, of named things, a list."""

    def section(found: re.Match[str]) -> str:
        body = textwrap.dedent(found[2]).strip()
        if found[1] != "Returns":
            body = NAMED.sub(r"- `\1`: ", body)
        return f"**{found[1]}**\n\n{body}\n\n"

    return SECTION.sub(section, cleandoc(docstring) + "\n")


class Parser(MystParser):
    def parse(self, inputstring: str, document: nodes.document) -> None:
        super().parse(markdown(inputstring), document)
