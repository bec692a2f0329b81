"""The power goes at every moment and any part of what is not synced is lost; then each sync is taken away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from mcomp.errors import StoreError
from mcomp.store.store import FOLDERS, Store
from tests.mcomp.store import powercut
from tests.mcomp.store.example import ABOUT, content, is_whole, key, key_json, ledger
from tests.mcomp.store.faults import FaultyDisk
from tests.mcomp.store.powercut import NO_LIMIT, Machine, RecordingDisk, State, states

TAMPERED = b"changed by somebody"
Trace = list[tuple[Any, ...]]


def publish(store: Store, disk: RecordingDisk, name: str) -> None:
    with store.workspace(key(name)) as folder:
        store.publish(key(name), key_json(name), content(disk, folder, name), ABOUT)


def record(top: Path) -> Trace:
    """Do everything a store does, from nothing: publish, measure, log, quarantine, publish again, replace."""
    disk = RecordingDisk()
    store = Store(top / ".mcomp", disk, on_problem=lambda message: None)
    publish(store, disk, "a")
    disk.done("a published")
    for seconds in (1, 2):
        store.put_measurement(key("a"), "cost", {"seconds": seconds})
        disk.done(f"measured {seconds}")
    run = store.new_run("tiny")
    for status in ("failed", "done"):
        run.write_ledger(ledger(status, run.id))
        disk.done(f"ledger {status}")
    publish(store, disk, "b")
    disk.done("b published")
    disk.done("tampering")
    tampered = store.artifact_folder(key("b")) / "report.json"
    disk.write(tampered, TAMPERED)
    disk.sync_file(tampered)
    disk.done("tampered")
    assert store.find(key("b"), key_json("b")) is None
    publish(store, disk, "b")
    disk.done("b again")
    return disk.trace


def lay_out(root: Path, content: frozenset[tuple[str, bytes | None]]) -> None:
    for name, data in content:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(data)


def wrong(top: Path, done: frozenset[str]) -> list[str]:
    """Return what is torn, or was acknowledged and is lost."""
    root, problems = top / ".mcomp", list[str]()
    store = Store(root, FaultyDisk(), on_problem=problems.append)
    if (root / "store.json").exists():
        missing = [name for name in FOLDERS if not (root / name).is_dir()]
        ignored = (root / ".gitignore").exists() and (root / ".gitignore").read_bytes() == b"*\n"
        problems += [] if ignored and not missing else ["a store without its folders"]
    problems += wrong_artifact(store, "a", "a published" in done)
    if "tampering" in done and "b again" not in done:
        held = {path.read_bytes() for path in root.rglob("report.json")}
        problems += ["the broken result was deleted"] if "tampered" in done and TAMPERED not in held else []
    else:
        problems += wrong_artifact(store, "b", "b published" in done)
    return problems + wrong_figure(store, done) + wrong_ledger(store, done)


def wrong_artifact(store: Store, name: str, is_promised: bool) -> list[str]:
    artifact = store.find(key(name), key_json(name))
    if artifact is None:
        return [f"{name} is lost"] if is_promised else []
    return [] if is_whole(artifact, name) else [f"{name} is not whole"]


def wrong_figure(store: Store, done: frozenset[str]) -> list[str]:
    allowed = {"measured 2": [2], "measured 1": [1, 2]}.get(
        latest(done, "measured 1", "measured 2"), [None, 1]
    )
    figure = store.measurement(key("a"), "cost")
    return [] if (figure and figure["seconds"]) in allowed else [f"the figure is {figure}"]


def wrong_ledger(store: Store, done: frozenset[str]) -> list[str]:
    allowed = {"ledger done": ["done"], "ledger failed": ["failed", "done"]}
    for label in ("ledger done", "ledger failed"):
        if label in done:
            runs = store.runs()
            if not runs or store.run(runs[0]).read_ledger().status not in allowed[label]:
                return ["the ledger is lost"]
            return []
    for run in store.runs():
        if (store.root / "runs" / run / "ledger.json").exists():
            store.run(run).read_ledger()
    return []


def latest(done: frozenset[str], *labels: str) -> str:
    return next((label for label in reversed(labels) if label in done), "")


class Judge:
    """Says what is wrong with a state; states that several traces share are looked at once."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.verdicts = scratch, dict[State, str]()

    def verdict(self, state: State) -> str:
        if state not in self.verdicts:
            top = self.scratch / str(len(self.verdicts))
            top.mkdir()
            lay_out(top, state.content)
            try:
                self.verdicts[state] = "; ".join(wrong(top, state.done))
            except StoreError as error:
                self.verdicts[state] = str(error)
            shutil.rmtree(top)
        return self.verdicts[state]

    def first_problem(self, trace: Trace, top: Path) -> str:
        """Return the first thing wrong in any state that a cut of the trace may leave, or ""."""
        return next(filter(None, map(self.verdict, states(trace, top))), "")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Path]:
    top = tmp_path_factory.mktemp("recorded")
    return record(top), top


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """In memory where that is possible: thousands of small folders are slow on a busy disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(dir=memory) as scratch:
        yield Judge(Path(scratch))


def syncs(trace: Trace, top: Path) -> list[int]:
    """Return where the store syncs for a reason that this trace shows.

    Not those for names that another process may have made, nor the one after the marker: a lost marker is
    written again.
    """
    machine, found = Machine(top), list[int]()
    tampered = trace.index(("done", "tampered")) - 1
    marked = next(at for at, step in enumerate(trace) if step[0] == "move") + 1
    for at, (name, *arguments) in enumerate(trace):
        new_names = name == "sync_folder" and machine.has_unsafe_names(arguments[0])
        if (name == "sync_file" or new_names) and at not in (tampered, marked):
            found.append(at)
        if name != "done":
            machine.do(name, *arguments)
    return found


def test_a_power_cut_tears_nothing_and_loses_nothing_acknowledged(
    recorded: tuple[Trace, Path], judge: Judge
) -> None:
    assert judge.first_problem(*recorded) == ""


@pytest.mark.slow
def test_whatever_is_lost_of_what_is_not_synced_nothing_is_torn(
    recorded: tuple[Trace, Path], judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercut, "ALL_SUBSETS_UP_TO", NO_LIMIT)
    assert judge.first_problem(*recorded) == ""
    print(f"{len(judge.verdicts)} states")


def test_every_sync_is_needed(recorded: tuple[Trace, Path], judge: Judge) -> None:
    trace, top = recorded
    mutants = {at: [*trace[:at], *trace[at + 1 :]] for at in syncs(trace, top)}
    needless = [trace[at] for at, mutant in mutants.items() if not judge.first_problem(mutant, top)]
    assert needless == []
    assert len(mutants) >= 15


def test_the_name_must_come_after_the_manifest(recorded: tuple[Trace, Path], judge: Judge) -> None:
    trace, top = recorded
    named = next(at for at, step in enumerate(trace) if step[0] == "move" and step[2].name == key("a"))
    sealed = next(
        at for at, step in enumerate(trace) if step[0] == "write" and step[1].name == "manifest.json"
    )
    _, unfinished, target = trace[named]

    def moved(part: Any) -> Any:
        inside = isinstance(part, Path) and part.is_relative_to(unfinished)
        return target / part.relative_to(unfinished) if inside else part

    late = [tuple(map(moved, step)) for step in trace[sealed:named]]
    mutant = [*trace[:sealed], trace[named], *late, *trace[named + 1 :]]
    assert judge.first_problem(mutant, top)
