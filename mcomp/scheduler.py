"""Run a plan: each step is a hit, is awaited, or is computed; then the exports are measured and judged.

Torch is imported only when something is computed or measured: a run whose steps are all hits reads the store
and is done.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from mcomp.data.digests import DIGESTS
from mcomp.errors import CorruptArtifact, McompError, RequireNotMet, StageError, StoreError
from mcomp.fingerprint import fingerprint, makers, tree_digest
from mcomp.measure.machine import machine, machine_id
from mcomp.measure.runtime import Exported, main_file, runtime_version
from mcomp.plan import Plan, Step
from mcomp.recipe.resolved import resolved_text
from mcomp.recipe.shorten import is_shortened
from mcomp.require import judge
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Reporter
from mcomp.store.artifact import Artifact
from mcomp.store.kept import Cost, Pair, read_figures, read_report
from mcomp.store.layout import FILES, MODEL
from mcomp.store.ledger import Ledger, Requirement, Row, Served
from mcomp.store.preflight import require_room
from mcomp.store.runs import Run
from mcomp.store.store import Store
from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from mcomp.executor import Executor

# Our code that makes the figures of exported files, and the form they are kept in.
MEASURED_BY = ("mcomp.measure", "mcomp.store.ledger")

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


def now() -> str:
    """Return the time (UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Scheduler:
    """One run of one plan. What it knows so far: `rows`, `files` and `served` by the name of the export."""

    plan: Plan
    store: Store
    reporter: RunReporter
    started: str = field(default_factory=now)
    rows: list[Row] = field(default_factory=list)
    computed: set[str] = field(default_factory=set)
    files: dict[str, Path] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    baselines: dict[str, Served] = field(default_factory=dict)

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
        with self.run.under_way([step.key for step in self.plan.steps]):
            self.run.write_recipe(resolved_text(self.plan.loaded, self.run.id, self.started))
            DIGESTS.get().keep()  # there is a store now
            try:
                self.do_all()
            except BaseException as error:
                # A disk without room for the ledger must not hide what went wrong.
                with suppress(StoreError):
                    self.keep_ledger("failed" if isinstance(error, Exception) else "interrupted")
                if isinstance(error, KeyboardInterrupt):
                    self.reporter.log("what is done is kept: run the same command again to go on")
                raise
            return Outcome(self.run, self.keep_ledger(self.verdict()), self.files)

    def do_all(self) -> None:
        """Do the steps and the measuring. A result that turns out broken was set aside: it is made again."""
        # Each attempt finds one result less: more attempts than steps mean that the disk itself is at fault.
        for _ in self.plan.steps:
            try:
                return self.do_each()
            except CorruptArtifact:
                self.reporter.log("what was broken is made again")
        return self.do_each()

    def do_each(self) -> None:
        """Do the steps in order, then measure the exports."""
        self.rows, self.files, self.served, self.baselines = [], {}, {}, {}
        for number, step in enumerate(self.plan.steps, start=1):
            raise_if_interrupted()
            self.reporter.step_started(step, number, len(self.plan.steps))
            self.rows.append(self.do(step))
            self.reporter.step_ended(self.rows[-1])
            if self.rows[-1].status == "computed":
                self.keep_ledger("interrupted")  # what is true if nothing comes after this
        raise_if_interrupted()
        self.measure_exports()

    def do(self, step: Step) -> Row:
        """Return the row of a step, computing it if it is not in the store."""
        artifact = self.store.find(step.key, step.key_json)
        if artifact is None:
            with self.store.lease(step.key, lambda why: self.reporter.log(f"{step.label}: {why}")):
                # Somebody else may have finished it while we waited.
                artifact = self.store.find(step.key, step.key_json)
                if artifact is None:
                    self.computed.add(step.key)
                    artifact = self.compute(step)
        self.store.remove_checkpoints(step.key)  # also of a run that was killed before it came to this
        return self.row(step, artifact, "computed" if step.key in self.computed else "hit")

    def compute(self, step: Step) -> Artifact:
        """Compute one step; a failure is kept in the ledger and never in the store."""
        self.run.event("step started", step=step.label, key=step.key)
        about = {"step": step.label, "type": step.config.type, "environment": {**machine(), **makers()}}
        try:
            require_room(self.store, step.label, self.input_bytes(step), step.config)
            artifact = self.executor.execute(step, about)
        except Exception as error:
            self.rows.append(failed_row(step, error))
            with suppress(StoreError):
                self.run.event("step failed", step=step.label, key=step.key, error=str(error))
                self.run.event("traceback", text=traceback.format_exc())
                if is_unforeseen(error):
                    self.reporter.log(f"the traceback is in {self.run.folder / 'events.jsonl'}")
            raise
        self.run.event("step ended", step=step.label, key=step.key)
        return artifact

    def input_bytes(self, step: Step) -> int:
        """Return the size of the model a step starts from, 0 if it is not known before the step runs."""
        artifact = self.store.find(step.source) if isinstance(step.source, str) else None
        files = artifact.manifest.files if artifact else {}
        return sum(entry.size for name, entry in files.items() if name.startswith(f"{MODEL}/"))

    def row(self, step: Step, artifact: Artifact, status: Literal["hit", "computed"]) -> Row:
        """Return what the report says about a step whose result is in the store."""
        report = read_report(artifact)
        cost = read_figures(self.store, Cost, step.key, "cost") or Cost()
        return Row(
            recipe=step.recipe.name,
            stage=step.stage,
            type=step.config.type,
            key=step.key,
            status=status,
            figures=report.figures,
            facts=report.facts,
            seconds=cost.seconds,
            peak_memory_bytes=cost.peak_memory_bytes,
        )

    def measure_exports(self) -> None:
        """Measure every export in its runtime beside the baseline exported the same way, or look it up."""
        for name, step in self.plan.exports():
            baseline = self.plan.step(self.plan.baselines[name])
            pair = self.measured(step, baseline)
            self.served[name], self.baselines[name] = pair.result, pair.baseline
            self.files[name] = exported(self.found(step), step).file
        shown = {self.plan.pipeline[name]: served for name, served in self.served.items()}
        self.rows = [row.model_copy(update={"served": shown.get(row.key)}) for row in self.rows]

    def measured(self, step: Step, baseline: Step) -> Pair:
        """Return the figures of one exported file and of the baseline's."""
        artifacts = self.found(step), self.found(baseline)
        name = measurement_name(self.plan, step, *artifacts)
        known = read_figures(self.store, Pair, step.key, name)
        if known is None:
            with self.store.lease(step.key, lambda why: self.reporter.log(f"{step.label}: {why}")):
                # Somebody else may have taken them while we waited.
                known = read_figures(self.store, Pair, step.key, name)
                if known is None:
                    known = self.measure(step, *artifacts)
                    self.store.put_measurement(step.key, name, known.model_dump(mode="json"))
        return known

    def measure(self, step: Step, result: Artifact, baseline: Artifact) -> Pair:
        """Measure one exported file and the baseline's."""
        self.reporter.log("measuring the exported file and the baseline's in turns")
        with self.store.workspace(step.key) as scratch:
            files = (exported(each, step) for each in (result, baseline))
            served = self.executor.serve(step, scratch, *files)
        return Pair(result=served[0], baseline=served[1])

    def found(self, step: Step) -> Artifact:
        """Return the result of a step that was done. Raises CorruptArtifact if it broke since."""
        artifact = self.store.find(step.key, step.key_json)
        if artifact is None:
            raise CorruptArtifact(f"the result {step.key[:12]} of {step.label} is gone; it is made again")
        return artifact

    def judged(self) -> tuple[Requirement, ...]:
        """Return the bounds of `require` with their figures, once all exports are measured.

        What was made from a part of the data is not judged.
        """
        if is_shortened(self.plan.recipe):
            return ()
        complete = self.served.keys() == dict(self.plan.exports()).keys()
        return judge(self.plan.recipe.require, self.served) if complete else ()

    def verdict(self) -> Literal["done", "require not met"]:
        """Return how a run ends whose steps are done."""
        return "done" if all(each.met for each in self.judged()) else "require not met"

    def keep_ledger(self, status: Status) -> Ledger:
        """Write down what this run says about itself, as far as it came."""
        ledger = self.ledger(status, self.run.id)
        self.run.write_ledger(ledger)
        return ledger

    def ledger(self, status: Status, run: str) -> Ledger:
        """Return what this run says about itself, as far as it came."""
        task = cast(TaskConfig, self.plan.recipe.task)
        return Ledger(
            mcomp=version("mcomp"),
            run=run,
            recipe=self.plan.recipe.name,
            started=self.started,
            status=status,
            metric=task.metric_name,
            direction=task.direction,
            machine=machine(),
            overrides=self.plan.loaded.composed.overrides,
            quick=is_shortened(self.plan.recipe),
            rows=tuple(self.rows),
            baselines=self.baselines,
            require=self.judged(),
        )


def exported_names(artifact: Artifact) -> list[str]:
    """Return the names of the files that an export wrote."""
    return [name for name in artifact.names() if name.startswith(f"{FILES}/")]


def exported(artifact: Artifact, step: Step) -> Exported:
    """Return the files that an export wrote, their bytes checked. Raises CorruptArtifact."""
    names = exported_names(artifact)
    first = main_file(names, str(step.config.exports))
    beside = tuple(artifact.file(name) for name in names if name != first)
    return Exported(artifact.file(first), beside)


def measurement_name(plan: Plan, step: Step, result: Artifact, baseline: Artifact) -> str:
    """Return the name of a measurement: it holds for the bytes of two exports, one machine and one
    setting.
    """
    digests = [
        {name: each.manifest.files[name].sha256 for name in exported_names(each)}
        for each in (result, baseline)
    ]
    setting = {
        "machine": machine_id(),
        "runtime": runtime_version(str(step.config.exports)),
        "files": digests,
        "by": [version("mcomp"), *map(tree_digest, MEASURED_BY)],
        **plan.recipe.measure.model_dump(mode="json"),
    }
    return f"served-{fingerprint(setting)[:16]}"


def is_answered(plan: Plan, store: Store) -> bool:
    """Return whether the store has everything a run of this plan would give."""
    found = {step.key: store.find(step.key, step.key_json) for step in plan.steps}
    artifacts = {key: artifact for key, artifact in found.items() if artifact is not None}
    if len(artifacts) < len(found):
        return False
    return all(
        store.measurement(
            step.key, measurement_name(plan, step, artifacts[step.key], artifacts[plan.baselines[name]])
        )
        for name, step in plan.exports()
    )


def set_aside(plan: Plan, store: Store) -> None:
    """Move all results of a plan out of the way, so that they are made and measured again."""
    for step in plan.steps:
        store.set_aside(step.key)


def is_unforeseen(error: Exception) -> bool:
    """Whether a step failed by something that nobody raised on purpose."""
    return isinstance(error, StageError) and not isinstance(error.__cause__, McompError | None)


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
