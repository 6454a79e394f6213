"""Plain text from the markup of shop pages.

Own code: BeautifulSoup takes 40 times as long, turns AT&T into ATT, and hangs on a million unclosed tags.
"""

import html
import re
from typing import Any

TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
CODE = re.compile(r"<(script|style)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)", re.IGNORECASE | re.DOTALL)  # or to the end


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
    """Text without entities, tags, comments, scripts and styles; runs of blanks become one space."""
    markup = html.unescape(markup)
    return " ".join((TAG.sub(" ", CODE.sub(" ", markup)) if "<" in markup else markup).split())


def has_markup(words: str) -> bool:
    """Does the text hold a tag, written out or as entities?"""
    return ("<" in words or "&" in words) and bool(TAG.search(html.unescape(words)))
