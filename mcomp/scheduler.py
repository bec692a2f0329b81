"""Run a plan: each step is a hit, is awaited, or is computed; then the exports are measured and judged.

Torch is imported only when something is computed or measured: a run whose steps are all hits reads the store and is done.
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
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from mcomp.errors import McompError
from mcomp.fingerprint import fingerprint, makers
from mcomp.measure.machine import machine, machine_id
from mcomp.plan import Plan, Step
from mcomp.require import judge
from mcomp.stage import Reporter
from mcomp.store.artifact import Artifact
from mcomp.store.layout import FILES, REPORT
from mcomp.store.ledger import Figures, Ledger, Row, Served
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


@dataclass
class Scheduler:
    """One run of one plan. With `fresh`, results in the store are set aside and made again."""

    plan: Plan
    store: Store
    reporter: RunReporter
    fresh: bool = False
    rows: list[Row] = field(default_factory=list)
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
            for number, step in enumerate(self.plan.steps, start=1):
                self.reporter.step_started(step, number, len(self.plan.steps))
                self.rows.append(self.do(step))
                self.reporter.step_ended(self.rows[-1])
            self.measure_exports()
            status = "done" if all(each.met for each in self.judged()) else "require not met"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            ledger = self.ledger(started, status)
            self.run.write_ledger(ledger)
        return Outcome(self.run, ledger, {name: self.file(step) for name, step in self.plan.exports()})

    def do(self, step: Step) -> Row:
        """Return the row of a step, computing it if it is not in the store."""
        artifact = None if self.fresh else self.store.find(step.key, step.key_json)
        if artifact is not None:
            return self.row(step, artifact, "hit")
        with self.store.lease(step.key, on_wait=self.reporter.log):
            # Somebody else may have finished it while we waited.
            artifact = None if self.fresh else self.store.find(step.key, step.key_json)
            if artifact is not None:
                return self.row(step, artifact, "hit")
            return self.row(step, self.compute(step), "computed")

    def compute(self, step: Step) -> Artifact:
        """Compute one step; a failure is kept in the ledger and never in the store."""
        self.run.event("step started", step=step.label, key=step.key)
        if self.fresh:
            self.store.set_aside(step.key)
        about = {"step": step.label, "type": step.config.type, "environment": {**machine(), **makers()}}
        try:
            artifact = self.executor.execute(step, about)
        except Exception as error:
            self.rows.append(failed_row(step, error))
            self.run.event("step failed", step=step.label, key=step.key, error=str(error))
            if not isinstance(error, McompError) or error.__cause__ is not None:
                self.run.write_text("traceback.txt", traceback.format_exc())
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
        """Return the figures of one exported file and of the baseline's. A figure holds for one machine and setting."""
        measure = self.plan.recipe.measure
        setting = {"machine": machine_id(), "baseline": baseline.key, **measure.model_dump(mode="json")}
        name = f"served-{fingerprint(setting)[:16]}"
        known = self.store.measurement(step.key, name)
        if known is None:
            from mcomp.measure.served import measure_pair

            self.reporter.log("measuring the exported file beside the baseline")
            test = self.executor.loaded_data(self.plan.recipe).split("test")
            task = cast(TaskConfig, self.plan.recipe.task)
            pair = measure_pair(self.file(step), self.file(baseline), test, task, measure)
            known = {role: served.model_dump(mode="json") for role, served in pair.items()}
            self.store.put_measurement(step.key, name, known)
        return {role: Served.model_validate(served) for role, served in known.items()}

    def file(self, step: Step) -> Path:
        """Return the exported file of a step, its bytes checked."""
        artifact = self.store.find(step.key, step.key_json)
        assert artifact is not None, "asked for before the step was done"
        return artifact.file(next(name for name in artifact.names() if name.startswith(f"{FILES}/")))

    def judged(self) -> tuple[Any, ...]:
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
            overrides=self.plan.loaded.overrides,
            rows=tuple(self.rows),
            baseline=self.baseline,
            require=self.judged(),
        )


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
