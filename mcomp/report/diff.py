"""What `mcomp diff` prints: what two recipes or runs say differently, and what two runs gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from mcomp.recipe.build import LoadedRecipe
from mcomp.recipe.places import dotted
from mcomp.recipe.resolved import with_absolute_paths
from mcomp.report import text
from mcomp.report.summary import batch_sizes, final
from mcomp.report.table import Column, Encodable, Lines
from mcomp.report.text import clean
from mcomp.report.why import differences, shown
from mcomp.store.ledger import Ledger


@dataclass(frozen=True)
class Side:
    """One of the two things compared; `ledger` if it is a run."""

    name: str
    loaded: LoadedRecipe
    ledger: Ledger | None


class Line(NamedTuple):
    """One thing that is said twice."""

    what: str
    first: str
    second: str


def recipe_lines(first: Side, second: Side) -> list[Line]:
    """Return what the two recipes say differently, by dotted key, defaults included."""
    found = differences(plain(first.loaded), plain(second.loaded))
    return [Line(dotted(each.path), shown(each.old), shown(each.new)) for each in found]


def plain(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return all that a recipe comes to: with defaults, the order of its stages, and paths from anywhere."""
    said = loaded.recipe.model_dump(mode="json") | {"pipeline": list(loaded.recipe.order())}
    return with_absolute_paths(said, loaded)


def figure_lines(first: Ledger, second: Ledger) -> list[Line]:
    """Return the figures of two runs, those that at least one of them has."""
    both = figures(first), figures(second)
    return [Line(what, *(each.get(what, text.NONE) for each in both)) for what in {**both[0], **both[1]}]


def figures(ledger: Ledger) -> dict[str, str]:
    """Return what a run gave, by name: how it ended, its time, and the figures of its last file."""
    served = final(ledger)
    found = {
        "status": ledger.status,
        "time of all steps": text.seconds(sum(row.seconds for row in ledger.rows)),
    }
    if served is None:
        return found
    found |= {
        f"test {ledger.metric}": text.metric(served.test),
        "drop": text.metric(served.metric_drop),
        "drop of the worst class": text.metric(served.worst_class[1] if served.worst_class else None),
        "bytes": text.size(served.size_bytes),
        "smaller": text.ratio(served.size_ratio),
    }
    for batch_size in batch_sizes(ledger):
        timed = served.latency.get(batch_size)
        found[f"latency at batch {batch_size}"] = text.milliseconds(timed.median_ms if timed else None)
        found[f"speedup at batch {batch_size}"] = text.ratio(served.speedup.get(batch_size))
    return found


def diff_table(first: Side, second: Side) -> RenderableType:
    """Return what two recipes say differently and, for two runs, what they gave side by side."""
    changed = recipe_lines(first, second)
    parts: list[RenderableType] = (
        [Lines(columns("key", first, second), changed)] if changed else [Text("the recipes say the same")]
    )
    if first.ledger is not None and second.ledger is not None:
        given = figure_lines(first.ledger, second.ledger)
        parts += [Text(), Lines(columns("figure", first, second), given)]
    return Encodable(Group(*parts))


def columns(title: str, first: Side, second: Side) -> Sequence[Column[Line]]:
    """Return the columns of two sides."""
    return (
        Column(title, lambda line: clean(line.what), right=False),
        Column(clean(first.name), lambda line: clean(line.first), right=False),
        Column(clean(second.name), lambda line: clean(line.second), right=False),
    )
