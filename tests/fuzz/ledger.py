"""Any JSON as a run's ledger, with the digest that it should have: read, shown as a table and as a page."""

from __future__ import annotations

import io
import json
from pathlib import Path

import plotly.offline
from rich.console import Console

from mcomp.errors import StoreError
from mcomp.report.html import render
from mcomp.report.table import ledger_table
from mcomp.store.disk import Disk
from mcomp.store.runs import Run
from mcomp.store.sealed import sealed
from tests.fuzz.properties import require_good_words
from tests.hostile.stores import LEDGER, RUN
from tests.mcomp.report import ledgers

SEEDS = [json.dumps(LEDGER).encode()] + [
    json.dumps({**json.loads(make().model_dump_json()), "run": RUN}).encode()
    for make in (ledgers.main_job, ledgers.missed, ledgers.failed, ledgers.empty, ledgers.hostile)
]
IS_JSON = True
plotly.offline.get_plotlyjs = lambda: "var Plotly = {};"


def attempt(data: bytes) -> None:
    """Read the bytes as a ledger, and show it."""
    run = Run(RUN, Path("runs") / RUN, Disk())
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "ledger.json").write_bytes(with_digest(data))
    try:
        ledger = run.read_ledger()
    except StoreError as error:
        require_good_words(error)
        return
    shown = io.StringIO()
    Console(file=shown, width=120, color_system=None).print(ledger_table(ledger))
    assert shown.getvalue().replace("\n", "").isprintable()
    page = render(ledger)
    assert not any(letter in page for letter in ("\x1b", "\x9b", "\u202e"))


def with_digest(data: bytes) -> bytes:
    """Return JSON as it would have been written; other bytes as they are."""
    try:
        plain = json.loads(data)
        return sealed(plain) if isinstance(plain, dict) else data
    except (ValueError, RecursionError, TypeError):
        return data
