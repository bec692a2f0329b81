"""Whether the calibration split holds what stages ask of it: a rehearsal takes what there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mcomp.config import PluginConfig
from mcomp.errors import Problem
from mcomp.fingerprint import fingerprint
from mcomp.plan import Plan


def whole_data(config: PluginConfig) -> str:
    """Return what tells data from other data, the same for a part of it."""
    return fingerprint(config.model_copy(update={"shortened": None}).model_dump(mode="json"))


def missing_samples(plan: Plan, there: Mapping[str, int]) -> Iterator[Problem]:
    """Yield a problem for each stage of a real plan that asks for more than `there` is.

    `there` has the sizes of calibration splits by `whole_data`.
    """
    for step in plan.steps:
        asked, size = step.config.calibration_samples(), there.get(whole_data(step.recipe.data))
        if size is not None and asked > size:
            what = f"{asked} calibration samples are asked for and there are {size}"
            next_step = "lower it, or give the calibration split more in `data`"
            yield step.loaded.composed.places.problem((*step.path, "samples"), what, next_step)
