"""The lines of a text file."""

from __future__ import annotations

import os
from pathlib import Path

from mcomp import plainfile
from mcomp.errors import Problem, RecipeError

TEXT_LIMIT_BYTES = 256 * 2**20


def require_text_file(path: Path) -> None:
    """Raise RecipeError if there is no file, or one that is too large to be read."""
    if not path.is_file():
        raise wrong(f"{path} is no file", "name a text file")
    if os.path.getsize(path) > TEXT_LIMIT_BYTES:
        raise wrong(f"{path} is larger than {TEXT_LIMIT_BYTES // 2**20} MiB", "take a part of it")


def read_lines(path: Path) -> list[str]:
    """Return the lines that are not blank, without the blanks around them.

    Raises RecipeError if the file is no text in UTF-8; it names the first line that is not.
    """
    require_text_file(path)
    try:
        content = plainfile.read(path, TEXT_LIMIT_BYTES)
    except OSError as error:
        raise wrong(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise wrong(f"{path}: line {line} is not UTF-8", "save the file as UTF-8") from error
    # Not splitlines: it also splits at characters that a sentence may hold.
    return [line.strip() for line in text.split("\n") if line.strip()]


def wrong(what: str, next_step: str = "") -> RecipeError:
    """Return the error for the file."""
    return RecipeError(Problem("", "path", what, next_step))
