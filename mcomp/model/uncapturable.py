"""Why a model cannot be captured: torch's words, the line of the model's code, and what can be done."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

from torch import nn

from mcomp.errors import StageError


class Line(NamedTuple):
    """A line of source code."""

    path: str
    number: int
    text: str


# By what torch's words contain.
ADVICE = {
    "data-dependent": "what is computed may not depend on the numbers in a tensor: torch.where in place of "
    "if, no .item(), int() or bool() of a tensor",
    "Constraints violated": "an axis that varies (the batch, or a length) may not be a number in the code: "
    "take sizes from x.shape, and give view and reshape -1",
}
OTHERWISE = "write it with torch's own operators"
WITHOUT = "training, distillation by outputs and masks of zeros need no capture"


def refusal(module: nn.Module, error: Exception) -> StageError:
    """Return what a person is told who gave a module that torch.export raised `error` for."""
    words = first_line(error)
    advice = next((each for part, each in ADVICE.items() if part in words), OTHERWISE)
    line = line_of(module, error)
    where = f" at {line.path}:{line.number} ({line.text})" if line else ""
    what = f"torch.export cannot capture {type(module).__name__}{where}"
    return StageError(f"{what}: {words.rstrip('.')}; {advice}; {WITHOUT}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def line_of(module: nn.Module, error: BaseException) -> Line | None:
    """Return the innermost line of the packages that a module's classes are from, None if there is none."""
    packages = {package_of(type(part).__module__) for part in module.modules()} - {"torch"}
    found = [
        Line(frame.f_code.co_filename, number, linecache.getline(frame.f_code.co_filename, number).strip())
        for frame, number in frames(error)
        if package_of(frame.f_globals.get("__name__", "")) in packages
    ]
    return found[-1] if found else None


def package_of(name: str) -> str:
    """Return the top of a module's name."""
    return name.partition(".")[0]


def frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames that an error came through and their lines, those of what it came from last."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        trace = cause.__traceback__
        while trace is not None:
            yield trace.tb_frame, trace.tb_lineno
            trace = trace.tb_next
        cause = cause.__cause__ or cause.__context__
