"""Plain scalars by the core schema of YAML 1.2, and a refusal of those that YAML 1.1 reads differently.

Source: YAML 1.2.2, 10.3.2 "Tag Resolution".
"""

from __future__ import annotations

import math
import re

import yaml

Scalar = str | int | float | bool | None

CORE = {
    "null": re.compile(r"|~|null|Null|NULL"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
LONGEST_NUMBER = 100

# Booleans of YAML 1.1 that PyYAML leaves alone; other readers do not.
SHORT_BOOLEANS = frozenset("yYnN")

NEXT_STEP = {
    "bool": "write true or false, or quote it",
    "int": "write a plain decimal number without zeros before it, or quote it",
    "float": "write a plain decimal number, or quote it",
    "timestamp": "quote it",
}


class AmbiguousScalar(ValueError):
    """A plain scalar whose meaning depends on the reader; `next_step` says what to write."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.next_step = next_step


def read_plain(text: str) -> Scalar:
    """Return the value of a plain scalar. Raises AmbiguousScalar."""
    kind = next((kind for kind, pattern in CORE.items() if pattern.fullmatch(text)), "str")
    earlier = yaml11_kind(text)
    # A float without a dot or without a sign in its exponent (1e-3) is text for PyYAML alone.
    agreed = earlier == kind or (kind, earlier) == ("float", "str")
    if not agreed or (kind == "int" and LEADING_ZERO.fullmatch(text)):
        next_step = NEXT_STEP.get(kind if earlier == "str" else earlier, "quote it")
        raise AmbiguousScalar(f"`{text}` means different things in YAML 1.1 and 1.2", next_step)
    return CONSTRUCT[kind](text) if kind != "str" else text


def yaml11_kind(text: str) -> str:
    """Return what YAML 1.1 takes a plain scalar for (`bool`, `timestamp`, ..., `str`)."""
    if text in SHORT_BOOLEANS:
        return "bool"
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(text[:1], []):
        if pattern.match(text):
            return str(tag).rpartition(":")[2]
    return "str"


def integer(text: str) -> int:
    """Return a decimal, octal (0o) or hexadecimal (0x) number."""
    if len(text) > LONGEST_NUMBER:
        raise AmbiguousScalar(f"a number of {len(text)} digits", "quote it if it is text")
    return int(text, 16 if text.startswith("0x") else 10)


def finite(text: str) -> float:
    """Return a float. Raises AmbiguousScalar for infinities, NaN and numbers too large for a float."""
    value = float(text) if "n" not in text.lower() else math.nan
    if not math.isfinite(value):
        raise AmbiguousScalar(f"`{text[:LONGEST_NUMBER]}` is not a finite number", "quote it if it is text")
    return value


CONSTRUCT = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": integer,
    "float": finite,
}
