"""Text that is no YAML, in the words of somebody who writes recipes and not parsers."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class Said:
    """What a parser's error means; `{}` stands for what was found.

    `at_start`: it is told where the thing began that could not be read.
    """

    what: str
    next_step: str
    at_start: bool = False


INDENTED = Said("this line is indented differently from its neighbours", "indent keys of one mapping alike")

# By the parser's own words, tried in order.
SAID: tuple[tuple[str, Said], ...] = (
    (r"character '\\t'", Said("a tab indents this line", "use spaces")),
    (r"expected <block end>", INDENTED),
    (r"could not find expected ':'", Said("no colon here", "write `key: value`, with a space", True)),
    (
        r"mapping values are not allowed",
        Said("a second `: ` in one line, or a key behind a value", "quote a text that holds `: `"),
    ),
    (
        r"flow (?:mapping|sequence) expected .* but got '[{]'",
        Said("a brace where a comma or the end should be", "quote a reference in brackets: '${model.depth}'"),
    ),
    (
        r"flow (?:mapping|sequence) expected (?:',' or )?('[\]}]')",
        Said("a bracket is not closed, or a comma is missing", "close it with {}", True),
    ),
    (r"character ('[^']+') that cannot start", Said("a text cannot start with {}", "quote it")),
    (
        r"quoted scalar|end of stream",
        Said("a quote is not closed", "close it, or quote the whole text", True),
    ),
)


def in_words(error: yaml.MarkedYAMLError) -> tuple[str, str, yaml.Mark | None]:
    """Return what is wrong, what to do, and the mark to tell it at."""
    told = " ".join(part for part in (error.context, error.problem) if part)
    for pattern, said in SAID:
        if match := re.search(pattern, told):
            mark = error.context_mark if said.at_start else error.problem_mark
            found = match[1] if match.lastindex else ""
            what, next_step = (text.replace("{}", found) for text in (said.what, said.next_step))
            return what, next_step, mark or error.problem_mark
    return told, "", error.problem_mark
