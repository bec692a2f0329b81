"""Every effect of every protocol fails in every way: nothing torn is ever visible, and trying again works."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mcomp.errors import StoreError, StoreFull
from mcomp.store.store import FOLDERS, Store
from tests.mcomp.store.example import is_whole, publish
from tests.mcomp.store.faults import FAULTS, FaultyDisk, Killed
from tests.mcomp.store.protocols import PROTOCOLS, copied, in_memory, make_template, tried, wrong

NUM_CASES = 1215


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with in_memory() as folder:
        make_template(folder / "template" / ".mcomp")
        yield folder / "template" / ".mcomp"


@pytest.fixture
def scratch(template: Path) -> Iterator[Path]:
    """A folder on the disk of the template."""
    folder = template.parents[1] / "scratch"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def num_effects(template: Path, scratch: Path, protocol: str) -> int:
    """Return how many effects a protocol has."""
    root, disk = copied(template, scratch / "count"), FaultyDisk()
    assert tried(root, protocol, disk) is None
    assert wrong(root) == []
    return len(disk.effects)


def broken_at(template: Path, scratch: Path, protocol: str, fault: str) -> list[str]:
    """Break a protocol at each of its effects in turn and return all that was wrong afterwards."""
    found = []
    for position in range(num_effects(template, scratch, protocol)):
        root = copied(template, scratch / str(position))
        tried(root, protocol, FaultyDisk(fault, position))
        found += [f"{protocol} broken at effect {position}: {each}" for each in wrong(root)]
        again = tried(root, protocol, FaultyDisk())
        found += [f"{protocol} again after {position}: {each}" for each in (again, *wrong(root)) if each]
        shutil.rmtree(root)
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fault_at_any_effect_leaves_nothing_torn(
    template: Path, scratch: Path, protocol: str, fault: str
) -> None:
    assert broken_at(template, scratch, protocol, fault) == []


def test_there_are_as_many_cases_as_the_documentation_says(template: Path, scratch: Path) -> None:
    counts = {}
    for protocol in PROTOCOLS:
        (scratch / protocol).mkdir()
        counts[protocol] = num_effects(template, scratch / protocol, protocol) * len(FAULTS)
    print(f"{sum(counts.values())} cases: {counts}")
    assert min(counts.values()) >= len(FAULTS)
    assert sum(counts.values()) == NUM_CASES


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_could_not_be_made_is_made_the_next_time(scratch: Path, fault: str) -> None:
    counting = FaultyDisk()
    Store(scratch / "count" / ".mcomp", counting).prepare()
    for position in range(len(counting.effects)):
        root = scratch / str(position) / ".mcomp"
        with suppress(StoreError, Killed):
            Store(root, FaultyDisk(fault, position)).prepare()
        artifact = publish(Store(root, FaultyDisk()), "new")
        assert is_whole(artifact, "new")
        assert {path.name for path in root.iterdir() if path.is_dir()} == set(FOLDERS)


def test_a_full_disk_is_told_with_the_file_and_the_bytes(template: Path, scratch: Path) -> None:
    counting = FaultyDisk()
    tried(copied(template, scratch / "count"), "measuring", counting)
    root = copied(template, scratch / "s")
    error = tried(root, "measuring", FaultyDisk("full", counting.effects.index("write")))
    assert isinstance(error, StoreFull)
    assert str(root / "work") in str(error)
