"""One job, in whatever process a launcher starts it."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcomp.errors import McompError, RecipeError
from mcomp.plan import Plan, make_plan
from mcomp.plugins import import_module
from mcomp.recipe.build import load_recipe
from mcomp.recipe.launch import output_folder
from mcomp.scheduler import RunReporter, Scheduler
from mcomp.store.digests import digests_in
from mcomp.store.store import Store
from mcomp.store.sweeps import JobRecord
from mcomp.sweep.workers import at_work, end_with

RESULT = "result.json"


@dataclass(frozen=True)
class Job:
    """What a launcher starts, in this process or another; it holds nothing but addresses.

    `alone`: no other job runs at the same time. `starter` is the process that runs the sweep.
    """

    plan_file: str
    store: str
    alone: bool
    starter: int

    def __call__(self, config: Any) -> None:
        """Run the job whose number Hydra hands over, and leave its record in the folder Hydra made for it."""
        number = int(config.job)
        if os.getpid() == self.starter:
            self.run(number)
        else:
            end_with(self.starter)
            # A job that was told to stop has said so in its record; its starter knows why.
            with at_work(output_folder()) as may_begin, suppress(KeyboardInterrupt):
                if may_begin:
                    self.run(number)

    def run(self, number: int) -> None:
        """Run a job and leave its record."""
        from rich.console import Console

        from mcomp.console import ConsoleReporter

        content = json.loads(Path(self.plan_file).read_bytes())
        job = content["jobs"][number]
        reporter = ConsoleReporter(Console(stderr=True), number, alone=self.alone)
        reporter.log(" ".join(job["overrides"]))
        record = JobRecord(number=number, overrides=job["overrides"])
        try:
            store = Store(Path(self.store), on_problem=reporter.warn)
            with digests_in(store):
                record = run_job(planned(content, job), store, reporter, record)
        except McompError as error:
            record = failed(record, error.exit_code, str(error))
        except Exception as error:  # ours; the other jobs go on
            traceback.print_exc()
            what = f"a bug in mcomp: {type(error).__name__}: {error}"
            record = failed(record, McompError.exit_code, what)
        leave(record)


def leave(record: JobRecord) -> None:
    """Write down how a job ended, in the folder that Hydra made for it."""
    path = output_folder() / RESULT
    path.with_suffix(".new").write_text(record.model_dump_json(), encoding="utf-8")
    path.with_suffix(".new").replace(path)  # who is killed here leaves no half of a record


def planned(content: Mapping[str, Any], job: Mapping[str, Any]) -> Plan:
    """Return the plan of a job. Raises RecipeError if it is not the one that the sweep was made of."""
    for name in content["imports"]:
        import_module(name)
    plan = make_plan(load_recipe(Path(content["recipe"]), job["overrides"]))
    if [step.key for step in plan.steps] != job["steps"]:
        raise RecipeError("the recipe or its data changed since the sweep was planned; start it again")
    return plan


def run_job(plan: Plan, store: Store, reporter: RunReporter, record: JobRecord) -> JobRecord:
    """Run one plan and return how it ended; what mcomp raises on purpose is part of the record."""
    scheduler = Scheduler(plan, store, reporter)
    try:
        outcome = scheduler.execute()
    except McompError as error:
        reporter.warn(str(error))
        return failed(record, error.exit_code, str(error), scheduler.run.id)
    except KeyboardInterrupt as error:
        exit_code = 128 + getattr(error, "number", signal.SIGINT)
        ended = {"status": "interrupted", "exit_code": exit_code, "run": scheduler.run.id}
        leave(record.model_copy(update=ended))
        raise
    return record.model_copy(
        update={
            "status": outcome.ledger.status,
            "exit_code": outcome.exit_code,
            "run": scheduler.run.id,
            "files": {name: str(path) for name, path in outcome.files.items()},
        }
    )


def failed(record: JobRecord, exit_code: int, error: str, run: str = "") -> JobRecord:
    """Return the record of a job that failed."""
    return record.model_copy(update={"status": "failed", "exit_code": exit_code, "error": error, "run": run})
