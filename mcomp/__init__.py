"""mcomp: one YAML recipe from a trained PyTorch checkpoint to a small, fast file that is proven in its
runtime.

`mcomp.run` runs a recipe. `mcomp.plugins` has the decorators that register a model, data set, task or stage
of one's own: `@mcomp.plugins.model("mine")`. Both are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcomp import plugins as plugins
    from mcomp.api import run as run

__all__ = ["plugins", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        return import_module("mcomp.api").run
    if name == "plugins":
        return import_module("mcomp.plugins")
    raise AttributeError(f"module 'mcomp' has no attribute '{name}'")
