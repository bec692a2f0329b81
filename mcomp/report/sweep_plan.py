"""What `mcomp plan -m` prints: a sweep as a tree. What jobs share is drawn once, then the branches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from mcomp.plan import Step
from mcomp.report.table import Encodable
from mcomp.report.text import clean
from mcomp.sweep.work import Work


@dataclass(frozen=True)
class Branch:
    """Steps that the same jobs take one after the other, and the branches in which they part."""

    steps: tuple[Step, ...]
    jobs: tuple[int, ...]
    branches: tuple[Branch, ...]


def branches(paths: Sequence[tuple[int, Sequence[Step]]]) -> tuple[Branch, ...]:
    """Return the tree of jobs: each a number and its steps, those that more jobs share first."""
    groups: dict[str | int, list[tuple[int, Sequence[Step]]]] = {}
    for number, steps in paths:
        # Jobs that differ in no step part here all the same.
        groups.setdefault(steps[0].key if steps else number, []).append((number, steps))
    return tuple(branch(group) for group in groups.values())


def branch(paths: Sequence[tuple[int, Sequence[Step]]]) -> Branch:
    """Return one branch: the steps that all of some jobs start with, then what is left of each."""
    first = paths[0][1]
    shared = next(
        (at for at, step in enumerate(first) if any(at >= len(s) or s[at].key != step.key for _, s in paths)),
        len(first),
    )
    numbers = tuple(number for number, _ in paths)
    rest = [(number, steps[shared:]) for number, steps in paths]
    return Branch(tuple(first[:shared]), numbers, branches(rest) if len(paths) > 1 else ())


def sweep_branches(work: Work) -> tuple[Branch, ...]:
    """Return the tree of a sweep. A step rests only on steps that at least as many jobs take."""
    counts: dict[str, int] = {}
    for plan in work.sweep.plans:
        for step in plan.steps:
            counts[step.key] = counts.get(step.key, 0) + 1
    return branches(
        [
            (number, sorted(plan.steps, key=lambda step: -counts[step.key]))
            for number, plan in enumerate(work.sweep.plans)
        ]
    )


def sweep_tree(work: Work) -> RenderableType:
    """Return the tree of a sweep, what of it is in the store, and how many waves of jobs will be started."""
    tree = Tree(Text(summary(work)))
    draw(tree, sweep_branches(work), work, set())
    return Encodable(Group(tree))


def summary(work: Work) -> str:
    """Return the counts of a sweep, and the launcher if it is not Hydra's own."""
    steps, missing = len(work.sweep.steps), len(work.sweep.steps) - len(work.found)
    jobs, started = len(work.sweep.plans), len(work.missing)
    lines = [
        f"{jobs} jobs: {started} to start, in {len(work.waves)} waves; {jobs - started} in the store",
        f"{steps} steps: {missing} to do",
        *([" ".join(work.sweep.options)] if work.sweep.options else []),
    ]
    return "\n".join(lines)


def draw(tree: Tree, parts: Sequence[Branch], work: Work, drawn: set[str]) -> None:
    """Add branches to a tree. A step that two branches share is marked where it comes again."""
    for part in parts:
        if len(part.jobs) == 1:
            tree.add(job_line(part, work, drawn))
            continue
        lines = [step_line(step, len(part.jobs), work, drawn) for step in part.steps]
        node = tree.add(Text("\n").join(lines)) if lines else tree
        draw(node, part.branches, work, drawn)


def step_line(step: Step, num_jobs: int, work: Work, drawn: set[str]) -> Text:
    """Return a step that several jobs share."""
    line = Text.assemble((clean(step.label), "bold"), f"  {clean(step.config.type)}  ")
    line.append(*state(step, work, drawn)).append(f"  for {num_jobs} jobs", style="dim")
    return line


def job_line(part: Branch, work: Work, drawn: set[str]) -> Text:
    """Return one job: its number, its overrides, and the steps that only it takes."""
    number = part.jobs[0]
    line = Text.assemble((f"[{number}] ", "cyan"), clean(" ".join(work.sweep.overrides[number])))
    for step in part.steps:
        what, style = state(step, work, drawn)
        line.append(f"\n{clean(step.stage)} ").append(what, style=style)
    if number not in work.missing:
        line.append("\nnothing to do: it is not started", style="dim")
    return line


def state(step: Step, work: Work, drawn: set[str]) -> tuple[str, str]:
    """Return whether a step is in the store, to do, or shown already, and the style of that."""
    if step.key in work.found:
        return "in store", "green"
    if step.key in drawn:
        return "to do (above)", "dim"
    drawn.add(step.key)
    return "to do", "yellow"


def sweep_plan_json(work: Work) -> dict[str, Any]:
    """Return the jobs of a sweep with their steps and their waves, as plain JSON."""
    return {
        "steps": {
            key: {"label": step.label, "type": step.config.type, "stored": key in work.found}
            for key, step in work.sweep.steps.items()
        },
        "jobs": list(job_entries(work)),
        "waves": work.waves,
        "launcher": list(work.sweep.options),
    }


def job_entries(work: Work) -> Iterator[dict[str, Any]]:
    """Yield each job; `wave` counts from 0, and is null for a job that is not started."""
    waves = {number: index for index, wave in enumerate(work.waves) for number in wave}
    for number, (overrides, plan) in enumerate(zip(work.sweep.overrides, work.sweep.plans, strict=True)):
        keys = [step.key for step in plan.steps]
        yield {"job": number, "overrides": list(overrides), "steps": keys, "wave": waves.get(number)}
