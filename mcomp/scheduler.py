"""Run a plan: each step is a hit, is awaited, or is computed; then the exports are measured and judged.

Torch is imported only when something is computed or measured: a run whose steps are all hits reads the store
and is done.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from mcomp.errors import CorruptArtifact, RequireNotMet
from mcomp.fingerprint import fingerprint, makers
from mcomp.measure.machine import machine, machine_id
from mcomp.plan import Plan, Step
from mcomp.require import judge
from mcomp.stage import Reporter
from mcomp.store.artifact import Artifact
from mcomp.store.layout import FILES, REPORT
from mcomp.store.ledger import Figures, Ledger, Requirement, Row, Served
from mcomp.store.runs import Run
from mcomp.store.store import Store
from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from mcomp.executor import Executor

Status = Literal["done", "require not met", "failed", "interrupted"]


class RunReporter(Reporter, Protocol):
    """Where a run says how far it is, beside what its stages say."""

    def step_started(self, step: Step, number: int, total: int) -> None: ...

    def step_ended(self, row: Row) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What a run left: its ledger, and the exported files by the name of their stage."""

    run: Run
    ledger: Ledger
    files: Mapping[str, Path]

    @property
    def exit_code(self) -> int:
        """What the command line returns: a `require` that is not met has a code of its own."""
        return RequireNotMet.exit_code if self.ledger.status == "require not met" else 0


