"""Text as people read it, out of what shop pages hold."""

import html
import re
from typing import Any

TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
OPENED = re.compile(r"<(script|style)\b|<!--", re.IGNORECASE)
CLOSED = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")} | {"": re.compile("-->")}
LONGEST_NAME = 100  # of a category


def text(value: Any) -> str:
    """A string without blanks around it, which can be written as UTF-8; "" for any other value."""
    if not isinstance(value, str):
        return ""
    # An escaped half of a character is legal in JSON and in Python, and cannot be written.
    return value.strip() if value.isascii() else value.strip().encode(errors="replace").decode()


def texts(value: Any) -> list[str]:
    """Those of a list that are not empty; of a text alone, a list of it."""
    return [found for each in (value if isinstance(value, list) else [value]) if (found := text(each))]


def plain(markup: str) -> str:
    """Without entities, tags, scripts and styles, all blanks the same."""
    markup = html.unescape(markup)
    return " ".join((TAG.sub(" ", _without_code(markup)) if "<" in markup else markup).split())


def has_markup(words: str) -> bool:
    """Is there a tag in it, as it is or in entities?"""
    return ("<" in words or "&" in words) and bool(TAG.search(html.unescape(words)))


def is_code(title: str) -> bool:
    """A piece of the page's script in the place of a title: the provider's own test."""
    return "getTime" in title


def sentence(words: str) -> str:
    """With a full stop; "" if nothing else is left."""
    return words.rstrip(".") + "." if words.rstrip(".") else ""


def is_name(words: str) -> bool:
    """Could it be that of a category? Else it is a piece of the page."""
    return not has_markup(words) and len(words) <= LONGEST_NAME


def is_shop(name: str, category: str) -> bool:
    """Is it the shop's own name: `Sports & Outdoors` in Sports_and_Outdoors?"""
    return _letters(name) == _letters(category)


def _letters(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower().replace("&", "and"))


def _without_code(markup: str) -> str:
    """Searched once from left to right, however much is opened; what is never closed ends the text."""
    kept, begin = [], 0
    while opened := OPENED.search(markup, begin):
        kept.append(markup[begin : opened.start()])
        closed = CLOSED[(opened[1] or "").lower()].search(markup, opened.end())
        begin = closed.end() if closed else len(markup)
    return " ".join([*kept, markup[begin:]])
