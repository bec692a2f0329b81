from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mcomp.store.store import Store
from tests.mcomp.cli.conftest import Command, Runs


def test_runs_are_listed_newest_first_with_what_they_did(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("runs", "--store", runs.store)
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert [line.split()[0] for line in lines] == ["run", runs.failed, runs.changed, runs.first]
    assert "1 hit, 1 failed" in lines[1]
    assert "2 computed, 2 hit" in lines[2]
    assert "stages.more.by=0.75" in lines[2]
    assert "4 computed" in lines[3]
    assert "0.2500 accuracy" in lines[3]


def test_as_json_every_field_can_be_read_by_a_program(mcomp: Command, runs: Runs) -> None:
    listed = json.loads(mcomp("runs", "--store", runs.store, "--json").out)
    failed, changed, first = listed
    assert (failed["status"], failed["computed"], failed["hit"], failed["failed"]) == ("failed", 0, 1, 1)
    assert (failed["test"], failed["speedup"]) == (None, None)
    assert changed["overrides"] == ["stages.more.by=0.75"]
    assert (first["recipe"], first["status"], first["metric"], first["test"]) == (
        "toy",
        "done",
        "accuracy",
        0.25,
    )
    assert first["speedup"] > 0
    assert first["started"] <= changed["started"]


def test_only_so_many_are_listed(mcomp: Command, runs: Runs) -> None:
    assert len(json.loads(mcomp("runs", "--store", runs.store, "--json", "-n", "2").out)) == 2
    assert mcomp("runs", "--store", runs.store, "-n", "0").code == 2


def test_a_run_without_a_ledger_and_one_with_a_broken_one_are_still_listed(
    mcomp: Command, runs: Runs, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(runs.store, store)
    (store / "runs" / runs.first / "ledger.json").unlink()
    (store / "runs" / runs.changed / "ledger.json").write_text('{"mcomp": ')
    listed = json.loads(mcomp("runs", "--store", store, "--json").out)
    assert [(line["run"], line["status"]) for line in listed] == [
        (runs.failed, "failed"),
        (runs.changed, "no ledger"),
        (runs.first, "no ledger"),
    ]
    assert mcomp("runs", "--store", store).code == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_no_store_yet_is_no_error(as_json: bool, mcomp: Command, tmp_path: Path) -> None:
    answer = mcomp("runs", "--store", tmp_path / "none", *(["--json"] if as_json else []))
    assert answer.code == 0
    assert answer.out == "[]\n" if as_json else "has no run yet; start one with mcomp run" in answer.out
    assert not (tmp_path / "none").exists()


def test_a_terminal_of_40_columns_shows_the_run_and_how_it_ended(
    mcomp: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = mcomp("runs", "--store", runs.store).out
    assert max(map(len, out.splitlines())) <= 40
    assert "failed" in out


def test_a_run_that_is_under_way_is_said_to_be_running(mcomp: Command, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run = store.new_run("toy")
    with run.under_way([]):
        (line,) = json.loads(mcomp("runs", "--store", store.root, "--json").out)
    assert (line["run"], line["status"]) == (run.id, "running")
    (line,) = json.loads(mcomp("runs", "--store", store.root, "--json").out)
    assert line["status"] == "no ledger"
