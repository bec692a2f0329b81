"""Comments of recipes: what stood beside keys, put beside the same keys of the recipe as it was resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import yaml

from mcomp.recipe.places import KeyPath, Places
from mcomp.report.text import clean

FOR_EDITORS = "# yaml-language-server:"  # true of the file that it stands in


def with_comments(plain: str, places: Places) -> str:
    """Return the YAML of a resolved recipe with the comments of the files that it was composed of.

    Each stands above the key that it stood above or behind; what is written in one line gets them together.
    What the recipe's file begins with stays at the beginning.
    """
    above: dict[int, list[str]] = {0: []}
    used = set[tuple[str, int]]()
    document = yaml.compose(plain, Loader=yaml.SafeLoader)
    assert document is not None
    for path, number in commentable(document, ()):
        place = places.keys.get(path) or places.values.get(path)
        if place is not None and place.file in places.texts and (place.file, place.line) not in used:
            used.add((place.file, place.line))
            beside = comments(places.texts[place.file])
            above.setdefault(number, []).extend(beside.get(place.line, ()))
    text = places.texts[places.file]
    first = min(comments(text), default=0)
    if starts_with_comment(text) and (places.file, first) not in used:
        above[0][:0] = comments(text)[first]
    return "".join(commented(plain, above))


def starts_with_comment(text: str) -> bool:
    """Whether a file says something about itself before its first key."""
    lines = (line.strip() for line in text.splitlines())
    return next(line for line in lines if line and not line.startswith(FOR_EDITORS)).startswith("#")


def commented(plain: str, above: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a text with comments above some of them."""
    for number, line in enumerate(plain.splitlines(keepends=True)):
        indent = line[: len(line) - len(line.lstrip())]
        for comment in above.get(number, ()):
            yield f"{indent}{clean(comment)}\n"
        yield line


def commentable(node: yaml.Node, path: KeyPath, around: int | None = None) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path of everything in a node with the line, from 0, that a comment on it may stand above.

    In brackets that is the line `around` which they start in: there a text may go on over several lines.
    """
    inside: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        inside = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inside = [(index, item, item) for index, item in enumerate(node.value)]
    for name, start, value in inside:
        number = start.start_mark.line if around is None else around
        yield (*path, name), number
        in_brackets = isinstance(value, yaml.CollectionNode) and value.flow_style
        yield from commentable(value, (*path, name), number if in_brackets else around)


@lru_cache(maxsize=64)
def comments(text: str) -> Mapping[int, Sequence[str]]:
    """Return the comments of a file by the line, from 1, of the key that they stand above or behind."""
    tokens = yaml.scan(text, Loader=yaml.SafeLoader)
    marks = [(token.start_mark, token.end_mark) for token in tokens if isinstance(token, yaml.ScalarToken)]
    in_texts = {index for start, end in marks for index in range(start.index, end.index)}
    found: dict[int, list[str]] = {}
    waiting: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        column = start_of_comment(line, start, in_texts)
        comment = line[column:].strip()
        waiting += [comment] if comment and not comment.startswith(FOR_EDITORS) else []
        if waiting and line[:column].strip():
            found[number], waiting = waiting, []
        start += len(line)
    return found


def start_of_comment(line: str, start: int, in_texts: set[int]) -> int:
    """Return the column of the comment in a line that starts at index `start`: the last if it has none."""
    for column, letter in enumerate(line):
        begins = letter == "#" and (column == 0 or line[column - 1].isspace())
        if begins and start + column not in in_texts:
            return column
    return len(line)
