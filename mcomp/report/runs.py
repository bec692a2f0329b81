"""What `mcomp runs` prints: the runs of a store, one line each."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from mcomp.config import Config
from mcomp.report import text
from mcomp.report.history import read_ledger
from mcomp.report.summary import batch_sizes, final
from mcomp.report.table import STATUS, Column, Encodable, Lines
from mcomp.report.text import clean
from mcomp.store.ledger import Ledger
from mcomp.store.runs import Run

NO_LEDGER = "no ledger"


class RunLine(Config):
    """One run in short.

    `test` and `speedup` (at the smallest batch size) are of the file it ended with. A run that was killed
    before its first step ended, or whose ledger is broken, has no ledger.
    """

    run: str
    recipe: str = ""
    status: str = NO_LEDGER
    started: str = ""
    overrides: tuple[str, ...] = ()
    computed: int = 0
    hit: int = 0
    failed: int = 0
    metric: str = ""
    test: float | None = None
    speedup: float | None = None
    size_ratio: float | None = None


def run_line(run: Run) -> RunLine:
    """Return a run in short."""
    ledger = read_ledger(run)
    line = RunLine(run=run.id) if ledger is None else in_short(run.id, ledger)
    # While it runs, its ledger says what would be true if nothing came after the last step.
    running = line.status in (NO_LEDGER, "interrupted") and run.is_under_way
    return line.model_copy(update={"status": "running"}) if running else line


def in_short(run: str, ledger: Ledger) -> RunLine:
    """Return a ledger in short."""
    statuses = [row.status for row in ledger.rows]
    served = final(ledger)
    return RunLine(
        run=run,
        recipe=ledger.recipe,
        status=ledger.status,
        started=ledger.started,
        overrides=ledger.overrides,
        computed=statuses.count("computed"),
        hit=statuses.count("hit"),
        failed=statuses.count("failed"),
        metric=ledger.metric,
        test=served.test if served else None,
        speedup=served.speedup.get(min(batch_sizes(ledger), default=0)) if served else None,
        size_ratio=served.size_ratio if served else None,
    )


def runs_table(lines: list[RunLine]) -> RenderableType:
    """Return the runs as a table."""
    return Encodable(Lines(COLUMNS, lines))


def status(line: RunLine) -> Text:
    """Return how a run ended."""
    return Text(clean(line.status), style=STATUS.get(line.status, "dim"))


def steps(line: RunLine) -> str:
    """Return `2 computed, 4 hit`."""
    counts = {"computed": line.computed, "hit": line.hit, "failed": line.failed}
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number) or text.NONE


def when(line: RunLine) -> str:
    """Return the start of a run to the minute (UTC)."""
    return clean(line.started[:16].replace("T", " ")) or text.NONE


def tested(line: RunLine) -> str:
    """Return `0.9910 accuracy`."""
    return text.NONE if line.test is None else f"{text.metric(line.test)} {clean(line.metric)}"


COLUMNS: tuple[Column[RunLine], ...] = (
    Column("run", lambda line: clean(line.run), right=False),
    Column("recipe", lambda line: clean(line.recipe) or text.NONE, from_width=130, right=False),
    Column("status", status, right=False),
    Column("started (UTC)", when, from_width=110, right=False),
    Column("steps", steps, from_width=60, right=False),
    Column("test", tested),
    Column("faster", lambda line: text.ratio(line.speedup), from_width=72),
    Column("smaller", lambda line: text.ratio(line.size_ratio), from_width=120),
    Column("set", lambda line: clean(" ".join(line.overrides)), from_width=150, right=False),
)
