"""mcomp from Python: the same recipes, the same store, in a notebook or a training script."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mcomp.console import SilentReporter
from mcomp.plan import make_plan
from mcomp.plugins import import_module
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Outcome, RunReporter, Scheduler, set_aside
from mcomp.store.digests import digests_in
from mcomp.store.store import Store


def run(
    recipe: str | Path,
    overrides: Iterable[str] = (),
    *,
    store: str | Path | None = None,
    fresh: bool = False,
    imports: Iterable[str] = (),
    reporter: RunReporter | None = None,
) -> Outcome:
    """Run a recipe and return its ledger and the paths of its exported files.

        outcome = mcomp.run("recipes/resnet_int8.yaml", ["seed=1"])
        outcome.files["export"], outcome.ledger.status

    `overrides` are written as on the command line. Without `store` it is that of the environment variable
    MCOMP_STORE, or `.mcomp`. A `require` that is not met is in the ledger's status and
    raises nothing. Raises RecipeError, PluginError, StageError or StoreError.
    """
    for name in imports:
        import_module(name)
    reporter = reporter or SilentReporter()
    kept = Store(Path(store or os.environ.get("MCOMP_STORE") or ".mcomp"), on_problem=reporter.warn)
    with digests_in(kept):
        plan = make_plan(load_recipe(Path(recipe), tuple(overrides)))
        if fresh:
            set_aside(plan, kept)
        return Scheduler(plan, kept, reporter).execute()
