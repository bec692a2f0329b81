from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mcomp.store.store import Store
from tests.mcomp.cli.conftest import Command, Runs
from tests.mcomp.store.example import flip
from tests.tiny import loaded_by


@pytest.fixture
def store(runs: Runs, tmp_path: Path) -> Path:
    return shutil.copytree(runs.store, tmp_path / "store")


def a_model(store: Path) -> Path:
    return sorted(store.glob("artifacts/*/*/model/weights.safetensors"))[0]


def test_a_store_in_order_is_counted_by_kind(mcomp: Command, store: Path) -> None:
    answer = mcomp("verify", "--store", store)
    title, *lines = answer.out.splitlines()
    assert answer.code == 0
    assert title.split() == ["ok", "broken", "unreadable", "in", "use"]
    counts = {kind: rest for kind, *rest in map(str.split, lines)}
    assert counts["artifacts"] == [str(len(list(store.glob("artifacts/*/*")))), "0", "0", "0"]
    assert counts["runs"] == ["3", "0", "0", "0"]
    assert set(counts) == {"artifacts", "measurements", "runs"}


def test_what_is_broken_is_named_and_moved_and_the_exit_code_is_6(mcomp: Command, store: Path) -> None:
    flip(a_model(store))
    key = a_model(store).parents[1].name
    answer = mcomp("verify", "--store", store)
    assert answer.code == 6
    moved = store / "quarantine" / f"{key}-1"
    assert (
        f"{key}: model/weights.safetensors has other bytes than were published; moved to {moved}"
        in answer.out
    )
    assert answer.out.splitlines()[-1] == "what was moved is made again by the next run that needs it"
    assert moved.is_dir()
    assert mcomp("verify", "--store", store).code == 0


def test_a_dry_run_names_it_and_moves_nothing(mcomp: Command, store: Path) -> None:
    flip(a_model(store))
    answer = mcomp("verify", "--store", store, "--dry-run")
    assert (answer.code, "moved to" in answer.out) == (6, False)
    assert "has other bytes than were published" in answer.out
    assert list((store / "quarantine").iterdir()) == []
    assert a_model(store).exists()


def test_a_broken_ledger_is_named_once(mcomp: Command, store: Path) -> None:
    run = Store(store).runs()[0]
    flip(store / "runs" / run / "ledger.json")
    answer = mcomp("verify", "--store", store)
    assert answer.code == 6
    assert answer.out.count("ledger.json") == 1


def test_where_there_is_no_store_there_is_nothing_and_nothing_is_made(mcomp: Command, tmp_path: Path) -> None:
    answer = mcomp("verify", "--store", tmp_path / "none")
    assert (answer.code, answer.out) == (0, "nothing is kept here yet\n")
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_taken_from_the_environment_and_else_from_this_folder(
    mcomp: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCOMP_STORE", str(store))
    assert "artifacts" in mcomp("verify").out
    monkeypatch.delenv("MCOMP_STORE")
    monkeypatch.chdir(store.parent)
    assert "nothing is kept" in mcomp("verify").out
    store.rename(store.parent / ".mcomp")
    assert "artifacts" in mcomp("verify").out


def test_no_torch_is_imported_where_there_are_no_checkpoints(store: Path) -> None:
    done, heavy = loaded_by("verify", "--store", str(store), cwd=store.parent)
    assert (done.returncode, heavy) == (0, [])
