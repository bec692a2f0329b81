"""Every effect of every protocol fails in every way: nothing torn is ever visible, and trying again works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mcomp.errors import StoreError, StoreFull
from mcomp.store import store as store_module
from mcomp.store.disk import Disk
from mcomp.store.runs import Run
from mcomp.store.store import FOLDERS, Store
from tests.mcomp.store.example import ABOUT, content, is_whole, key, key_json, ledger, publish
from tests.mcomp.store.faults import FAULTS, FaultyDisk, Killed

RUN = "20260101-000000-tiny-0000"


def publishing(store: Store) -> None:
    with store.workspace(key("new")) as folder:
        store.publish(key("new"), key_json("new"), content(Disk(), folder, "new"), ABOUT)


def measuring(store: Store) -> None:
    store.put_measurement(key("old"), "cost", {"seconds": 2})


def recording(store: Store) -> None:
    Run(RUN, store.root / "runs" / RUN, store.disk).write_ledger(ledger("done"))


def logging(store: Store) -> None:
    Run(RUN, store.root / "runs" / RUN, store.disk).event("step ended", step="qat")


def quarantining(store: Store) -> None:
    assert store.find(key("bad"), key_json("bad")) is None


def replacing(store: Store) -> None:
    store.set_aside(key("spare"))


def starting(store: Store) -> None:
    store.new_run("tiny")


PROTOCOLS: dict[str, Callable[[Store], None]] = {
    each.__name__: each
    for each in (publishing, measuring, recording, logging, quarantining, replacing, starting)
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with results old, spare and bad, a figure, and a run with one event and a ledger."""
    root = tmp_path_factory.mktemp("template") / ".mcomp"
    store = Store(root)
    for name in ("old", "spare", "bad"):
        publish(store, name)
    (store.artifact_folder(key("bad")) / "report.json").write_bytes(b"cut")
    store.put_measurement(key("old"), "cost", {"seconds": 1})
    (root / "runs" / RUN).mkdir()
    run = store.run(RUN)
    run.event("started")
    run.write_ledger(ledger("failed"))
    return root


def tried(root: Path, protocol: str, disk: Disk) -> BaseException | None:
    """Run a protocol on a broken disk and return how it ended."""
    try:
        PROTOCOLS[protocol](Store(root, disk, on_problem=lambda message: None))
    except (StoreError, Killed) as error:
        return error
    return None


def wrong(root: Path) -> list[str]:
    """Return what a new process finds wrong: nothing, whatever was interrupted."""
    problems: list[str] = []
    store = Store(root, on_problem=problems.append)
    faults = []
    for name in ("old", "spare", "new"):
        artifact = store.find(key(name), key_json(name))
        there = artifact is not None and is_whole(artifact, name)
        set_aside = list((root / "replaced").glob(f"{key(name)}-*"))
        if not there and (artifact is not None or (name != "new" and not set_aside)):
            faults.append(f"{name} is lost or not whole")
    if store.measurement(key("old"), "cost") not in ({"seconds": 1}, {"seconds": 2}):
        faults.append("the figure is lost")
    if store.run(RUN).read_ledger() not in (ledger("failed"), ledger("done")):
        faults.append("the ledger is lost")
    if store.run(RUN).events()[0]["event"] != "started":
        faults.append("the log is lost")
    kept = [store.artifact_folder(key("bad")), *(root / "quarantine").glob(f"{key('bad')}-*")]
    if not any((folder / "report.json").is_file() for folder in kept):
        faults.append("the broken result was deleted")
    return faults + problems


def cases(template: Path, tmp_path: Path, protocol: str) -> int:
    """Return how many effects a protocol has."""
    shutil.copytree(template, tmp_path / "count")
    disk = FaultyDisk()
    assert tried(tmp_path / "count", protocol, disk) is None
    return len(disk.effects)


def broken_at(template: Path, tmp_path: Path, protocol: str, make: Callable[[int], FaultyDisk]) -> list[str]:
    """Break a protocol at each of its effects in turn and return all that was wrong afterwards."""
    found = []
    for position in range(cases(template, tmp_path, protocol)):
        root = tmp_path / str(position)
        shutil.copytree(template, root)
        tried(root, protocol, make(position))
        found += [f"{protocol} broken at effect {position}: {each}" for each in wrong(root)]
        again = tried(root, protocol, FaultyDisk())
        found += [f"{protocol} again after {position}: {each}" for each in (again, *wrong(root)) if each]
        shutil.rmtree(root)
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fault_at_any_effect_leaves_nothing_torn(
    template: Path, tmp_path: Path, protocol: str, fault: str
) -> None:
    assert broken_at(template, tmp_path, protocol, lambda position: FaultyDisk(fault, position)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_could_not_be_made_is_made_the_next_time(tmp_path: Path, fault: str) -> None:
    counting = FaultyDisk()
    Store(tmp_path / "count" / ".mcomp", counting).prepare()
    for position in range(len(counting.effects)):
        root = tmp_path / str(position) / ".mcomp"
        with suppress(StoreError, Killed):
            Store(root, FaultyDisk(fault, position)).prepare()
        artifact = publish(Store(root, FaultyDisk()), "new")
        assert is_whole(artifact, "new")
        assert {path.name for path in root.iterdir() if path.is_dir()} == set(FOLDERS)


def test_a_full_disk_is_told_with_the_file_and_the_bytes(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "s")
    counting = FaultyDisk()
    tried(tmp_path / "s", "measuring", counting)
    error = tried(tmp_path / "s", "measuring", FaultyDisk("full", counting.effects.index("write")))
    assert isinstance(error, StoreFull)
    assert str(tmp_path / "s" / "work") in str(error)


class CopyingDisk(FaultyDisk):
    """Mutant: a folder gets its name by copying file by file."""

    def rename(self, source: Path, target: Path) -> None:
        if target.exists():
            raise FileExistsError
        for path in sorted(source.rglob("*")):
            if path.is_file():
                (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                self.write(target / path.relative_to(source), path.read_bytes())
        self.remove(source)


class OverwritingDisk(FaultyDisk):
    """Mutant: a file is written in place."""

    def put(self, path: Path, data: bytes, temporary: Path) -> None:
        self.write(path, data)


MUTANTS = [(CopyingDisk, "publishing"), (OverwritingDisk, "measuring"), (OverwritingDisk, "recording")]


def killed_anywhere(template: Path, tmp_path: Path, protocol: str, mutant: type[FaultyDisk]) -> list[str]:
    """Return what is wrong after kills in the middle of each of the first effects."""
    caught: list[str] = []
    for position in range(30):
        root = tmp_path / str(position)
        shutil.copytree(template, root)
        tried(root, protocol, mutant("torn", position))
        try:
            caught += wrong(root)
        except StoreError as error:
            caught.append(str(error))
    return caught


@pytest.mark.parametrize(("mutant", "protocol"), MUTANTS)
def test_the_harness_catches_a_disk_without_atomic_steps(
    template: Path, tmp_path: Path, mutant: type[FaultyDisk], protocol: str
) -> None:
    assert killed_anywhere(template, tmp_path, protocol, mutant)


def test_the_harness_catches_publishing_under_the_final_name(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "temporary_name", lambda name: name)
    assert killed_anywhere(template, tmp_path, "publishing", FaultyDisk)
