"""How much room a run will need, from what its rehearsal wrote and held. Free of torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mcomp.check.findings import Estimate
from mcomp.errors import Problem, RecipeError
from mcomp.plan import Plan, Step
from mcomp.recipe.places import COMMAND_LINE
from mcomp.report.text import size
from mcomp.store.ledger import Row
from mcomp.store.store import Store

# A training keeps its last two states; each holds the weights, the best ones, and up to two numbers a weight
# of the optimizer.
CHECKPOINT_COPIES = 2 * 4


def estimate(plan: Plan, store: Store, size_bytes: Callable[[Step], int], rows: Sequence[Row]) -> Estimate:
    """Return what a run of `plan` will need; `size_bytes` gives the size of a step's result."""
    sizes = [size_bytes(step) for step in plan.steps if store.find(step.key, step.key_json) is None]
    peaks = [row.peak_memory_bytes for row in rows if row.peak_memory_bytes is not None]
    return Estimate(
        results=sum(sizes),
        checkpoints=CHECKPOINT_COPIES * max(sizes, default=0),
        free=shutil.disk_usage(existing(store.root)).free,
        memory=max(peaks, default=None),
    )


def require_room(needs: Estimate, store: Store) -> None:
    """Raise RecipeError if the disk of the store is too small for a run."""
    needed = needs.results + needs.checkpoints
    if needed > needs.free:
        what = f"the run needs about {size(needed)}, and the disk has {size(needs.free)} left"
        raise RecipeError(
            Problem(COMMAND_LINE, f"--store {store.root}", what, "make room, or choose another store")
        )


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest around it that there is."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
