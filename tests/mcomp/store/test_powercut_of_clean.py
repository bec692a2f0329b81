"""The power goes at every moment of a clean: what stays is whole, what goes is whole or gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from mcomp.errors import StoreError
from mcomp.store.clean import Rules, removals, remove
from mcomp.store.records import records
from mcomp.store.runs import Run
from mcomp.store.store import Store
from tests.mcomp.store import powercut
from tests.mcomp.store.example import is_whole, key, key_json, ledger
from tests.mcomp.store.faults import FaultyDisk
from tests.mcomp.store.powercut import NO_LIMIT, RecordingDisk, states
from tests.mcomp.store.protocols import NOW, OLD_RUN, RUN, in_memory
from tests.mcomp.store.test_powercut import lay_out, publish

Trace = list[tuple[Any, ...]]


def record(top: Path) -> Trace:
    """Make a result and a run that stay, and a result with a figure and a run that go; clean."""
    disk = RecordingDisk()
    store = Store(top / ".mcomp", disk)
    for name, run_id in (("stays", RUN), ("goes", OLD_RUN)):
        publish(store, disk, name)
        store.put_measurement(key(name), "cost", {"seconds": 1})
        run = Run(run_id, store.root / "runs" / run_id, disk)
        disk.mkdir(run.folder)
        disk.sync_folder(run.folder.parent)
        run.write_text("events.json", key(name))
        run.write_ledger(ledger("done", run_id))
    disk.done("ready")
    known = records(store)
    for each in removals(store, Rules(keep_runs=1), known, NOW):
        assert remove(store, each, known) == ""
    assert not store.artifact_folder(key("goes")).exists()
    return disk.trace


def wrong(root: Path) -> list[str]:
    problems: list[str] = []
    store = Store(root, FaultyDisk(), on_problem=problems.append)
    found = {name: store.find(key(name), key_json(name)) for name in ("stays", "goes")}
    problems += [f"{name} is not whole" for name, each in found.items() if each and not is_whole(each, name)]
    problems += [] if found["stays"] and RUN in store.runs() else ["what stays is lost"]
    problems += [] if store.measurement(key("stays"), "cost") else ["its figure is lost"]
    for run in store.runs():
        try:
            store.run(run).read_ledger()
        except StoreError as error:
            problems.append(str(error))
    return problems


def first_problem(trace: Trace, top: Path, scratch: Path) -> str:
    """Return the first thing wrong in any state that a cut after the clean began may leave, or ""."""
    seen = {state.content for state in states(trace, top) if "ready" in state.done}
    for content in seen:
        root = Path(mkdtemp(dir=scratch))
        lay_out(root, content)
        problems = wrong(root / ".mcomp")
        if problems:
            return problems[0]
    return ""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Path]:
    top = tmp_path_factory.mktemp("recorded")
    return record(top), top


@pytest.fixture
def scratch() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def test_a_power_cut_during_a_clean_tears_nothing(recorded: tuple[Trace, Path], scratch: Path) -> None:
    assert first_problem(*recorded, scratch) == ""


@pytest.mark.slow
def test_whatever_is_lost_during_a_clean_nothing_is_torn(
    recorded: tuple[Trace, Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercut, "ALL_SUBSETS_UP_TO", NO_LIMIT)
    assert first_problem(*recorded, scratch) == ""


def test_nothing_is_deleted_before_its_new_name_is_on_the_disk(
    recorded: tuple[Trace, Path], scratch: Path
) -> None:
    """Of a figure half may be back: it is one file."""
    trace, top = recorded
    began = trace.index(("done", "ready"))
    moved = [at for at, step in enumerate(trace) if at > began and step[0] == "move"]
    of_folders = [at for at in moved if trace[at][1].parent.name in ("runs", key("goes")[:2])]
    assert len(of_folders) == 2
    for at in of_folders:
        synced = next(later for later in range(at, len(trace)) if trace[later][0] == "sync_folder")
        assert first_problem([*trace[:synced], *trace[synced + 1 :]], top, scratch), trace[at]
