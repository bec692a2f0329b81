"""`run -m`, `plan -m` and `report` of a sweep, as the command line calls them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from mcomp.cli import exit_code
from tests.mcomp.sweep.hazards import RECIPE

OWN = "sweep: {parameters: {stages.more.hazard: [none, fails], stages.more.by: [1.0, 2.0]}}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCOMP_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    Path("hazard.yaml").write_text(RECIPE + OWN)


def test_a_sweep_exits_with_the_code_of_its_first_failure_and_lists_every_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(["run", "-m", "hazard.yaml"]) == 5
    shown = capsys.readouterr().out
    assert "2 of 4 jobs done" in shown
    assert shown.count("hazard/more: cannot do it") == 2


def test_a_report_shows_what_ran_last_also_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code(["run", "hazard.yaml"])
    exit_code(["run", "-m", "hazard.yaml"])
    capsys.readouterr()
    assert exit_code(["report"]) == 0
    assert "2 of 4 jobs done" in capsys.readouterr().out
    assert exit_code(["report", "--csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["exit_code"] for line in lines] == ["0", "0", "5", "5"]
    assert exit_code(["report", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [job["status"] for job in told["jobs"]] == ["done", "done", "failed", "failed"]
    assert exit_code(["report", told["sweep"], "--html", "sweep.html"]) == 0
    assert "cannot do it" in Path("sweep.html").read_text()
    capsys.readouterr()
    exit_code(["run", "hazard.yaml"])
    capsys.readouterr()
    exit_code(["report"])
    assert "jobs done" not in capsys.readouterr().out
    assert exit_code(["report", "--csv"]) == 2


def test_a_plain_run_says_that_it_does_not_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["run", "hazard.yaml"]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "sweep" in line]
    assert said == "the recipe's `sweep:` is not used; add -m to run all of its jobs"


def test_a_plan_lists_the_jobs_that_are_started_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", "-m", "hazard.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [job["wave"] for job in told["jobs"]] == [0, 1, 1, 1]
    assert exit_code(["plan", "-m", "hazard.yaml"]) == 0
    assert "4 jobs: 4 to start, in 2 waves" in capsys.readouterr().out
    assert exit_code(["plan", "hazard.yaml", "--json"]) == 2
    assert not Path(".mcomp").exists()
