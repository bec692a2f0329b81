"""Whatever happens to the bytes of a store shows when they are used, and when they are verified."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mcomp.errors import CorruptArtifact
from mcomp.store.checkpoints import StepCheckpoints
from mcomp.store.digests import StoredDigests
from mcomp.store.store import Store
from mcomp.store.verify import examined, items
from tests.mcomp.store.damage import (
    SEEN_ON_A_HIT,
    SEEN_ON_USE,
    random_extra,
    random_flip,
    random_hole,
    random_swap,
    random_truncation,
)
from tests.mcomp.store.example import (
    RUN,
    SWEEP,
    furnish,
    is_whole,
    key,
    key_json,
    ledger,
    publish,
    save_state,
)
from tests.mcomp.store.faults import FaultyDisk
from tests.mcomp.store.protocols import OF_OUTSIDE, OUTSIDE, copied, in_memory

Damage = Callable[[list[Path], random.Random], list[Path]]

NUM_CASES: dict[Damage, int] = {
    random_flip: 500,
    random_truncation: 200,
    random_hole: 100,
    random_swap: 100,
    random_extra: 100,
}


# By whose they are and their label, the states that there are, and those that not every furnished store has.
STATES = {("c", "train"): (1, 2), ("c", "recover"): (3,), ("d", "train"): (4,)}
MORE_STATES = (("c", "recover", 3), ("d", "train", 4))


# Chosen changes of one result


@pytest.mark.parametrize("what", SEEN_ON_A_HIT)
def test_a_change_that_shows_on_a_hit_is_no_hit(what: str, tmp_path: Path) -> None:
    problems: list[str] = []
    store = Store(tmp_path, on_problem=problems.append)
    SEEN_ON_A_HIT[what](publish(store, "a").folder)
    assert store.find(key("a"), key_json("a")) is None
    assert len(problems) == 1
    assert (store.root / "quarantine" / f"{key('a')}-1").exists()
    assert is_whole(publish(store, "a"), "a")


@pytest.mark.parametrize("what", SEEN_ON_USE)
def test_a_change_of_bytes_shows_when_they_are_used(what: str, tmp_path: Path) -> None:
    problems: list[str] = []
    store = Store(tmp_path, on_problem=problems.append)
    SEEN_ON_USE[what](publish(store, "a").folder)
    found = store.find(key("a"), key_json("a"))
    assert found is not None
    with pytest.raises(CorruptArtifact, match="set aside"):
        found.file("model/weights.safetensors")
    assert len(problems) == 1
    assert store.find(key("a"), key_json("a")) is None
    assert (store.root / "quarantine" / f"{key('a')}-1").exists()


@pytest.mark.parametrize("what", [*SEEN_ON_A_HIT, *SEEN_ON_USE])
def test_every_change_shows_when_the_store_is_verified(what: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    {**SEEN_ON_A_HIT, **SEEN_ON_USE}[what](publish(store, "a").folder)
    assert [examined(store, item).state for item in items(store)] == ["broken"]
    assert store.find(key("a"), key_json("a")) is None


# Random changes of any file


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A store with some of everything, in memory."""
    with in_memory() as folder:
        store = furnish(folder / "template")
        store.put_measurement(key("b"), "cost", {"seconds": 2.5})
        digests = StoredDigests(store)
        digests.known(OUTSIDE.parent)[OUTSIDE.name] = OF_OUTSIDE
        digests.keep()
        for name, label, number in MORE_STATES:
            save_state(store, name, label, number)
        yield store.root


def protected(root: Path) -> list[Path]:
    """Return the files that results, figures, states, digests, ledgers and sweeps are read from."""
    folders = (root / name for name in ("artifacts", "measurements", "checkpoints", "digests"))
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found += [root / "runs" / RUN / "ledger.json"]
    return sorted([*found, *(root / "sweeps" / SWEEP / name for name in ("sweep.json", "answered.json"))])


