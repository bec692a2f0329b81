"""The results of a sweep as a table for other programs: one line for each job, plain names and numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mcomp.errors import printable_lines
from mcomp.report.jobs import jobs
from mcomp.report.summary import final
from mcomp.store.ledger import Figures, Ledger, Served
from mcomp.store.sweeps import JobRecord, SweepRecord

FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def results_json(record: SweepRecord) -> str:
    """Return a sweep with the figures of its jobs as JSON."""
    about = record.model_dump(mode="json", exclude={"jobs"})
    return json.dumps({**about, "jobs": list(results(record.jobs))}, indent=1, allow_nan=False) + "\n"


def results_csv(record: SweepRecord) -> str:
    """Return the jobs as CSV: a column for each override, an empty cell for what is not known."""
    lines = [
        {harmless(name): harmless(value) for name, value in flat(result).items()}
        for result in results(record.jobs)
    ]
    columns = dict.fromkeys(column for line in lines for column in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def harmless(cell: Any) -> Any:
    """Return a cell that steers no terminal, and that no spreadsheet computes: it gets a quote before it."""
    if not isinstance(cell, str):
        return cell
    is_formula = cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)
    return printable_lines(f"'{cell}" if is_formula else cell)


def results(records: Sequence[JobRecord]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each job. Sizes in bytes, times in milliseconds, by batch size."""
    for record, job in zip(records, jobs(records), strict=True):
        yield {
            "job": record.number,
            "overrides": dict(split(override) for override in record.overrides),
            "status": record.status,
            "exit_code": record.exit_code,
            "run": record.run,
            "error": record.error,
            "files": record.files,
            "on_front": job.on_front,
            "figures": figures(record.ledger) if record.ledger else {},
        }


def split(override: str) -> tuple[str, str]:
    """Return the key and the value of an override."""
    key, _, value = override.partition("=")
    return key.lstrip("+"), value


def figures(ledger: Ledger) -> dict[str, Any]:
    """Return the figures of the last model, and those of the file that it ended in."""
    served = final(ledger)
    return {
        "metric": ledger.metric,
        **last_model(ledger).model_dump(include={"validation", "parameters", "macs"}),
        **(served_figures(served) if served else {}),
    }


def last_model(ledger: Ledger) -> Figures:
    """Return the figures after the last step that made a model."""
    known = (row.figures for row in reversed(ledger.rows) if row.figures.validation is not None)
    return next(known, Figures())


def served_figures(served: Served) -> dict[str, Any]:
    """Return the figures of an exported file."""
    return {
        "test": served.test,
        "metric_drop": served.metric_drop,
        "worst_class_drop": served.worst_class[1] if served.worst_class else None,
        "size_bytes": served.size_bytes,
        "size_ratio": served.size_ratio,
        "latency_ms": {str(size): latency.median_ms for size, latency in served.latency.items()},
        "speedup": {str(size): speedup for size, speedup in served.speedup.items()},
    }


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name; overrides and figures stand without theirs."""
    leaves: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            leaves |= flat(item, "" if name in ("overrides", "figures") else f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = item
    return leaves
