from __future__ import annotations

import csv
import io
import json

import pytest

from mcomp.report.results import results_csv, results_json
from tests.mcomp.report import ledgers


def lines() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(results_csv(ledgers.sweep()))))


def test_a_job_is_a_line_with_its_overrides_its_figures_and_its_error() -> None:
    first, second, failed = lines()
    assert (first["job"], first["stages.prune.target.macs"], first["status"]) == ("0", "0.4", "done")
    assert (float(first["test"]), float(second["speedup.1"])) == (0.984, 9.4)
    assert (first["size_bytes"], first["parameters"], first["on_front"]) == ("512000", "566000", "True")
    assert failed["status"] == "failed"
    assert "cannot shrink" in failed["error"]


def test_what_is_not_known_is_an_empty_cell() -> None:
    failed = lines()[2]
    assert (failed["test"], failed["latency_ms.1"], failed["exit_code"]) == ("", "", "")
    assert failed["validation"] == "0.9917"


def test_json_says_the_same_as_csv() -> None:
    sweep = ledgers.sweep()
    told = json.loads(results_json(sweep))
    assert told["sweep"] == sweep.sweep
    for job, line in zip(told["jobs"], lines(), strict=True):
        assert job["overrides"] == {"stages.prune.target.macs": line["stages.prune.target.macs"]}
        assert str(job["figures"].get("size_bytes", "")) == line["size_bytes"]


def test_a_value_with_commas_and_quotes_is_one_cell() -> None:
    ledger = ledgers.main_job(overrides=("++pipeline=[fit,export]", "description='a \"b\"'"))
    (line,) = csv.DictReader(io.StringIO(results_csv(ledgers.sweep_of(ledger))))
    assert (line["pipeline"], line["description"]) == ("[fit,export]", "'a \"b\"'")


@pytest.mark.parametrize("value", ["=cmd|' /C calc'!A0", "@SUM(A1)", "+1+2", "-1+cmd"])
def test_a_cell_is_no_formula(value: str) -> None:
    ledger = ledgers.main_job(overrides=(f"description={value}", f"{value}=1"))
    (line,) = csv.DictReader(io.StringIO(results_csv(ledgers.sweep_of(ledger))))
    assert line["description"] == f"'{value}"
    assert not any(name.startswith(("=", "@", "+", "-")) for name in line)


def test_a_cell_steers_no_terminal() -> None:
    ledger = ledgers.main_job(overrides=("description=\x1b[2J\t\u202ex\ny",))
    (line,) = csv.DictReader(io.StringIO(results_csv(ledgers.sweep_of(ledger))))
    assert line["description"] == "\\x1b[2J\\t\\u202ex\ny"


@pytest.mark.parametrize("value", ["-1", "+2.5", "-1e-3", "-.5"])
def test_a_number_with_a_sign_is_a_number(value: str) -> None:
    ledger = ledgers.main_job(overrides=(f"stages.prune.x={value}",))
    (line,) = csv.DictReader(io.StringIO(results_csv(ledgers.sweep_of(ledger))))
    assert line["stages.prune.x"] == value