@dataclass
class Scheduler:
    """One run of one plan."""

    plan: Plan
    store: Store
    reporter: RunReporter
    rows: list[Row] = field(default_factory=list)
    computed: set[str] = field(default_factory=set)
    served: dict[str, Served] = field(default_factory=dict)
    baseline: Served | None = None

    @cached_property
    def run(self) -> Run:
        """The record of this run in the store."""
        return self.store.new_run(self.plan.recipe.name)

    @cached_property
    def executor(self) -> Executor:
        """Made when there is work: this is where torch is imported."""
        from mcomp.executor import Executor

        return Executor(self.store, self.reporter)

    def execute(self) -> Outcome:
        """Do every step that is not in the store, measure the exports and judge them.

        The ledger is written whatever happens. Raises what the first failing step raised.
        """
        status: Status = "failed"
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.run.write_recipe(self.plan.recipe.model_dump(mode="json"))
        try:
            self.do_all()
            status = "done" if all(each.met for each in self.judged()) else "require not met"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            ledger = self.ledger(started, status)
            self.run.write_ledger(ledger)
        return Outcome(self.run, ledger, {name: self.file(step) for name, step in self.plan.exports()})

    def do_all(self) -> None:
        """Do the steps and the measuring. A result that turns out broken was set aside: it is made again."""
        # Each attempt finds one result less: more attempts than steps mean that the disk itself is at fault.
        for _ in self.plan.steps:
            try:
                return self.do_each()
            except CorruptArtifact as error:
                self.reporter.warn(str(error))
        return self.do_each()

    def do_each(self) -> None:
        """Do the steps in order, then measure the exports."""
        self.rows = []
        for number, step in enumerate(self.plan.steps, start=1):
            self.reporter.step_started(step, number, len(self.plan.steps))
            self.rows.append(self.do(step))
            self.reporter.step_ended(self.rows[-1])
        self.measure_exports()

    def do(self, step: Step) -> Row:
        """Return the row of a step, computing it if it is not in the store."""
        artifact = self.store.find(step.key, step.key_json)
        if artifact is None:
            with self.store.lease(step.key, on_wait=self.reporter.log):
                # Somebody else may have finished it while we waited.
                artifact = self.store.find(step.key, step.key_json)
                if artifact is None:
                    self.computed.add(step.key)
                    artifact = self.compute(step)
        return self.row(step, artifact, "computed" if step.key in self.computed else "hit")

    def compute(self, step: Step) -> Artifact:
        """Compute one step; a failure is kept in the ledger and never in the store."""
        self.run.event("step started", step=step.label, key=step.key)
        about = {"step": step.label, "type": step.config.type, "environment": {**machine(), **makers()}}
        try:
            artifact = self.executor.execute(step, about)
        except Exception as error:
            self.rows.append(failed_row(step, error))
            self.run.event("step failed", step=step.label, key=step.key, error=str(error))
            self.run.event("traceback", text=traceback.format_exc())
            raise
        self.run.event("step ended", step=step.label, key=step.key)
        return artifact

    def row(self, step: Step, artifact: Artifact, status: Literal["hit", "computed"]) -> Row:
        """Return what the report says about a step whose result is in the store."""
        report = json.loads(artifact.file(REPORT).read_bytes())
        cost = self.store.measurement(step.key, "cost") or {}
        return Row(
            recipe=step.recipe.name,
            stage=step.stage,
            type=step.config.type,
            key=step.key,
            status=status,
            figures=Figures(**report["figures"]),
            facts=report["facts"],
            **cost,
        )

    def measure_exports(self) -> None:
        """Measure every export in its runtime beside the baseline exported the same way, or look it up."""
        for name, step in self.plan.exports():
            pair = self.measured(step, self.plan.step(self.plan.baselines[name]))
            self.served[name], self.baseline = pair["result"], pair["baseline"]
        shown = {self.plan.pipeline[name]: served for name, served in self.served.items()}
        self.rows = [row.model_copy(update={"served": shown.get(row.key)}) for row in self.rows]

    def measured(self, step: Step, baseline: Step) -> dict[str, Served]:
        """Return the figures of one exported file and of the baseline's."""
        name = measurement_name(self.plan, baseline)
        known = self.store.measurement(step.key, name)
        if known is None:
            self.reporter.log("measuring the exported file and the baseline's in turns")
            pair = self.executor.serve(self.plan.recipe, self.file(step), self.file(baseline))
            known = {role: served.model_dump(mode="json") for role, served in pair.items()}
            self.store.put_measurement(step.key, name, known)
        return {role: Served.model_validate(served) for role, served in known.items()}

    def file(self, step: Step) -> Path:
        """Return the exported file of a step, its bytes checked."""
        artifact = self.store.find(step.key, step.key_json)
        assert artifact is not None, "asked for before the step was done"
        return artifact.file(next(name for name in artifact.manifest.files if name.startswith(f"{FILES}/")))

    def judged(self) -> tuple[Requirement, ...]:
        """Return the bounds of `require` with their figures."""
        return judge(self.plan.recipe.require, self.served) if self.served else ()

    def ledger(self, started: str, status: Status) -> Ledger:
        """Return what this run says about itself, as far as it came."""
        task = cast(TaskConfig, self.plan.recipe.task)
        return Ledger(
            mcomp=version("mcomp"),
            run=self.run.id,
            recipe=self.plan.recipe.name,
            started=started,
            status=status,
            metric=task.metric_name,
            direction=task.direction,
            machine=machine(),
            overrides=self.plan.loaded.composed.overrides,
            rows=tuple(self.rows),
            baseline=self.baseline,
            require=self.judged(),
        )


def measurement_name(plan: Plan, baseline: Step) -> str:
    """Return the name of a measurement beside a baseline; a figure holds for one machine and one setting."""
    setting = {
        "machine": machine_id(),
        "baseline": baseline.key,
        **plan.recipe.measure.model_dump(mode="json"),
    }
    return f"served-{fingerprint(setting)[:16]}"


def is_answered(plan: Plan, store: Store) -> bool:
    """Return whether the store has everything a run of this plan would give."""
    if any(store.find(step.key, step.key_json) is None for step in plan.steps):
        return False
    names = {
        step.key: measurement_name(plan, plan.step(plan.baselines[name])) for name, step in plan.exports()
    }
    return all(store.measurement(key, name) is not None for key, name in names.items())


def set_aside(plan: Plan, store: Store) -> None:
    """Move all results of a plan out of the way, so that they are made again; they are not deleted."""
    for step in plan.steps:
        store.set_aside(step.key)


def failed_row(step: Step, error: Exception) -> Row:
    """Return the row of a step that failed."""
    return Row(
        recipe=step.recipe.name,
        stage=step.stage,
        type=step.config.type,
        key=step.key,
        status="failed",
        error=str(error),
    )
