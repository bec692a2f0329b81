"""What `mcomp plan` prints: the steps in order, which of them the store has, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from mcomp.plan import Plan
from mcomp.report.history import History
from mcomp.report.table import Column, Encodable, Lines
from mcomp.report.text import clean, seconds
from mcomp.store.kept import Cost, read_figures
from mcomp.store.store import Store


@dataclass(frozen=True)
class PlannedStep:
    """One line of a plan.

    `reasons`: why it is to do; empty if its result is in the store. `seconds`: what it took, or will take by
    what it took the last time. `for_steps`: the numbers of the steps that use its result.
    """

    number: int
    label: str
    type: str
    key: str
    stored: bool
    reasons: tuple[str, ...]
    seconds: float | None
    for_steps: tuple[int, ...]


def planned_steps(plan: Plan, store: Store) -> list[PlannedStep]:
    """Return the steps of a plan as the store knows them."""
    found = {step.key for step in plan.steps if store.find(step.key, step.key_json) is not None}
    history = History.read(store) if len(found) < len(plan.steps) else History(store, {})
    numbers = {step.key: number for number, step in enumerate(plan.steps, start=1)}
    names = {key: f"step {number}" for key, number in numbers.items()}
    lines = []
    for step in plan.steps:
        stored = step.key in found
        reasons = [] if stored else history.reasons(step.label, step.key, step.key_json, names)
        cost = read_figures(store, Cost, step.key, "cost") if stored else None
        lines.append(
            PlannedStep(
                number=numbers[step.key],
                label=step.label,
                type=step.config.type,
                key=step.key,
                stored=stored,
                reasons=tuple(reasons),
                seconds=(cost.seconds if cost else None) if stored else history.seconds(step.label),
                for_steps=tuple(numbers[each.key] for each in plan.steps if step.key in each.needs()),
            )
        )
    return lines


def plan_table(plan: Plan, store: Store) -> RenderableType:
    """Return a table of the steps, and below it what is left to do and about how long that takes."""
    steps = planned_steps(plan, store)
    return Encodable(Group(Lines(COLUMNS, steps), Text(summary(steps))))


def summary(steps: Sequence[PlannedStep]) -> str:
    """Return how many steps are to do, and the time they take by what they took before."""
    missing = [step for step in steps if not step.stored]
    line = f"{len(steps)} steps, {len(missing)} to do"
    known = [step.seconds for step in missing if step.seconds is not None]
    if known:
        line += f", about {seconds(sum(known))}"
    if known and len(known) < len(missing):
        line += f" and {len(missing) - len(known)} of unknown length"
    return line


def name(step: PlannedStep) -> Text:
    """Return the label of a step, the steps that share its result, and the reasons below it."""
    shown = Text(clean(step.label))
    if len(step.for_steps) > 1:
        shown.append(f" (shared by steps {', '.join(map(str, step.for_steps))})", style="dim")
    for reason in step.reasons:
        shown.append(f"\n  {clean(reason)}", style="dim")
    return shown


def state(step: PlannedStep) -> Text:
    """Return whether a step is to do, and its time."""
    shown = Text("in store", style="green") if step.stored else Text("to do", style="yellow")
    if step.seconds is not None:
        shown.append(f" ({'took' if step.stored else 'about'} {seconds(step.seconds)})", style="dim")
    return shown


COLUMNS: tuple[Column[PlannedStep], ...] = (
    Column("step", lambda step: str(step.number), right=False),
    Column("stage", name, right=False),
    Column("type", lambda step: clean(step.type), from_width=100, right=False),
    Column("key", lambda step: step.key[:12], from_width=80, right=False),
    Column("state", state, right=False),
)
