"""What a step has done so far: kept whole, found again, and never trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from mcomp.stage import Checkpoint
from mcomp.store.checkpoints import NUMBERS, TENSORS, StepCheckpoints
from mcomp.store.disk import Disk
from mcomp.store.store import FOLDERS, Store
from tests.mcomp.store import powercut
from tests.mcomp.store.example import key
from tests.mcomp.store.faults import FaultyDisk, Killed
from tests.mcomp.store.powercut import NO_LIMIT, Machine, RecordingDisk, states
from tests.mcomp.store.test_powercut import lay_out

HERE = {"machine": "a", "threads": "1"}


class Kept:
    """The checkpoints of the key `new` in one store, and what was told about them."""

    def __init__(self, root: Path, disk: Disk | None = None, environment: dict[str, str] = HERE) -> None:
        self.store = Store(root, disk)
        self.told: list[str] = []
        self.checkpoints = StepCheckpoints(self.store, key("new"), lambda: environment, self.told.append)

    def save(self, number: int, label: str = "train") -> None:
        self.checkpoints.save(label, state(number))

    def load(self, label: str = "train") -> int | None:
        """Return which state was found; it is whole."""
        found = self.checkpoints.load(label)
        if found is None:
            return None
        number = int(found.numbers["number"])
        expected = state(number)
        assert found.numbers == expected.numbers
        assert found.tensors.keys() == expected.tensors.keys()
        assert all(torch.equal(each, expected.tensors[name]) for name, each in found.tensors.items())
        return number

    def folders(self, label: str = "train") -> list[str]:
        folder = self.store.checkpoints_folder(key("new")) / label
        return sorted(path.name for path in folder.iterdir())


def state(number: int) -> Checkpoint:
    tensors = {"module/conv#0": torch.full((3, 2), float(number)), "random/cpu": torch.arange(9).byte()}
    return Checkpoint(
        tensors, {"number": number, "loss": 0.1 * number, "groups": [{"lr": 1e-3, "betas": None}]}
    )


def newest(kept: Kept, name: str) -> Path:
    return kept.store.checkpoints_folder(key("new")) / "train" / kept.folders()[-1] / name


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def blank(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def nest(path: Path) -> None:
    path.write_bytes(b'{"checkpoint":' + b"[" * 100_000)


def test_the_last_state_is_found_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.load() is None
    kept.save(1)
    kept.save(2)
    assert Kept(tmp_path).load() == 2
    assert kept.told == []


def test_labels_have_states_of_their_own(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.save(1, "cut")
    kept.save(2, "recover")
    assert (kept.load("cut"), kept.load("recover")) == (1, 2)


def test_the_last_two_states_are_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for number in range(1, 6):
        kept.save(number)
        assert kept.folders() == [f"{each:08d}" for each in (number - 1, number) if each > 0]
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("name", [TENSORS, NUMBERS])
@pytest.mark.parametrize("damage", [flip, truncate, blank, link, nest, Path.unlink])
def test_a_broken_state_is_told_and_removed_and_the_one_before_is_used(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    kept = Kept(tmp_path)
    kept.save(1)
    kept.save(2)
    damage(newest(kept, name))
    assert kept.load() == 1
    assert len(kept.told) == 1
    assert "00000002 is not used" in kept.told[0]
    kept.save(3)
    assert kept.load() == 3
    assert len(kept.told) == 1


def test_the_tensors_of_another_state_are_noticed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.save(1)
    first = newest(kept, TENSORS).read_bytes()
    kept.save(2)
    newest(kept, TENSORS).write_bytes(first)
    assert kept.load() == 1
    assert "has other bytes than were written" in kept.told[0]


def test_a_state_of_other_work_is_told_and_removed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    other = StepCheckpoints(kept.store, key("other"), lambda: HERE, kept.told.append)
    other.save("train", state(1))
    kept.save(2, "recover")
    kept.save(3)
    mine = kept.store.checkpoints_folder(key("new"))
    for number, foreign in ((1, mine / "recover"), (2, other.folder("train"))):
        (foreign / "00000001").rename(mine / "train" / f"0000000{number + 1}")
    assert kept.load() == 3
    assert [text.partition("is not used: ")[2] for text in kept.told] == [
        f"it is a state of {key('other')[:12]}/train",
        f"it is a state of {key('new')[:12]}/recover",
    ]
    assert kept.folders() == ["00000001"]


def test_where_both_states_are_broken_the_work_begins_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for number in (1, 2):
        kept.save(number)
        flip(newest(kept, TENSORS))
    assert kept.load() is None
    assert len(kept.told) == 2


def test_a_state_of_another_environment_is_told_and_removed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.save(1)
    elsewhere = Kept(tmp_path, environment={**HERE, "threads": "2"})
    assert elsewhere.load() is None
    assert elsewhere.told[0].endswith("is not used: it was made elsewhere (threads 1, here 2)")
    assert kept.load() is None


def test_a_state_of_another_version_is_not_used(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.save(1)
    path = newest(kept, NUMBERS)
    content = json.loads(path.read_bytes())
    content["checkpoint"]["format"] = 1
    path.write_text(json.dumps(content))
    assert kept.load() is None
    assert "is not of this version" in kept.told[0]


def test_tensors_that_share_memory_or_are_no_block_of_it_are_kept(tmp_path: Path) -> None:
    kept, matrix = Kept(tmp_path), torch.arange(6.0).reshape(2, 3)
    tensors = {"a": matrix, "b": matrix.T, "c": matrix[:, 1], "scalar": torch.tensor(3)}
    kept.checkpoints.save("views", Checkpoint(tensors))
    found = kept.checkpoints.load("views")
    assert found is not None
    assert all(torch.equal(found.tensors[name], each) for name, each in tensors.items())


@pytest.mark.parametrize("label", ["", "a/b", "..", "a" * 101])
def test_a_label_is_a_plain_name(label: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label"):
        Kept(tmp_path).load(label)


def test_states_go_when_the_result_is_set_aside(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.save(1)
    kept.store.set_aside(key("new"))
    assert kept.load() is None
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_states_that_cannot_be_removed_hide_no_result(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.save(1)
    disk = FaultyDisk("io", 0)
    Store(tmp_path, disk).remove_checkpoints(key("new"))
    assert disk.effects == ["remove"]
    kept.store.remove_checkpoints(key("new"))
    assert kept.load() is None


def effects_of_saving(folder: Path) -> int:
    Kept(folder).save(1)
    disk = FaultyDisk()
    Kept(folder, disk).save(2)
    return len(disk.effects)


@pytest.mark.parametrize("fault", ["kill", "torn", "full", "io", "forbidden"])
def test_a_fault_at_any_effect_leaves_a_whole_state(fault: str, tmp_path: Path) -> None:
    for position in range(effects_of_saving(tmp_path / "count")):
        root = tmp_path / str(position)
        for number in (1, 2):
            Kept(root).save(number)
        broken = Kept(root, FaultyDisk(fault, position))
        try:
            broken.save(3)
        except Killed:
            pass
        else:
            assert broken.load() == 3 or "no checkpoint was kept" in broken.told[0], position
        after = Kept(root)
        assert after.load() in (2, 3), position
        assert after.told == [], position
        after.save(4)
        assert after.load() == 4, position
        assert len(after.folders()) == 2, position


def test_what_cannot_be_read_is_told_and_the_one_before_is_used(tmp_path: Path) -> None:
    for position in range(3):  # of the newest: the files' sizes, the numbers, the tensors
        root = tmp_path / str(position)
        Kept(root).save(1)
        Kept(root).save(2)
        broken = Kept(root, FaultyDisk("io", position))
        assert broken.load() == 1
        assert "cannot" in broken.told[0]


Trace = list[tuple[Any, ...]]


def recorded(top: Path) -> Trace:
    """Return all that is done to the disk by three states, and when each of them is said to be kept."""
    Store(top / ".mcomp").prepare()
    names = [("mkdir", top / ".mcomp"), *(("mkdir", top / ".mcomp" / name) for name in FOLDERS)]
    disk = RecordingDisk()
    for number in (1, 2, 3):
        Kept(top / ".mcomp", disk).save(number)
        disk.done(str(number))
    return [*names, ("sync_folder", top), ("sync_folder", top / ".mcomp"), *disk.trace]


def is_lost(trace: Trace, top: Path, scratch: Path) -> bool:
    """Return whether a power cut at some moment takes away, or tears, what was said to be kept."""
    for state in set(states(trace, top)):
        root = Path(mkdtemp(dir=scratch))
        lay_out(root, state.content)
        kept = Kept(root / ".mcomp")
        said = max(int(label) for label in {*state.done, "0"} - {"start"})
        if (kept.load() or 0) < said or kept.told:
            return True
    return False


def syncs(trace: Trace, top: Path) -> list[int]:
    """Return where the disk is synced for a reason that the trace shows: not what is synced again."""
    machine, found = Machine(top), []
    for at, (name, *arguments) in enumerate(trace):
        if name == "sync_file" or (name == "sync_folder" and machine.has_unsafe_names(arguments[0])):
            found.append(at)
        if name != "done":
            machine.do(name, *arguments)
    return found[2:]  # without those of the store itself


@pytest.mark.slow
def test_whatever_is_lost_of_what_is_not_synced_a_state_that_was_said_to_be_kept_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercut, "ALL_SUBSETS_UP_TO", NO_LIMIT)
    for folder in (top := tmp_path / "recorded", scratch := tmp_path / "scratch"):
        folder.mkdir()
    assert not is_lost(recorded(top), top, scratch)


def test_a_power_cut_takes_nothing_that_was_said_to_be_kept_and_every_sync_is_needed(tmp_path: Path) -> None:
    top, scratch = tmp_path / "recorded", tmp_path / "scratch"
    top.mkdir()
    scratch.mkdir()
    trace = recorded(top)
    assert not is_lost(trace, top, scratch)
    mutants = {at: [*trace[:at], *trace[at + 1 :]] for at in syncs(trace, top)}
    assert len(mutants) == 11
    assert [trace[at] for at, mutant in mutants.items() if not is_lost(mutant, top, scratch)] == []
