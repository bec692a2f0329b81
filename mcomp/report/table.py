"""A ledger on a terminal of any width and any encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mcomp.report import text
from mcomp.report.facts import note
from mcomp.report.jobs import Job, jobs, metric_name, timed_sizes
from mcomp.report.summary import (
    QUICK,
    File,
    Verdict,
    batch_sizes,
    better_by,
    files,
    final,
    layers_in_int8,
    session_note,
    verdict,
)
from mcomp.report.text import clean
from mcomp.store.ledger import Ledger, Row, Served
from mcomp.store.sweeps import JobRecord

Line = TypeVar("Line")
Cell = Callable[[Line], str | Text]

# One character each, so that columns stay aligned.
PLAIN = str.maketrans(
    {"×": "x", "✓": "+", "✗": "!", "–": "-", "−": "-", "±": "~", "…": ".", "·": "-", "�": "?", "█": "#"}
)
STATUS = {
    "done": "green",
    "require not met": "yellow",
    "failed": "red",
    "interrupted": "yellow",
    "killed": "red",
    "not started": "yellow",
}


@dataclass(frozen=True)
class Column(Generic[Line]):
    """One column; it is left out on terminals narrower than `from_width`."""

    title: str
    cell: Cell[Line]
    from_width: int = 0
    right: bool = True


@dataclass(frozen=True)
class Lines(Generic[Line]):
    """Lines of equal columns, as many of them as the terminal has room for."""

    columns: Sequence[Column[Line]]
    lines: Iterable[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [column for column in self.columns if column.from_width <= options.max_width]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in shown:
            table.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold")
        for line in self.lines:
            table.add_row(*(as_text(column.cell(line)) for column in shown))
        yield table


@dataclass(frozen=True)
class Encodable:
    """A renderable in what the terminal's encoding has: `×` becomes `x` where there is no Unicode."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            if options.ascii_only:
                plain = segment.text.translate(PLAIN).encode(options.encoding, "replace")
                yield Segment(plain.decode(options.encoding), segment.style, segment.control)
            else:
                yield segment


def ledger_table(ledger: Ledger) -> RenderableType:
    """Return the report of a run: its steps, its files beside the baseline's, and its requirements."""
    parts: list[RenderableType] = [headline(ledger)]
    if ledger.rows:
        parts += [Text(), Lines(step_columns(ledger), ledger.rows)]
    if files(ledger):
        parts += [Text(), Lines(file_columns(ledger), files(ledger))]
    served = final(ledger)
    causes = served.slower_because if served else ()
    parts += [Text(f"slower: {clean(cause)}", style="yellow") for cause in causes]
    notes = [session_note(served), *(note(row) for row in ledger.rows if row.served)]
    parts += [Text(f"note: {clean(each)}", style="yellow") for each in notes if each]
    if ledger.require:
        lines = [verdict(requirement, clean(ledger.metric)) for requirement in ledger.require]
        parts += [Text(), Lines(VERDICT_COLUMNS, lines)]
    return Encodable(Group(*parts))


def sweep_table(records: Sequence[JobRecord]) -> RenderableType:
    """Return one line for each job of a sweep; those on the front of metric and latency are marked."""
    lines = Lines(job_columns(clean(metric_name(records)), timed_sizes(records)), jobs(records))
    note = Text("✓ no other job is better in both metric and latency", style="dim")
    return Encodable(Group(lines, note))


def headline(ledger: Ledger) -> Text:
    """Return name, status, run and the overrides."""
    line = Text.assemble((clean(ledger.recipe), "bold"), "  ", (ledger.status, STATUS[ledger.status]))
    line.append(f"  {clean(ledger.run)}", style="dim")
    if ledger.quick:
        line.append(f"\n  {QUICK}", style="yellow")
    for override in ledger.overrides:
        line.append(f"\n  {clean(override)}", style="dim")
    return line


def step_columns(ledger: Ledger) -> list[Column[Row]]:
    """Return what is shown of a step, on validation and of the model's own files."""
    return [
        Column("step", step_name, right=False),
        Column("time", spent),
        Column(f"validation {clean(ledger.metric)}", lambda row: text.metric(row.figures.validation)),
        Column("change", lambda row: text.change(better_by(ledger, row)), from_width=60),
        Column("parameters", lambda row: text.count(row.figures.parameters), from_width=84),
        Column("MACs", lambda row: text.count(row.figures.macs), from_width=72),
        Column("bytes", lambda row: text.size(row.figures.size_bytes), from_width=48),
    ]


