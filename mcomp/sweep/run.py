"""Run a sweep: answer what the store knows, start the rest in waves, keep a record of how each job ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import Literal

from mcomp.data.digests import DIGESTS
from mcomp.recipe.launch import WorkerKilled, launch
from mcomp.recipe.launchers import runs_alone
from mcomp.report.results import results_csv, results_json
from mcomp.stage import Reporter
from mcomp.store.store import Store
from mcomp.store.sweeps import JOBS, PLAN, JobRecord, SweepFolder, SweepRecord
from mcomp.sweep.answers import answered
from mcomp.sweep.job import RESULT, Job
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.record import ledger_of
from mcomp.sweep.waves import next_wave
from mcomp.sweep.work import Work
from mcomp.sweep.workers import waited_for

EXIT_KILLED = 137


@dataclass(frozen=True)
class Failure:
    """A step that failed in this sweep: the job that tried it, and what the step is called."""

    job: int
    step: str


@dataclass
class SweepRun:
    """One run of one sweep. What it knows so far: how each job ended, what was computed, and what failed."""

    sweep: Sweep
    store: Store
    reporter: Reporter
    imports: Sequence[str] = ()
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    ended: dict[int, JobRecord] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)

    @cached_property
    def folder(self) -> SweepFolder:
        """The record of this sweep in the store."""
        return self.store.new_sweep(self.sweep.plans[0].recipe.name)

    def execute(self) -> SweepRecord:
        """Run every job; one that fails does not stop the others. The record is kept whatever happens."""
        with self.folder.under_way():
            self.folder.write_plan(self.sweep.content(self.imports))
            DIGESTS.get().keep()  # its jobs plan too, in processes of their own
            self.keep("running")
            try:
                self.answer(work := Work(self.sweep, self.store))
                self.start_waves(work)
            except BaseException as error:
                self.keep("failed" if isinstance(error, Exception) else "interrupted")
                raise
            return self.keep("done")

    def answer(self, work: Work) -> None:
        """Answer the jobs that have nothing to do."""
        for number, plan in enumerate(self.sweep.plans):
            if number not in work.missing and (record := answered(plan, self.store, self.waiting(number))):
                self.ended[number] = record
        if self.ended:
            self.reporter.log(f"{len(self.ended)} of {len(self.sweep.plans)} jobs are in the store")
            self.folder.write_answered(
                {number: record.ledger for number, record in self.ended.items() if record.ledger}
            )

    def start_waves(self, work: Work) -> None:
        """Start the other jobs, wave after wave, but those that need what failed before."""
        while left := [number for number in range(len(self.sweep.plans)) if number not in self.ended]:
            startable = [number for number in left if not self.blocked(number, work)]
            missing = [work.missing.get(number, frozenset()) - self.done for number in startable]
            wave = [startable[at] for at in next_wave(missing)]
            try:
                self.start_together(wave)
            except KeyboardInterrupt:
                for number in filter(self.has_record, wave):
                    self.collect(number, work)
                raise
            for number in wave:
                self.collect(number, work)
            self.keep("running")

    def blocked(self, number: int, work: Work) -> bool:
        """Note that a job cannot be done if it needs a step that failed."""
        key = next((key for key in work.missing.get(number, ()) if key in self.failures), None)
        if key is None:
            return False
        failure = self.failures[key]
        because = self.ended[failure.job]
        error = f"not started: it needs {failure.step}, which failed in job {failure.job}"
        record = self.waiting(number)
        self.ended[number] = record.model_copy(update={"exit_code": because.exit_code, "error": error})
        return True

    def start_together(self, wave: Sequence[int]) -> None:
        """Start the jobs of a wave; when this returns, each has left a record or was killed.

        When a worker dies, its launcher ends the others too. Those that had not begun are started again, and
        of those that had, each on its own: only one that dies then is to blame.
        """
        left = list(wave)
        while left and self.worker_dies(left):
            begun = [number for number in left if self.job_folder_exists(number)]
            left = [number for number in left if number not in begun]
            for number in begun:
                if not self.has_record(number):
                    self.reporter.warn(f"[{number}] was killed with those beside it; it is started once more")
                    self.worker_dies([number])

    def worker_dies(self, numbers: Sequence[int]) -> bool:
        """Start jobs and return whether a worker died over them."""
        job = Job(
            str(self.folder.folder / PLAN),
            str(self.store.root.absolute()),
            alone=runs_alone(self.sweep.options),
            starter=os.getpid(),
        )
        outputs = self.folder.folder / JOBS
        try:
            with waited_for(outputs):
                launch(job, numbers, self.sweep.options, outputs)
        except WorkerKilled:
            return True
        return False

    def job_folder_exists(self, number: int) -> bool:
        """Return whether a job has begun: the launcher makes its folder then."""
        return (self.folder.folder / JOBS / str(number)).is_dir()

    def has_record(self, number: int) -> bool:
        """Return whether a job came to its end."""
        return (self.folder.folder / JOBS / str(number) / RESULT).is_file()

    def collect(self, number: int, work: Work) -> None:
        """Read how a started job ended, what it computed and what failed in it."""
        record = self.waiting(number)
        if not self.has_record(number):
            killed = {"status": "killed", "exit_code": EXIT_KILLED, "error": "the job was killed"}
            self.ended[number] = record.model_copy(update=killed)
            return
        file = self.folder.folder / JOBS / str(number) / RESULT
        record = JobRecord.model_validate_json(file.read_bytes())
        ledger = ledger_of(record, self.store)
        self.ended[number] = record.model_copy(update={"ledger": ledger})
        if record.status in ("done", "require not met"):
            self.done |= work.missing.get(number, frozenset())
        for row in ledger.rows if ledger else ():
            if row.status == "failed":
                self.failures[row.key] = Failure(number, f"{row.recipe}/{row.stage}")
            else:
                self.done.add(row.key)

    def waiting(self, number: int) -> JobRecord:
        """Return the record of a job of which nothing is known yet."""
        return JobRecord(number=number, overrides=self.sweep.overrides[number])

    def keep(self, status: Literal["running", "done", "failed", "interrupted"]) -> SweepRecord:
        """Write down what is known of the sweep, and the table of its results."""
        jobs = [self.ended.get(number) or self.waiting(number) for number in range(len(self.sweep.plans))]
        record = SweepRecord(
            mcomp=version("mcomp"),
            sweep=self.folder.id,
            recipe=self.sweep.plans[0].recipe.name,
            started=self.started,
            status=status,
            jobs=tuple(jobs),
        )
        self.folder.write_record(record)
        if status != "running":
            self.folder.write("results.json", results_json(record))
            self.folder.write("results.csv", results_csv(record))
        return record
