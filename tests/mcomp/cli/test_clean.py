from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mcomp.store import clean as clean_module
from mcomp.store.disk import Disk
from mcomp.store.store import Store
from tests.mcomp.cli.conftest import Command, Runs
from tests.tiny import artifacts, files_below, loaded_by


@pytest.fixture
def store(runs: Runs, tmp_path: Path) -> Path:
    return shutil.copytree(runs.store, tmp_path / "store")


def test_results_of_known_runs_stay(mcomp: Command, store: Path) -> None:
    before = files_below(store)
    answer = mcomp("clean", "--store", store, "--yes")
    assert (answer.code, answer.out) == (0, "nothing can go\n")
    assert files_below(store) == before


def test_without_yes_it_is_only_listed(mcomp: Command, store: Path) -> None:
    before = files_below(store)
    answer = mcomp("clean", "--store", store, "--keep-runs", "0")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "nothing was removed: add --yes to remove it"
    assert files_below(store) == before
    listed = [line for line in answer.out.splitlines() if "no kept run refers to it" in line]
    assert len(listed) == len(artifacts(store))
    assert any(" toy/more " in line for line in listed)
    assert sum("not of the 0 newest" in line for line in answer.out.splitlines()) == 3


def test_with_yes_what_was_listed_is_gone(mcomp: Command, store: Path) -> None:
    answer = mcomp("clean", "--store", store, "--keep-runs", "0", "--yes")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith("removed ")
    assert set(files_below(store)) == {"store.json", ".gitignore", "leases/claim.lock"}


def test_only_results_that_the_newest_run_does_not_need_go(mcomp: Command, store: Path, runs: Runs) -> None:
    assert mcomp("clean", "--store", store, "--keep-runs", "2", "--yes").code == 0
    kept = Store(store)
    assert kept.runs() == [runs.failed, runs.changed]
    needed = {row.key for row in kept.run(runs.changed).read_ledger().rows}
    assert {path.name for path in artifacts(store)} == needed
    assert mcomp("report", runs.changed, "--store", store).code == 0


def test_what_cannot_be_removed_is_told_and_the_rest_goes(
    mcomp: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = artifacts(store)[0]

    class Forbidding(Disk):
        def rename(self, source: Path, target: Path) -> None:
            if source == stubborn:
                raise clean_module.StoreError(f"cannot remove {source}: Permission denied")
            super().rename(source, target)

    monkeypatch.setattr("mcomp.store.store.Disk", Forbidding)
    answer = mcomp("clean", "--store", store, "--keep-runs", "0", "--yes")
    assert answer.code == 6
    assert "stays: cannot remove" in answer.err
    assert artifacts(store) == [stubborn]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--older-than", "3x"), ("--older-than", "d"), ("--larger-than", "5"), ("--keep-runs", "-1")],
)
def test_a_quantity_without_a_known_unit_is_refused(
    mcomp: Command, store: Path, option: str, value: str
) -> None:
    answer = mcomp("clean", "--store", store, option, value)
    assert answer.code == 2
    assert option in answer.err


@pytest.mark.parametrize(
    ("options", "goes"),
    [
        (("--older-than", "1h"), False),
        (("--older-than", "0d"), True),
        (("--keep-runs", "0", "--larger-than", "1 MB"), False),
        (("--keep-runs", "0", "--larger-than", "1kB"), True),
    ],
)
def test_age_and_size_protect_results(
    mcomp: Command, store: Path, options: tuple[str, ...], goes: bool
) -> None:
    answer = mcomp("clean", "--store", store, *options)
    assert ("no kept run refers to it" in answer.out) is goes


def test_no_torch_is_imported(store: Path) -> None:
    done, heavy = loaded_by("clean", "--store", str(store), "--keep-runs", "0", "--yes", cwd=store.parent)
    assert (done.returncode, heavy) == (0, [])
