"""What a run shows on a terminal while it works: a line per step, a bar while something is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from mcomp.errors import printable_lines
from mcomp.plan import Step
from mcomp.report.text import figure, seconds
from mcomp.stage import Progress as StageProgress
from mcomp.store.ledger import Row


def as_it_is(text: str) -> str:
    """Return text of a recipe, a plugin or a file so that it can neither be markup nor steer the terminal."""
    return escape(printable_lines(text))


class Bar:
    """One running bar; the figures of the last step stand behind it."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self.bars, self.task = bars, task

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Move on by `steps` and show `figures`."""
        shown = "  ".join(f"{name} {figure(value)}" for name, value in figures.items())
        self.bars.update(self.task, advance=steps, figures=as_it_is(shown))


class ConsoleReporter:
    """Reports to a rich console. On anything but a terminal only whole lines are printed, no bars.

    `job`: the number of the job that speaks, where there are several; `alone`: whether nothing else prints
    at the same time, so that a bar can move.
    """

    def __init__(self, console: Console, job: int | None = None, *, alone: bool = True) -> None:
        self.console = console
        self.prefix = "" if job is None else f"[cyan]{escape(f'[{job}]')}[/cyan] "
        self.shows_bars = alone and console.is_terminal

    def step_started(self, step: Step, number: int, total: int) -> None:
        """Say which step is looked up or computed now."""
        self.position = f"[dim]{number}/{total}[/dim]"

    def step_ended(self, row: Row) -> None:
        """Say how a step ended."""
        how = "[dim]hit[/dim]     " if row.status == "hit" else f"[green]{seconds(row.seconds):>8}[/green]"
        metric = "" if row.figures.validation is None else f"validation {row.figures.validation:.4f}"
        name = f"{row.recipe}/{row.stage}"
        self.console.print(
            f"{self.prefix}{self.position} {how} {as_it_is(name)} [dim]{as_it_is(row.type)}[/dim] {metric}",
            soft_wrap=True,
        )

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[StageProgress]:
        """Show a bar for `total` steps while the block runs."""
        columns: list[Any] = [
            TextColumn("    {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[figures]}"),
        ]
        with Progress(*columns, console=self.console, transient=True, disable=not self.shows_bars) as bars:
            yield Bar(bars, bars.add_task(as_it_is(label), total=total, figures=""))

    def log(self, message: str) -> None:
        """Print a line."""
        self.console.print(f"{self.prefix}    [dim]{as_it_is(message)}[/dim]", soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print a line that should not be overlooked."""
        self.console.print(f"{self.prefix}    [yellow]warning:[/yellow] {as_it_is(message)}", soft_wrap=True)


class SilentReporter:
    """Reports nothing; for use from Python."""

    def step_started(self, step: Step, number: int, total: int) -> None:
        """Nothing."""

    def step_ended(self, row: Row) -> None:
        """Nothing."""

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[StageProgress]:
        """Yield a bar that shows nothing."""
        yield SilentBar()

    def log(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Pass the warning on to Python's own."""
        import warnings

        warnings.warn(message, stacklevel=2)


class SilentBar:
    """A bar that shows nothing."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Nothing."""
