"""Everything mcomp raises on purpose.

McompError             exit 1
+-- RecipeError        exit 2   places in a file or an override, what, what to do
|   +-- CheckpointError         the file a recipe starts from: missing, broken, or of another architecture
+-- RequireNotMet      exit 3   the figures
+-- PluginError        exit 4   the distribution
+-- StageError         exit 5   step, module path
+-- StoreError         exit 6   the file
    +-- CorruptArtifact
    +-- StoreFull
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

LONGEST_NAME = 120


class McompError(Exception):
    """Base of the tree; `exit_code` is what the command line returns for the class."""

    exit_code: ClassVar[int] = 1


def printable(text: str) -> str:
    """Return `text` with control and formatting characters written as escapes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def printable_lines(text: str) -> str:
    """Return `text` made printable line by line: what is broken into lines on purpose stays so."""
    return "\n".join(map(printable, text.split("\n")))


def named(name: str) -> str:
    """Return a name from somebody's file as an error can show it: printable, in one line, not too long."""
    shown = printable(name[: LONGEST_NAME + 1])
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def words(error: BaseException) -> str:
    """Return the class of somebody else's error and what it says, as far as it can be asked."""
    try:
        text = str(error).strip()
    except Exception:  # its own code is asked
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe: where it stands, the key it is about, what is wrong and what to do.

    `where` is `file:line:column` or `command line`; `path` is the dotted key (`stages.prune.target`). `more`
    are lines below, one for each of several things that are wrong in the same way.
    """

    where: str
    path: str
    what: str
    next_step: str = ""
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.path, self.what) if part)
        text = f"{head}; {self.next_step}" if self.next_step else head
        # What a recipe holds must not move the cursor, fake a line or turn the text around.
        text = printable(text) if self.where or self.path else text
        return "\n".join([text, *map(printable, self.more)])


class RecipeError(McompError):
    """A recipe, an override or an argument is wrong; holds every problem found, not the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem("", "", problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CheckpointError(RecipeError):
    """A model file cannot be used: missing, truncated, unsafe, or made for another architecture."""


class RequireNotMet(McompError):
    """The results are valid, but a figure misses what `require` asks for."""

    exit_code = 3


class PluginError(McompError):
    """A plugin failed to import, claims a taken name or breaks the contract; names its distribution."""

    exit_code = 4


class StageError(McompError):
    """A stage could not do its work; `step` and `module` say where, once they are known.

    `about`: the value in the stage's configuration that is to blame, if it is one (a pattern, a reference).
    """

    exit_code = 5

    def __init__(self, what: str, *, module: str = "", step: str = "", about: object = None) -> None:
        self.what, self.module, self.step, self.about = what, module, step, about
        super().__init__(": ".join(part for part in (step, module, what) if part))


class StoreError(McompError):
    """The store cannot be read or written."""

    exit_code = 6


class CorruptArtifact(StoreError):
    """Bytes in the store are not the bytes that were published."""


class StoreFull(StoreError):
    """No room left on the store's disk; what was published before is intact."""
