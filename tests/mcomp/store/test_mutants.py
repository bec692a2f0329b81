"""The store with one thing left out or done wrongly, by name: what the other tests look at must catch each.

The syncs, left out one by one, are in test_powercut.py, test_powercut_of_clean.py and test_checkpoints.py.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from mcomp.data import digests as data_digests
from mcomp.errors import CorruptArtifact, StoreError
from mcomp.fingerprint import canonical
from mcomp.store import artifact, clean, lease, records, runs, store, sweeps, verify
from mcomp.store import digests as stored_digests
from mcomp.store.artifact import Artifact, Manifest
from mcomp.store.checkpoints import Numbers, StepCheckpoints
from mcomp.store.clean import Rules, removals, remove
from mcomp.store.digests import Remembered, StoredDigests
from mcomp.store.disk import Disk
from mcomp.store.records import Record
from mcomp.store.runs import Run
from mcomp.store.sealed import DIGEST
from mcomp.store.store import Store
from tests.mcomp.store.damage import SEEN_ON_A_HIT, SEEN_ON_USE
from tests.mcomp.store.example import RUN as FURNISHED_RUN
from tests.mcomp.store.example import SWEEP, flip, furnish, is_whole, key, key_json, save_state
from tests.mcomp.store.faults import FaultyDisk
from tests.mcomp.store.protocols import DEAD, NOW, OF_OUTSIDE, OUTSIDE, in_memory, make_template, tried, wrong

# As long as a run that need not wait takes to begin, and many times more.
A_MOMENT_SECONDS = 1.0


class Template(NamedTuple):
    """A store for the protocols, and one with some of everything."""

    protocols: Path
    furnished: Path


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with in_memory() as folder:
        made = Template(folder / "protocols", folder / "furnished")
        make_template(made.protocols)
        furnish(made.furnished).put_measurement(key("b"), "cost", {"seconds": 2.5})
        yield made


# How one looks. Each returns what is wrong: nothing, as long as nothing is left out.

Look = Callable[[Template], list[str]]


class CopyingDisk(FaultyDisk):
    """A folder gets its name by copying file by file."""

    def rename(self, source: Path, target: Path) -> None:
        if target.exists():
            raise FileExistsError
        for path in sorted(source.rglob("*")):
            if path.is_file():
                (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                self.write(target / path.relative_to(source), path.read_bytes())
        self.remove(source)


class OverwritingDisk(FaultyDisk):
    """A file is written in place."""

    def put(self, path: Path, data: bytes, temporary: Path) -> None:
        self.write(path, data)


@contextmanager
def copy_of(source: Path) -> Iterator[Path]:
    """Give a copy of a store."""
    with TemporaryDirectory(dir=source.parent) as folder:
        yield Path(shutil.copytree(source, Path(folder) / "store"))


def killed(protocol: str, template: Template, disk: type[FaultyDisk] = FaultyDisk) -> list[str]:
    """Kill a protocol in the middle of each of its effects, and try again."""
    found: list[str] = []
    for position in range(60):
        with copy_of(template.protocols) as root:
            try:
                tried(root, protocol, disk("torn", position))
                found += wrong(root)
                tried(root, protocol, FaultyDisk())
            except (StoreError, OSError, AssertionError) as error:
                found.append(repr(error))
    return found


def finished(protocol: str, template: Template) -> list[str]:
    """Let a protocol come to its end."""
    with copy_of(template.protocols) as root:
        tried(root, protocol, FaultyDisk())
        return wrong(root)


def tampered(what: str, template: Template) -> list[str]:
    """Change a result and use it."""
    with copy_of(template.furnished) as root:
        kept = Store(root, FaultyDisk(), on_problem=lambda message: None)
        {**SEEN_ON_A_HIT, **SEEN_ON_USE, "the manifest's text": retell}[what](kept.artifact_folder(key("a")))
        with suppress(CorruptArtifact):
            found = kept.find(key("a"), key_json("a"))
            if found is not None and [found.file(name) for name in found.names()]:
                return [f"{what} was used"]
        return []


def retell(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"seconds":1.5', b'"seconds":1.7'))


def with_furnished(do: Callable[[Store], list[str]], template: Template) -> list[str]:
    """Do something with a store that has some of everything."""
    with copy_of(template.furnished) as root:
        return do(Store(root, FaultyDisk(), on_problem=lambda message: None))


def rewritten(path: Path, old: bytes, new: bytes, read: Callable[[], object]) -> list[str]:
    """Change some bytes of a file and read it."""
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    try:
        return [f"{path.name} is read"] if read() is not None else []
    except CorruptArtifact:
        return []


def changed_figure(kept: Store) -> list[str]:
    path = kept.measurement_file(key("a"), "cost")
    return rewritten(path, b"1.5", b"1.7", lambda: kept.measurement(key("a"), "cost"))


def swapped_figures(kept: Store) -> list[str]:
    for name, seconds in (("a", 1.5), ("b", 2.5)):  # as the mutant writes them
        kept.put_measurement(key(name), "cost", {"seconds": seconds})
    first, second = (kept.measurement_file(key(name), "cost") for name in ("a", "b"))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    return ["the figure of another result is used"] if kept.measurement(key("a"), "cost") else []


def changed_ledger(kept: Store) -> list[str]:
    run = kept.run(FURNISHED_RUN)
    return rewritten(run.folder / "ledger.json", b'"mcomp": "0"', b'"mcomp": "1"', run.read_ledger)


def changed_sweep(kept: Store) -> list[str]:
    sweep = kept.sweep(SWEEP)
    return rewritten(sweep.folder / "sweep.json", b'"mcomp": "0"', b'"mcomp": "1"', sweep.read_record)


def cleaned(kept: Store, meddle: Callable[[], object] = lambda: None) -> None:
    """Clean what can go; something happens between listing and removing."""
    known = records.records(kept)
    going = removals(kept, Rules(keep_runs=0), known, NOW)
    meddle()
    for each in going:
        remove(kept, each, known)


def lost(kept: Store, name: str) -> list[str]:
    found = kept.find(key(name), key_json(name))
    return [] if found is not None and is_whole(found, name) else [f"{name} is lost"]


def cleaned_while_leased(kept: Store) -> list[str]:
    with nullcontext(kept.lease(key("a"), pytest.fail)) as held:
        cleaned(kept, held.__enter__)
        held.__exit__(None, None, None)
    return lost(kept, "a")


def cleaned_as_a_run_begins(kept: Store) -> list[str]:
    cleaned(kept, lambda: kept.new_run("late").event("run started", keys=[key("a")]))
    return lost(kept, "a")


def cleaned_between_looking_and_taking(kept: Store) -> list[str]:
    """A run begins when a cleaner has looked whether one needs a result, and before it takes that away."""
    found: list[Artifact | None] = []

    def begin() -> None:
        with kept.new_run("late").under_way([key("a")]):
            found.append(kept.find(key("a"), key_json("a")))

    late, known = Thread(target=begin), records.records(kept)
    going = removals(kept, Rules(keep_runs=0), known, NOW)

    def looked(*arguments: Any) -> Any:
        seen = records.records(*arguments)
        late.start()
        late.join(A_MOMENT_SECONDS)
        return seen

    with patch.object(clean, "records", looked):
        remove(kept, next(each for each in going if each.lease == key("a")), known)
    late.join()
    with suppress(CorruptArtifact, StoreError, FileNotFoundError):
        return [] if found[0] is None or is_whole(found[0], "a") else ["what a run found changed"]
    return ["what a run found was taken away"]


def cleaned_while_a_run_goes_on(kept: Store) -> list[str]:
    with kept.new_run("long").under_way([key("a")]):
        cleaned(kept)
    return lost(kept, "a")


def cleaned_after_a_run_was_interrupted(kept: Store) -> list[str]:
    kept.disk.remove(kept.root / "runs" / FURNISHED_RUN / "ledger.json")
    known = records.records(kept)
    for each in removals(kept, Rules(), known, NOW):
        remove(kept, each, known)
    return lost(kept, "a")


def verified_while_leased(kept: Store) -> list[str]:
    state = kept.checkpoints_folder(key("c")) / "train" / "00000001"
    flip(state / "numbers.json")
    with kept.lease(key("c"), pytest.fail):
        found = [verify.examined(kept, item) for item in verify.items(kept)]
    return ["what somebody works on was moved"] if any(each.moved for each in found) else []


def left_by_a_living_process(kept: Store) -> list[str]:
    with kept.workspace(key("a")) as folder, kept.lease(key("a"), pytest.fail):
        return [] if folder.exists() else ["the folder of a living process is gone"]


def left_by_a_dead_process(kept: Store) -> list[str]:
    (folder := kept.root / "work" / f"{key('a')}-{DEAD}-00000000").mkdir()
    with kept.lease(key("a"), pytest.fail):
        return ["what a dead process left stays"] if folder.exists() else []


def left_by_a_namesake(kept: Store) -> list[str]:
    (folder := kept.root / "work" / f"{key('a')}-{os.getpid()}-1-00000000").mkdir()
    kept.new_run("tiny")
    return ["what a process of the same number left stays"] if folder.exists() else []


def state_of_other_work(kept: Store) -> list[str]:
    save_state(kept, "d", "train", 3)
    states = StepCheckpoints(kept, key("c"), dict, lambda text: None)
    shutil.rmtree(states.folder("train"))
    (kept.checkpoints_folder(key("d")) / "train").rename(states.folder("train"))
    return ["a state of another result is used"] if states.load("train") else []


def remembering(kept: Store) -> Path:
    """Remember a file, and return where that is written down."""
    digests = StoredDigests(kept)
    digests.known(OUTSIDE.parent)[OUTSIDE.name] = OF_OUTSIDE
    digests.keep()
    return digests.file(OUTSIDE.parent)


def changed_digest(kept: Store) -> list[str]:
    path = remembering(kept)
    path.write_bytes(path.read_bytes().replace(b'"000', b'"111'))
    return ["a digest that changed is used"] if StoredDigests(kept).known(OUTSIDE.parent) else []


def digests_of_elsewhere(kept: Store) -> list[str]:
    elsewhere = Path("/elsewhere")
    remembering(kept).rename(StoredDigests(kept).file(elsewhere))
    return ["digests of another folder are used"] if StoredDigests(kept).known(elsewhere) else []


def written_again(kept: Store) -> list[str]:
    """A file is read, and written once more within one tick of a coarse clock."""
    digests, file = StoredDigests(kept), kept.root / "work" / "data"
    file.write_bytes(b"content")
    tick = time.time_ns() + 10**10
    with patch.object(data_digests, "seen", lambda path: (1, path.stat().st_size, tick, tick)):
        before = digests.of(file)
        file.write_bytes(b"changed")
        return ["a file that was only just written is not read again"] if digests.of(file) == before else []


# What is left out.


def believed(disk: Disk, path: Path) -> Remembered:
    plain = json.loads(path.read_bytes())
    return Remembered(folder=plain["folder"], files=plain["files"])


def credulous(self: StepCheckpoints, folder: Path) -> Numbers:
    return Numbers.model_validate(json.loads((folder / "numbers.json").read_bytes())["checkpoint"])


def trusting(data: bytes) -> Manifest:
    return Manifest.model_validate(json.loads(data)["manifest"])


def unchecked(data: bytes) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(data)
    del plain[DIGEST]
    return plain


def deleting(self: Store, key: str, to: str) -> Path:
    self.disk.remove(self.artifact_folder(key))
    return self.root


def only_ledgers(pattern: Any, text: bytes) -> list[str]:
    lines = [line for line in text.splitlines() if b"run started" not in line]
    return [each.decode() for each in pattern.findall(b"\n".join(lines))]


def nothing_said(self: Run, keys: object) -> Any:
    return nullcontext()


def unclaimed(folder: Path) -> Any:
    return nullcontext(True)


def always_free(disk: Disk, folder: Path, name: str) -> Any:
    return nullcontext(True)


class Mutant(NamedTuple):
    """What stands in the place of what, and how it shows."""

    owner: Any
    name: str
    instead: Any
    look: Look


class Left(NamedTuple):
    """How a disk of another kind shows."""

    look: Look


MUTANTS: dict[str, Mutant | Left] = {
    "a result gets its name file by file": Left(partial(killed, "publishing", disk=CopyingDisk)),
    "a state gets its name file by file": Left(partial(killed, "checkpointing", disk=CopyingDisk)),
    "what goes loses its name file by file": Left(partial(killed, "cleaning", disk=CopyingDisk)),
    "a figure is written in place": Left(partial(killed, "measuring", disk=OverwritingDisk)),
    "a ledger is written in place": Left(partial(killed, "recording", disk=OverwritingDisk)),
    "a result is written under its final name": Mutant(
        store, "temporary_name", lambda name: name, partial(killed, "publishing")
    ),
    "a torn line of the log is not ended": Mutant(
        runs, "ends_torn", lambda path: False, partial(killed, "logging")
    ),
    "a broken result is deleted": Mutant(Store, "move", deleting, partial(finished, "quarantining")),
    "verify deletes what is broken": Mutant(
        verify, "set_apart", lambda kept, item: kept.disk.remove(item.path), partial(finished, "verifying")
    ),
    "clean deletes where a thing stands": Mutant(
        clean, "out_of_sight", lambda kept, path: path, partial(killed, "cleaning")
    ),
    "sizes and names are not compared": Mutant(
        artifact, "require_sizes", lambda manifest, sizes: None, partial(tampered, "an extra file")
    ),
    "the digest of a manifest is not compared": Mutant(
        artifact, "decoded", trusting, partial(tampered, "the manifest's text")
    ),
    "the digest of a file is not compared": Mutant(
        Artifact, "misfit", lambda self, path, entry: "", partial(tampered, "a hole of zeros")
    ),
    "the digest of a figure is not compared": Mutant(
        store,
        "read_figure",
        lambda disk, path: json.loads(disk.read(path))["value"],
        partial(with_furnished, changed_figure),
    ),
    "a figure does not say of which result it is": Mutant(
        store,
        "encoded_figure",
        lambda path, value: canonical({"value": value}),
        partial(with_furnished, swapped_figures),
    ),
    "the digest of a ledger is not compared": Mutant(
        runs, "unsealed", unchecked, partial(with_furnished, changed_ledger)
    ),
    "the digest of a sweep is not compared": Mutant(
        sweeps, "unsealed", unchecked, partial(with_furnished, changed_sweep)
    ),
    "clean does not ask for the lease": Mutant(
        clean, "hold_if_free", always_free, partial(with_furnished, cleaned_while_leased)
    ),
    "clean does not look for runs that began meanwhile": Mutant(
        clean, "records", lambda kept, known: [], partial(with_furnished, cleaned_as_a_run_begins)
    ),
    "clean does not claim": Mutant(
        clean, "claim", unclaimed, partial(with_furnished, cleaned_between_looking_and_taking)
    ),
    "a run does not claim": Mutant(
        runs, "claim", unclaimed, partial(with_furnished, cleaned_between_looking_and_taking)
    ),
    "clean does not spare runs under way": Mutant(
        Record, "is_under_way", False, partial(with_furnished, cleaned_while_a_run_goes_on)
    ),
    "a run does not say what it needs": Mutant(
        Run, "under_way", nothing_said, partial(with_furnished, cleaned_while_a_run_goes_on)
    ),
    "clean believes ledgers only": Mutant(
        records, "matches", only_ledgers, partial(with_furnished, cleaned_after_a_run_was_interrupted)
    ),
    "a state does not say of which work it is": Mutant(
        StepCheckpoints, "read_numbers", credulous, partial(with_furnished, state_of_other_work)
    ),
    "numbers of processes are taken for processes": Mutant(
        lease, "start_of", lambda pid: 0, partial(with_furnished, left_by_a_namesake)
    ),
    "digests of data are not compared with theirs": Mutant(
        stored_digests, "read_digests", believed, partial(with_furnished, changed_digest)
    ),
    "digests of data do not say of which folder": Mutant(
        stored_digests, "read_digests", believed, partial(with_furnished, digests_of_elsewhere)
    ),
    "data that was only just written is remembered": Mutant(
        data_digests, "SETTLED_NS", -(10**18), partial(with_furnished, written_again)
    ),
    "verify does not ask for the lease": Mutant(
        verify, "hold_if_free", always_free, partial(with_furnished, verified_while_leased)
    ),
    "living processes are taken for dead": Mutant(
        lease, "is_alive", lambda pid: False, partial(with_furnished, left_by_a_living_process)
    ),
    "dead processes are taken for living": Mutant(
        lease, "is_alive", lambda pid: True, partial(with_furnished, left_by_a_dead_process)
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_left_out_is_caught(name: str, template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    if isinstance(mutant, Mutant):
        assert mutant.look(template) == []
        monkeypatch.setattr(mutant.owner, mutant.name, mutant.instead)
    assert mutant.look(template), "not caught"
