"""What `mcomp check` prints of a recipe without mistakes: what was seen, what it needs, what is open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcomp.check.findings import BoundModel, Findings, Match
from mcomp.report.table import Column, Encodable, Lines
from mcomp.report.text import clean, count, size
from mcomp.store.ledger import Row

SHOWN = 3
TITLES = 8


def findings_report(findings: Findings) -> RenderableType:
    """Return the report of a check."""
    rows = [row for row in findings.rows if row.status == "computed"]
    return Encodable(
        Group(
            titled(seen(findings)),
            Padding(Lines(COLUMNS, rows), (1, 0, 1, 2)),
            titled([*needs(findings), *(("open", what) for what in unchecked(findings))]),
        )
    )


def titled(lines: Iterable[tuple[str, str]]) -> Table:
    """Return lines with their titles beside them."""
    table = Table.grid(padding=(0, 2))
    for title, what in lines:
        table.add_row(f"  {title:<{TITLES}}", Text(clean(what)))
    return table


def seen(findings: Findings) -> Iterator[tuple[str, str]]:
    """Yield what was seen, under a title."""
    yield "data", ", ".join(f"{name} {whole:,}" for name, (whole, _) in findings.splits.items()) + " samples"
    for model in findings.models:
        yield "model", described(model)
    for match in findings.matches:
        yield "pattern", matched(match)
    for warning in findings.warnings:
        yield "warning", warning


def described(model: BoundModel) -> str:
    """Return a model in words."""
    inputs = ", ".join(f"{name} {dimensions(shape)}" for name, shape in model.inputs.items())
    weights = f", weights of {model.checkpoint} fit" if model.checkpoint else ""
    return (
        f"{model.recipe}: {model.type}, {count(model.parameters)} parameters, "
        f"{inputs} to {dimensions(model.output)}{weights}"
    )


def dimensions(shape: tuple[int, ...]) -> str:
    """Return a shape: `1×16×16`."""
    return "×".join(map(str, shape)) or "a number"


def matched(match: Match) -> str:
    """Return a pattern and the first modules that it chooses."""
    more = f" and {len(match.modules) - SHOWN} more" if len(match.modules) > SHOWN else ""
    return (
        f"{match.path}: '{match.pattern}' chooses {len(match.modules)}: "
        f"{', '.join(match.modules[:SHOWN])}{more}"
    )


def needs(findings: Findings) -> Iterator[tuple[str, str]]:
    """Yield what a run will need, under a title."""
    estimate = findings.estimate
    yield (
        "disk",
        f"about {size(estimate.results)} of results, up to {size(estimate.checkpoints)} of "
        f"checkpoints while it trains; {size(estimate.free)} free",
    )
    if estimate.memory is not None:
        yield (
            "memory",
            f"up to {size(estimate.memory)} with whole batches: weights, gradients, optimizer, "
            "activations and the loaded data",
        )


def unchecked(findings: Findings) -> Iterator[str]:
    """Yield what a check cannot know."""
    used = ", ".join(f"{part:,} of {name}" for name, (_, part) in findings.splits.items())
    yield f"samples but those that were used: {used}"
    yield "what results are worth: metrics, the parity of files and `require` are not judged on so little"
    if findings.untrained:
        yield f"the work of {', '.join(findings.untrained)}: fresh models stood in for their results"
    for label in findings.unexported:
        yield f"{label}: the pipeline exports a model of the same architecture"


COLUMNS: tuple[Column[Row], ...] = (
    Column("rehearsed", lambda row: clean(row.stage), right=False),
    Column("type", lambda row: clean(row.type), right=False),
    Column("parameters", lambda row: count(row.figures.parameters)),
    Column("MACs", lambda row: count(row.figures.macs)),
    Column("bytes", lambda row: size(row.figures.size_bytes)),
    Column("memory", lambda row: size(row.peak_memory_bytes), from_width=84),
)