def told_when_used(root: Path) -> list[str]:
    """Use everything in a store as a run does and return what was told; what is wrong and not told fails."""
    told: list[str] = []
    store = Store(root, FaultyDisk(), on_problem=told.append)
    for name, seconds in (("a", 1.5), ("b", 2.5)):
        artifact = store.find(key(name), key_json(name))
        with suppress(CorruptArtifact):  # it was told
            assert artifact is None or is_whole(artifact, name)
        assert store.measurement(key(name), "cost") in (None, {"seconds": seconds})
    for name, label in STATES:
        state = StepCheckpoints(store, key(name), dict, told.append).load(label)
        number = state.numbers["number"] if state is not None else None
        assert number in STATES[name, label] or state is None
        assert state is None or state.tensors["weight"].tolist() == [number] * 64
    assert StoredDigests(store).known(OUTSIDE.parent) in ({}, {OUTSIDE.name: OF_OUTSIDE})
    sweep, run = store.sweep(SWEEP), store.run(RUN)
    reads: dict[Path, tuple[Callable[[], object], object]] = {
        run.folder / "ledger.json": (run.read_ledger, ledger("done", RUN)),
        sweep.folder / "sweep.json": (lambda: sweep.read_record().sweep, SWEEP),
        sweep.folder / "answered.json": (sweep.read_answered, {0: ledger("done")}),
    }
    for path, (read, right) in reads.items():
        try:
            assert not path.exists() or read() == right
        except CorruptArtifact as error:
            told.append(str(error))
    return told


@pytest.mark.parametrize("damage", NUM_CASES, ids=lambda damage: damage.__name__)
def test_random_damage_is_always_noticed_and_never_used(damage: Damage, template: Path) -> None:
    for seed in range(NUM_CASES[damage]):
        root = copied(template, template.with_name("case"))
        changed = damage(protected(root), random.Random(seed))
        store = Store(root, FaultyDisk(), on_problem=pytest.fail)
        found = [examined(store, item, move=False) for item in items(store)]
        broken = [each.item.path for each in found if each.state == "broken"]
        for path in changed:
            assert any(path.is_relative_to(each) for each in broken), f"seed {seed}: {path} is not found"
        assert len(broken) <= len(changed), f"seed {seed}: {broken} for {changed}"
        told = told_when_used(root)
        # A state that is not the newest one is not used, unless the newest is broken.
        unused = all(f"{key('c')}/train/00000001" in str(path) for path in changed)
        assert told or unused, f"seed {seed}: {changed} is not told"
        [examined(store, item) for item in items(store)]
        assert told_when_used(root) == [], f"seed {seed}"
        shutil.rmtree(root)


# Whole folders of one kind that changed places: each is in order, but where it should not be

A, B, C, D = map(key, "abcd")
CHANGED_PLACES = {
    "results": (f"artifacts/{A[:2]}/{A}", f"artifacts/{B[:2]}/{B}"),
    "figures": (f"measurements/{A}", f"measurements/{B}"),
    "states of one result": (f"checkpoints/{C}/train/00000002", f"checkpoints/{C}/recover/00000001"),
    "states of two results": (f"checkpoints/{C}/train/00000002", f"checkpoints/{D}/train/00000001"),
    "all states of two labels": (f"checkpoints/{C}/train", f"checkpoints/{C}/recover"),
    "all states of two results": (f"checkpoints/{C}", f"checkpoints/{D}"),
}


@pytest.mark.parametrize("what", CHANGED_PLACES)
def test_folders_that_changed_places_are_noticed_and_not_used(what: str, template: Path) -> None:
    root = copied(template, template.with_name(what))
    one, other = (root / name for name in CHANGED_PLACES[what])
    one.rename(root / "third")
    other.rename(one)
    (root / "third").rename(other)
    kept = Store(root, FaultyDisk(), on_problem=pytest.fail)
    found = [examined(kept, item, move=False) for item in items(kept)]
    broken = [each.item.path for each in found if each.state == "broken"]
    assert all(any(path.is_relative_to(place) for path in broken) for place in (one, other))
    assert all(path.is_relative_to(one) or path.is_relative_to(other) for path in broken)
    assert len(told_when_used(root)) >= 2
    [examined(kept, item) for item in items(kept)]
    assert told_when_used(root) == []
    assert {examined(kept, item).state for item in items(kept)} == {"ok"}


def test_an_undamaged_store_tells_nothing(template: Path) -> None:
    root = copied(template, template.with_name("whole"))
    assert told_when_used(root) == []
    assert {examined(Store(root), item).state for item in items(Store(root))} == {"ok"}
