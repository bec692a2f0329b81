"""What `mcomp plan` prints: the steps in order, and which of them the store has."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcomp.plan import Plan
from mcomp.report.text import clean, seconds
from mcomp.store.store import Store


def plan_table(plan: Plan, store: Store) -> RenderableType:
    """Return a table of the steps; what is stored is shown with the time it took to make."""
    table = Table("step", "stage", "type", "key", "state", box=None, pad_edge=False)
    missing = 0
    for number, step in enumerate(plan.steps, start=1):
        cached = store.find(step.key, step.key_json) is not None
        missing += not cached
        state = Text("in store", style="green") if cached else Text("to do", style="yellow")
        cost = (store.measurement(step.key, "cost") or {}).get("seconds") if cached else None
        if cost is not None:
            state.append(f" (took {seconds(cost)})", style="dim")
        table.add_row(str(number), Text(clean(step.label)), Text(step.config.type), step.key[:12], state)
    return Group(table, Text(f"{len(plan.steps)} steps, {missing} to do"))
