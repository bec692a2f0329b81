"""What a sweep still has to compute: which jobs the store answers, what the others miss, and their waves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mcomp.plan import Plan
from mcomp.scheduler import measurement_name
from mcomp.store.artifact import Artifact
from mcomp.store.store import Store
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.waves import waves


@dataclass(frozen=True)
class Work:
    """One look at the store; what is shared by several jobs is looked up once."""

    sweep: Sweep
    store: Store

    @cached_property
    def found(self) -> Mapping[str, Artifact]:
        """The results that the store has, by key."""
        looked_up = {key: self.store.find(key, step.key_json) for key, step in self.sweep.steps.items()}
        return {key: artifact for key, artifact in looked_up.items() if artifact is not None}

    @cached_property
    def missing(self) -> Mapping[int, frozenset[str]]:
        """The keys that each job has to compute; a job that the store answers is not in it.

        What is only to be measured counts too, by a name of its own.
        """
        missing = {number: self.missing_of(plan) for number, plan in enumerate(self.sweep.plans)}
        return {number: keys for number, keys in missing.items() if keys}

    def missing_of(self, plan: Plan) -> frozenset[str]:
        """Return the keys that one job has to compute, and its files to measure."""
        steps = {step.key for step in plan.steps if step.key not in self.found}
        return frozenset(steps | {f"figures of {key}" for key in self.unmeasured(plan)})

    def unmeasured(self, plan: Plan) -> list[str]:
        """Return the keys of the exports whose figures are not known yet."""
        keys = []
        for name, step in plan.exports():
            pair = [self.found.get(key) for key in (step.key, plan.baselines[name])]
            known = None not in pair and self.store.measurement(
                step.key, measurement_name(plan, step, *[each for each in pair if each is not None])
            )
            if not known:
                keys.append(step.key)
        return keys

    @cached_property
    def waves(self) -> list[list[int]]:
        """The numbers of the jobs that have to be started, in waves."""
        numbers = list(self.missing)
        return [[numbers[at] for at in wave] for wave in waves(list(self.missing.values()))]
