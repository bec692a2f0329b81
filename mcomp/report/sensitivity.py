"""The costs of a stage's parts: a table with bars on a terminal, a page, and the patch as YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from mcomp.recipe.dump import as_yaml
from mcomp.report import text
from mcomp.report.html import page
from mcomp.report.plots.sensitivity import bars, curves
from mcomp.report.table import Column, Encodable, Lines
from mcomp.report.text import clean
from mcomp.sensitivity.record import Cost, Figure, Sensitivity

LONGEST_BAR = 24


def sensitivity_table(found: Sensitivity) -> RenderableType:
    """Return one line for each part and level, the parts that cost most first."""
    largest = max(map(found.weight, found.costs), default=0.0)
    columns: list[Column[Cost]] = [
        Column("part", lambda cost: clean(cost.part), right=False),
        Column(found.varies, lambda cost: level(cost.level)),
        Column(clean(found.metric), lambda cost: shown_value(found, cost.value)),
        Column("cost", lambda cost: shown_cost(found, cost.cost)),
        Column("", lambda cost: bar(found, cost, largest), from_width=72, right=False),
    ]
    lines = [cost for part in found.parts for cost in found.of(part)]
    return Encodable(Group(headline(found), Text(), Lines(columns, lines), Text(), Text(clean(found.said))))


def headline(found: Sensitivity) -> Text:
    """Return what was measured, and on what."""
    line = Text.assemble((f"{clean(found.recipe)}/{clean(found.stage)}", "bold"), f"  {clean(found.type)}")
    if found.reference is not None:
        line.append(f"\n  {clean(found.metric)} of the model as it comes in: {text.metric(found.reference)}")
    samples = f"{found.samples} samples; " if found.samples else ""
    return line.append(f"\n  {samples}each part alone", style="dim")


def patch_text(found: Sensitivity) -> str:
    """Return what follows as YAML to be put into the recipe, "" if nothing does."""
    return as_yaml({"stages": {found.stage: found.patch}}) if found.patch else ""


def level(value: float) -> str:
    """Return bits as they are, a share with its digits."""
    return f"{value:.3g}"


def shown_value(found: Sensitivity, value: float) -> str:
    """Return a metric or a time, or an SQNR with one decimal."""
    return f"{value:.1f}" if found.figure == "sqnr" else text.metric(value)


def shown_cost(found: Sensitivity, cost: float) -> str:
    """Return a drop with its sign, noise as a share of the signal, or time as a share of the whole."""
    return SHOWN[found.figure](cost)


SHOWN: Mapping[Figure, Callable[[float], str]] = {
    "task": text.change,
    "sqnr": lambda cost: f"{cost:.2%}",
    "latency": lambda cost: f"{cost:+.1%}",
}


def bar(found: Sensitivity, cost: Cost, largest: float) -> Text:
    """Return a bar, red where the cost is over the limit; the largest is the longest."""
    length = round(LONGEST_BAR * max(found.weight(cost), 0.0) / largest) if largest > 0 else 0
    return Text("█" * length, style="red" if cost.cost > found.limit else "green")


def sensitivity_page(found: Sensitivity) -> str:
    """Return the page that draws the costs."""
    return page(
        "sensitivity.html",
        title=f"{found.recipe} · {found.stage}",
        about=found,
        found=found,
        bars=bars(found),
        curves=curves(found),
        patch=patch_text(found).splitlines(),
        rows=[
            (cost.part, level(cost.level), shown_value(found, cost.value), shown_cost(found, cost.cost),
             cost.cost > found.limit)
            for part in found.parts
            for cost in found.of(part)
        ],
    )  # fmt: skip
