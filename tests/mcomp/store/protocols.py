"""Everything a store does, one protocol each, a store to do it in, and what must hold whatever broke it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from mcomp.data.digests import Entry
from mcomp.errors import StoreError
from mcomp.stage import Checkpoint
from mcomp.store.checkpoints import StepCheckpoints
from mcomp.store.clean import Rules, removals, remove
from mcomp.store.digests import StoredDigests
from mcomp.store.disk import Disk
from mcomp.store.lease import described, is_held
from mcomp.store.records import records
from mcomp.store.runs import Run
from mcomp.store.store import Store
from mcomp.store.verify import examined, items
from tests.mcomp.store.example import ABOUT, content, is_whole, key, key_json, ledger, publish
from tests.mcomp.store.faults import FaultyDisk, Killed

RUN, OLD_RUN = "20260101-000000-tiny-0000", "20250101-000000-tiny-0000"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DEAD = f"{2**22 + 1}-1"  # no process has such a number
OUTSIDE = Path(__file__)
OF_OUTSIDE = Entry(2, 3, 4, 5, "0" * 64)
BROKEN_FIGURE = b'{"value": {"seconds": 1}'


@contextmanager
def in_memory() -> Iterator[Path]:
    """Give a folder in memory, where that is possible: thousands of small folders are slow on a busy disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def make_template(root: Path) -> None:
    """Make a store: results that are needed, one of them broken, and others; figures, states and runs; and
    what a process that was killed left.
    """
    store = Store(root, FaultyDisk())
    for name in ("old", "spare", "bad", "loose", "spent"):
        publish(store, name)
    (store.artifact_folder(key("bad")) / "report.json").write_bytes(b"cut")
    for name in ("old", "loose"):
        store.put_measurement(key(name), "cost", {"seconds": 1})
    store.measurement_file(key("old"), "latency").write_bytes(BROKEN_FIGURE)
    for number in (1, 2):
        states(store).save("train", Checkpoint({}, {"number": number}))
    digests = StoredDigests(store)
    digests.known(OUTSIDE.parent)[OUTSIDE.name] = OF_OUTSIDE._replace(inode=1)
    digests.keep()
    (root / "work" / f"{key('new')}-{DEAD}-00000000" / "scratch").mkdir(parents=True)
    for run_id, names in ((OLD_RUN, ("spent",)), (RUN, ("old", "spare", "bad", "new"))):
        (root / "runs" / run_id).mkdir()
        run = Run(run_id, root / "runs" / run_id, store.disk)
        run.event("run started", keys=[key(name) for name in names])
        run.write_ledger(ledger("failed", run_id))


def states(store: Store, tell: Callable[[str], None] = lambda text: None) -> StepCheckpoints:
    return StepCheckpoints(store, key("new"), dict, tell)


# The protocols. Each says at its end what must be true then, unless the disk was faulty.


def is_sound(store: Store) -> bool:
    return isinstance(store.disk, FaultyDisk) and store.disk.fault == ""


def publishing(store: Store) -> None:
    with store.workspace(key("new")) as folder:
        store.publish(key("new"), key_json("new"), content(Disk(), folder, "new"), ABOUT)


def measuring(store: Store) -> None:
    store.put_measurement(key("old"), "cost", {"seconds": 2})


def recording(store: Store) -> None:
    Run(RUN, store.root / "runs" / RUN, store.disk).write_ledger(ledger("done", RUN))


def logging(store: Store) -> None:
    run = Run(RUN, store.root / "runs" / RUN, store.disk)
    run.event("step ended", step="qat")
    if is_sound(store):
        assert run.events()[-1]["event"] == "step ended"


def quarantining(store: Store) -> None:
    assert store.find(key("bad"), key_json("bad")) is None


def replacing(store: Store) -> None:
    store.set_aside(key("spare"))


def starting(store: Store) -> None:
    with store.new_run("tiny").under_way([key("old")]):
        pass
    if is_sound(store):
        assert list(store.root.glob("work/*")) == []


def leasing(store: Store) -> None:
    with store.lease(key("old"), print):
        pass


def checkpointing(store: Store) -> None:
    states(store).save("train", Checkpoint({}, {"number": 3}))
    if is_sound(store):
        assert number_of_state(store) == 3


def resuming(store: Store) -> None:
    states(store).load("train")


def verifying(store: Store) -> None:
    found = [examined(store, item) for item in items(store)]
    if is_sound(store):
        assert {each.state for each in found} <= {"ok", "broken"}
        assert {examined(store, item).state for item in items(store)} == {"ok"}


