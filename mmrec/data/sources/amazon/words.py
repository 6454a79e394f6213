"""Plain text from the markup of shop pages.

Own code: BeautifulSoup takes 40 times as long, turns AT&T into ATT, and hangs on a million unclosed tags.
"""

import html
import re
from typing import Any

TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
OPENED = re.compile(r"<(script|style)\b|<!--", re.IGNORECASE)
CLOSED = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")} | {"": re.compile("-->")}


def text(value: Any) -> str:
    """A string stripped of blanks that can be written as UTF-8; "" for a value of another type."""
    if not isinstance(value, str):
        return ""
    # JSON and Python allow an escaped half of a surrogate pair, which UTF-8 cannot hold.
    return value.strip() if value.isascii() else value.strip().encode(errors="replace").decode()


def texts(value: Any) -> list[str]:
    """The strings of a list that are not empty. A string alone counts as a list of one."""
    return [found for each in (value if isinstance(value, list) else [value]) if (found := text(each))]


def plain(markup: str) -> str:
    """Text without entities, tags, scripts and styles; runs of blanks become one space."""
    markup = html.unescape(markup)
    return " ".join((TAG.sub(" ", _without_code(markup)) if "<" in markup else markup).split())


def has_markup(words: str) -> bool:
    """Does the text hold a tag, written out or as entities?"""
    return ("<" in words or "&" in words) and bool(TAG.search(html.unescape(words)))


def _without_code(markup: str) -> str:
    """Cut out scripts, styles and comments in one pass. An unclosed one ends the text."""
    kept, begin = [], 0
    while opened := OPENED.search(markup, begin):
        kept.append(markup[begin : opened.start()])
        closed = CLOSED[(opened[1] or "").lower()].search(markup, opened.end())
        begin = closed.end() if closed else len(markup)
    return " ".join([*kept, markup[begin:]])