def file_columns(ledger: Ledger) -> list[Column[File]]:
    """Return what is shown of an exported file, on test and in its runtime."""
    figures: list[Column[Served]] = [
        Column(f"test {clean(ledger.metric)}", lambda served: text.metric(served.test)),
        Column("bytes", lambda served: text.size(served.size_bytes), from_width=48),
        Column("smaller", lambda served: text.ratio(served.size_ratio)),
        *map(timing, batch_sizes(ledger)),
        Column("INT8 layers", layers_in_int8, from_width=100),
    ]
    if any(file.served.worst_class for file in files(ledger)):
        figures.append(Column("worst class", worst_class, from_width=112))
    name: Column[File] = Column("exported file", lambda file: clean(file.name), right=False)
    columns = [name, *(Column(each.title, served_by(each.cell), each.from_width) for each in figures)]
    if any(file.compressed_bytes for file in files(ledger)):
        packed: Column[File] = Column("compressed", lambda file: text.size(file.compressed_bytes), 60)
        columns.insert(3, packed)
    return columns


def worst_class(served: Served) -> str:
    """Return which class lost most against the baseline, and what it lost."""
    if served.worst_class is None:
        return text.NONE
    number, drop = served.worst_class
    return f"{number}: {text.change(-drop)}"


def served_by(cell: Cell[Served]) -> Cell[File]:
    """Return the cell of a file that shows a figure of its serving."""
    return lambda file: cell(file.served)


def timing(batch_size: int) -> Column[Served]:
    """Return the latency at a batch size and how many times faster than the baseline that is."""

    def measured(served: Served) -> str:
        known = served.latency.get(batch_size)
        shown = text.milliseconds(known.median_ms if known else None)
        faster = served.speedup.get(batch_size)
        return shown if faster is None else f"{shown} {text.ratio(faster):>5}"

    return Column(f"batch {batch_size}", measured)


def job_columns(metric: str, sizes: Sequence[int]) -> list[Column[Job]]:
    """Return what is shown of a job of a sweep."""
    columns: list[Column[Job]] = [
        Column("", lambda job: "✓" if job.on_front else " ", right=False),
        Column("job", lambda job: str(job.number)),
        Column("overrides", job_name, right=False),
        Column("status", lambda job: Text(job.status, style=STATUS[job.status]), from_width=60, right=False),
        Column(f"test {metric}", of_file(lambda served: text.metric(served.test))),
        Column("bytes", of_file(lambda served: text.size(served.size_bytes)), from_width=72),
        Column("smaller", of_file(lambda served: text.ratio(served.size_ratio)), from_width=84),
    ]
    return columns + [Column(each.title, of_file(each.cell)) for each in map(timing, sizes)]


def job_name(job: Job) -> Text:
    """Return what a job changed, with its error under it if it has one."""
    name = Text(clean(" ".join(job.overrides)))
    return name.append(f"\n{clean(job.error)}", style="red") if job.error else name


def of_file(cell: Cell[Served]) -> Cell[Job]:
    """Return the cell of the file that a job ended with; a dash where there is none."""
    return lambda job: cell(job.served) if job.served else text.NONE


VERDICT_COLUMNS: tuple[Column[Verdict], ...] = (
    Column("", lambda verdict: Text("✓", "green") if verdict.met else Text("✗", "red"), right=False),
    Column("require", lambda verdict: clean(verdict.what), right=False),
    Column("bound", lambda verdict: verdict.bound, right=False),
    Column("reached", lambda verdict: verdict.value),
    Column("", lambda verdict: "met" if verdict.met else Text("missed", "red"), right=False),
)


def step_name(row: Row) -> Text:
    """Return recipe and stage, with the error under it if the step failed."""
    name = Text.assemble((f"{clean(row.recipe)}/", "dim"), clean(row.stage))
    return name.append(f"\n{clean(row.error)}", style="red") if row.error else name


def spent(row: Row) -> Text:
    """Return the time a step took, dim if that was in an earlier run."""
    if row.status == "failed":
        return Text("failed", style="red")
    shown = text.seconds(row.seconds)
    return Text(f"hit ({shown})", style="dim") if row.status == "hit" else Text(shown)


def as_text(cell: str | Text) -> Text:
    """Return a cell that rich does not read markup in."""
    return cell if isinstance(cell, Text) else Text(cell)
