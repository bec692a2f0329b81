"""What `mcomp explain` prints: why each step of a run was a hit or was computed, when, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from mcomp.report import text
from mcomp.report.history import History, key_json, label
from mcomp.report.table import Column, Encodable, Lines, headline
from mcomp.report.text import clean
from mcomp.store.ledger import Ledger, Row
from mcomp.store.runs import Run
from mcomp.store.store import Store


@dataclass(frozen=True)
class ExplainedStep:
    """One step of a run.

    `reasons`: why it was computed, or where its result comes from. `ended`: when this run computed it (UTC).
    `environment`: what its result was made on; empty if the result is gone.
    """

    number: int
    row: Row
    reasons: tuple[str, ...]
    ended: str
    environment: Mapping[str, str]


def explained_steps(run: Run, ledger: Ledger, store: Store) -> list[ExplainedStep]:
    """Return the steps of a run, each compared with the newest result before that run."""
    history = History.read(store, before=run.id)
    names = {row.key: f"step {number}" for number, row in enumerate(ledger.rows, start=1)}
    ended = {str(event.get("key")): event["time"] for event in run.events() if event["event"] == "step ended"}
    return [
        ExplainedStep(
            number=number,
            row=row,
            reasons=tuple(reasons(row, history, names)),
            ended=str(ended.get(row.key, "")) if row.status == "computed" else "",
            environment=environment(row, store),
        )
        for number, row in enumerate(ledger.rows, start=1)
    ]


def reasons(row: Row, history: History, names: Mapping[str, str]) -> list[str]:
    """Return why a step was done as it was."""
    if row.status == "failed":
        return [row.error]
    if row.status == "hit":
        made_in = history.made_in(label(row), row.key)
        return [f"made in {made_in}" if made_in else "made in an older run, or by a recipe of another name"]
    now = key_json(history.store, row.key)
    if now is None:
        return ["its result is gone from the store: why it was computed is not known any more"]
    return history.reasons(label(row), row.key, now, names)


def environment(row: Row, store: Store) -> Mapping[str, str]:
    """Return where the result of a step was made, as its manifest says."""
    artifact = store.find(row.key) if row.status != "failed" else None
    found = artifact.about.get("environment") if artifact else None
    return found if isinstance(found, Mapping) else {}


def explained_table(ledger: Ledger, steps: Sequence[ExplainedStep]) -> RenderableType:
    """Return the steps as a table, and below it where their results were made."""
    made_on = [Text(line, style="dim") for line in environments(steps)]
    return Encodable(Group(headline(ledger), Text(), Lines(COLUMNS, steps), Text(), *made_on))


def environments(steps: Sequence[ExplainedStep]) -> list[str]:
    """Return one line for each machine and set of libraries, with the steps that were made there."""
    made: dict[str, list[str]] = {}
    for step in steps:
        if step.environment:
            where = ", ".join(f"{name} {value}" for name, value in step.environment.items())
            made.setdefault(clean(where), []).append(str(step.number))
    return [
        f"step{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} made on: {where}"
        for where, numbers in made.items()
    ]


def name(step: ExplainedStep) -> Text:
    """Return the label of a step with the reasons below it."""
    shown = Text(clean(label(step.row)))
    for reason in step.reasons:
        shown.append(f"\n  {clean(reason)}", style="red" if step.row.status == "failed" else "dim")
    return shown


STYLE = {"hit": "dim", "computed": "green", "failed": "red"}

COLUMNS: tuple[Column[ExplainedStep], ...] = (
    Column("step", lambda step: str(step.number), right=False),
    Column("stage", name, right=False),
    Column("key", lambda step: step.row.key[:12], from_width=100, right=False),
    Column("result", lambda step: Text(step.row.status, style=STYLE[step.row.status]), right=False),
    Column("time", lambda step: text.seconds(step.row.seconds) if step.row.seconds else text.NONE),
    Column("ended (UTC)", lambda step: clean(step.ended[:19].replace("T", " ")) or text.NONE, from_width=80),
)
