"""Raw YAML values into dataclasses, and pydantic's errors into one line for a person."""

import json
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError


class ConfigError(ValueError):
    """A setting in params.yaml is wrong; the message is one line that names the key."""


def validate(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`.

    JSON mode lets a YAML list stand for a tuple and a YAML date for a date, and is strict in all else.

    Raises:
        ConfigError: naming each wrong key behind `where`.
    """
    try:
        text = json.dumps(value, default=str)
    except TypeError as error:
        raise ConfigError(f"{where}: every key is a plain name: {error}") from None
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(_one_line(error, kind, where)) from None


_adapter = cache(TypeAdapter)  # which takes longer to make than to use


def _one_line(error: ValidationError, kind: Any, where: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join([where, *(str(part) for part in problem["loc"])])
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            lines.append(f"{key}: no such key; {_keys(kind, problem['loc'][:-1])}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        given = problem["input"]
        shown = "" if isinstance(given, dict) or "Value error" in problem["msg"] else f" (it is {given!r})"
        lines.append(f"{key}: {message}{shown}")
    return "; ".join(lines)


def _keys(kind: Any, location: tuple[int | str, ...]) -> str:
    """The keys allowed in the mapping at `location` inside a `kind`."""
    for part in location:
        kind = get_type_hints(kind)[part] if is_dataclass(kind) else get_args(kind)
        if isinstance(kind, tuple):  # of a dict: key and value; of a union: its members, chosen by their `kind`
            kind = next((member for member in kind if part in _tags(member)), kind[-1])
    return f"one of {list(get_type_hints(kind))}" if get_type_hints(kind) else "it has no settings"


def _tags(kind: Any) -> tuple[Any, ...]:
    return get_args(get_type_hints(kind).get("kind")) if is_dataclass(kind) else ()
