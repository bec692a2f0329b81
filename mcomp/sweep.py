"""`run -m`: one recipe, many settings. Every job is resolved and checked here before the first one starts.

Hydra's grammar lists the jobs and its launchers start them, but what they start is a number: the job looks it
up in the plan file that was written here. So Hydra composes no recipe a second time, any launcher can be
used, and a job that the store can answer is not started at all.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from mcomp.config import Config
from mcomp.errors import McompError, Problem, RecipeError
from mcomp.fingerprint import fingerprint
from mcomp.plan import Plan, make_plan
from mcomp.plugins import import_module
from mcomp.recipe.build import load_recipe
from mcomp.recipe.launch import launch, output_folder
from mcomp.recipe.variants import Recipes
from mcomp.recipe.overrides import expand, split_launch_options
from mcomp.scheduler import RunReporter, Scheduler, is_answered, set_aside
from mcomp.store.ledger import Ledger
from mcomp.store.store import Store

PLAN, RESULT = "plan.json", "result.json"


class JobResult(Config):
    """How one job ended: its exported files by stage. `run` is empty if it failed before it had one."""

    overrides: tuple[str, ...]
    exit_code: int
    run: str = ""
    files: dict[str, str] = {}
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep, each with its overrides and its plan."""

    recipe: Path
    overrides: Sequence[tuple[str, ...]]
    plans: Sequence[Plan]
    options: Sequence[str]

    @classmethod
    def resolve(cls, recipe: Path, overrides: Sequence[str]) -> Sweep:
        """List the jobs and plan each.

        Raises RecipeError with the mistakes of all of them, each said once.
        """
        options, settings = split_launch_options(overrides)
        jobs = expand(settings)
        plans: list[Plan] = []
        recipes = Recipes()
        problems: list[Problem] = []
        for job in jobs:
            try:
                plans.append(make_plan(recipes.load(recipe, job), recipes.load))
            except RecipeError as error:
                problems += error.problems
        if problems:
            raise RecipeError(list(dict.fromkeys(problems)))
        return cls(recipe, jobs, plans, options)

    def run(self, store: Store, reporter: RunReporter, *, imports: Sequence[str] = ()) -> list[JobResult]:
        """Run every job; one that fails does not stop the others."""
        store.prepare()
        content = self.content(imports)
        folder = store.root / "plans" / fingerprint(content)
        folder.mkdir(exist_ok=True)
        store.disk.put(folder / PLAN, json.dumps(content).encode(), folder / f"{PLAN}.new")
        jobs = range(len(self.plans))
        results = {
            number: run_job(self.plans[number], store, reporter)
            for number in jobs
            if is_answered(self.plans[number], store)
        }
        started = [number for number in jobs if number not in results]
        if started:
            outputs = Path(mkdtemp(prefix="jobs-", dir=folder))
            launch(Job(str(folder / PLAN), str(store.root.absolute())), started, self.options, outputs)
            results |= {number: self.read(outputs, number) for number in started}
        return [results[number] for number in jobs]

    def content(self, imports: Sequence[str]) -> dict[str, Any]:
        """Return what the jobs need to know, as JSON."""
        keys = [[step.key for step in plan.steps] for plan in self.plans]
        jobs = [
            {"overrides": list(overrides), "steps": steps}
            for overrides, steps in zip(self.overrides, keys, strict=True)
        ]
        return {"recipe": str(self.recipe.absolute()), "imports": list(imports), "jobs": jobs}

    def read(self, outputs: Path, number: int) -> JobResult:
        """Return how a job that was launched ended; one that left nothing was killed."""
        file = outputs / str(number) / RESULT
        if not file.is_file():
            return JobResult(overrides=self.overrides[number], exit_code=1, error="the job was killed")
        return JobResult.model_validate_json(file.read_bytes())

    def fresh(self, store: Store) -> None:
        """Set the results of all jobs aside, so that they are made again."""
        for plan in self.plans:
            set_aside(plan, store)


@dataclass(frozen=True)
class Job:
    """What a launcher starts, in this process or another; it holds nothing but addresses."""

    plan_file: str
    store: str

    def __call__(self, config: Any) -> None:
        """Run the job whose number Hydra hands over, and leave its result in the folder Hydra made for it."""
        from rich.console import Console

        from mcomp.console import ConsoleReporter

        outputs = output_folder()
        content = json.loads(Path(self.plan_file).read_bytes())
        job = content["jobs"][config.job]
        reporter = ConsoleReporter(Console(stderr=True))
        reporter.log(" ".join(job["overrides"]))
        try:
            for name in content["imports"]:
                import_module(name)
            plan = make_plan(load_recipe(Path(content["recipe"]), job["overrides"]))
            if [step.key for step in plan.steps] != job["steps"]:
                raise RecipeError(
                    "the recipe or its data changed since the sweep was planned; start it again"
                )
            result = run_job(plan, Store(Path(self.store)), reporter)
        except McompError as error:
            result = JobResult(overrides=job["overrides"], exit_code=error.exit_code, error=str(error))
        except Exception as error:  # ours; the other jobs go on
            traceback.print_exc()
            what = f"a bug in mcomp: {type(error).__name__}: {error}"
            result = JobResult(overrides=job["overrides"], exit_code=McompError.exit_code, error=what)
        (outputs / RESULT).write_text(result.model_dump_json(), encoding="utf-8")


def run_job(plan: Plan, store: Store, reporter: RunReporter) -> JobResult:
    """Run one plan and return how it ended; what mcomp raises on purpose is part of the result."""
    scheduler = Scheduler(plan, store, reporter)
    overrides = plan.loaded.composed.overrides
    try:
        outcome = scheduler.execute()
    except McompError as error:
        reporter.warn(str(error))
        return JobResult(
            overrides=overrides, exit_code=error.exit_code, run=scheduler.run.id, error=str(error)
        )
    files = {name: str(path) for name, path in outcome.files.items()}
    return JobResult(overrides=overrides, exit_code=outcome.exit_code, run=scheduler.run.id, files=files)


def ledgers(results: Sequence[JobResult], store: Store) -> list[Ledger]:
    """Return the ledgers of the jobs that have one, in order."""
    return [store.run(result.run).read_ledger() for result in results if result.run]
