"""Choose modules by patterns over their paths (`layer*.conv1`)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mcomp.errors import StageError
from mcomp.recipe.nearest import did_you_mean

if TYPE_CHECKING:
    from torch import nn


def select_modules(module: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the paths of the parts of `module` that match any of the patterns, in the module's order.

    `*` stands for any characters, dots too, `?` for one, `[12]` for one of a few. Raises StageError, with the
    nearest path, if a pattern matches nothing.
    """
    paths = [path for path, _ in module.named_modules() if path]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            what = f"no module matches '{pattern}'"
            raise StageError("; ".join(filter(None, (what, did_you_mean(pattern, paths)))), about=pattern)
    return tuple(path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns))