def cleaning(store: Store) -> None:
    rules, known = Rules(keep_runs=1), records(store)
    for each in removals(store, rules, known, NOW):
        remove(store, each, known)
    if is_sound(store):
        assert store.runs() == [RUN]
        assert removals(store, rules, records(store), NOW) == []
        assert not any(store.artifact_folder(key(name)).exists() for name in ("loose", "spent"))


def remembering(store: Store) -> None:
    digests = StoredDigests(store)
    digests.known(OUTSIDE.parent)[OUTSIDE.name] = OF_OUTSIDE
    digests.keep()
    if is_sound(store):
        assert StoredDigests(store).known(OUTSIDE.parent) == {OUTSIDE.name: OF_OUTSIDE}


PROTOCOLS: dict[str, Callable[[Store], None]] = {
    each.__name__: each
    for each in (
        publishing, measuring, recording, logging, quarantining, replacing, starting, leasing, checkpointing,
        resuming, verifying, cleaning, remembering,
    )
}  # fmt: skip


def tried(root: Path, protocol: str, disk: Disk) -> BaseException | None:
    """Run a protocol on a broken disk and return how it ended."""
    try:
        PROTOCOLS[protocol](Store(root, disk, on_problem=lambda message: None))
    except (StoreError, Killed) as error:
        return error
    return None


# What a new process must find, whatever was interrupted.


def wrong(root: Path) -> list[str]:
    """Return what a new process finds wrong."""
    problems: list[str] = []
    store = Store(root, FaultyDisk(), on_problem=problems.append)
    checks = (lost_results, lost_records, lost_state, deleted, stuck, false_digests)
    return [*(each for check in checks for each in check(store)), *problems]


def lost_results(store: Store) -> Iterator[str]:
    for name in ("old", "spare", "new", "loose", "spent"):
        artifact = store.find(key(name), key_json(name))
        there = artifact is not None and is_whole(artifact, name)
        set_aside = list((store.root / "replaced").glob(f"{key(name)}-*"))
        may_be_absent = name not in ("old", "spare") or set_aside
        if not there and (artifact is not None or not may_be_absent):
            yield f"{name} is lost or not whole"


def lost_records(store: Store) -> Iterator[str]:
    if store.measurement(key("old"), "cost") not in ({"seconds": 1}, {"seconds": 2}):
        yield "the figure is lost"
    for run in {RUN, *store.runs()}:
        if (store.root / "runs" / run / "ledger.json").exists() or run in (RUN, OLD_RUN):
            if store.run(run).read_ledger() not in (ledger("failed", run), ledger("done", run)):
                yield "the ledger is lost"
            if [event["event"] for event in store.run(run).events()][:1] != ["run started"]:
                yield "the log is lost"


def lost_state(store: Store) -> Iterator[str]:
    if number_of_state(store) not in (1, 2, 3):
        yield "what the step had done is lost"


def number_of_state(store: Store) -> int:
    found = states(store, store.on_problem).load("train")
    return int(found.numbers["number"]) if found else 0


def deleted(store: Store) -> Iterator[str]:
    """Yield what was broken and should have been kept aside."""
    places = [store.artifact_folder(key("bad")), *(store.root / "quarantine").glob(f"{key('bad')}-*")]
    if not any((folder / "report.json").is_file() for folder in places):
        yield "the broken result was deleted"
    figures = [store.measurement_file(key("old"), "latency"), *store.root.glob("quarantine/*/latency.json")]
    if BROKEN_FIGURE not in [path.read_bytes() for path in figures if path.exists()]:
        yield "the broken figure was deleted"


def stuck(store: Store) -> Iterator[str]:
    leases = store.root / "leases"
    if is_held(leases, key("old")) or not described(leases / f"{key('old')}.json"):
        yield "the lease is stuck"


def false_digests(store: Store) -> Iterator[str]:
    known = StoredDigests(store).known(OUTSIDE.parent)
    if known not in ({}, {OUTSIDE.name: OF_OUTSIDE._replace(inode=1)}, {OUTSIDE.name: OF_OUTSIDE}):
        yield "a digest is false"


def copied(template: Path, root: Path) -> Path:
    """Copy a store; the files of results, which nobody writes to, are shared."""

    def copy(source: str, target: str) -> object:
        return os.link(source, target) if "/artifacts/" in source else shutil.copyfile(source, target)

    return Path(shutil.copytree(template, root, copy_function=copy))
