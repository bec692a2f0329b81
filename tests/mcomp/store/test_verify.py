"""Everything in a store is read again; what is broken is moved aside, what is in use is left alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.errors import StoreError
from mcomp.store.checkpoints import NUMBERS, TENSORS
from mcomp.store.disk import Disk, explained
from mcomp.store.lease import hold, temporary_name
from mcomp.store.sealed import sealed, unsealed
from mcomp.store.store import Store
from mcomp.store.verify import Finding, examined, items
from tests.mcomp.store.example import RUN, SWEEP, flip, furnish, is_whole, key, key_json, publish
from tests.tiny import files_below

KINDS = {"artifacts": 2, "measurements": 1, "checkpoints": 2, "runs": 1, "sweeps": 2}
STATES = f"checkpoints/{key('c')}/train"
FILES = [
    f"artifacts/{key('a')[:2]}/{key('a')}/manifest.json",
    f"artifacts/{key('a')[:2]}/{key('a')}/key.json",
    f"artifacts/{key('a')[:2]}/{key('a')}/model/weights.safetensors",
    f"measurements/{key('a')}/cost.json",
    f"{STATES}/00000002/{TENSORS}",
    f"{STATES}/00000001/{NUMBERS}",
    f"runs/{RUN}/ledger.json",
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("template") / "store").root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "store")


def verified(root: Path, *, move: bool = True, disk: Disk | None = None) -> list[Finding]:
    store = Store(root, disk, on_problem=pytest.fail)
    return [examined(store, item, move=move) for item in items(store)]


def states(findings: list[Finding]) -> Counter[tuple[str, str]]:
    return Counter((finding.item.kind, finding.state) for finding in findings)


ALL_WELL = Counter({(kind, "ok"): number for kind, number in KINDS.items()})


def test_a_store_in_order_is_left_as_it_was(root: Path) -> None:
    before = files_below(root)
    assert states(verified(root)) == ALL_WELL
    assert files_below(root) == before


def test_where_nothing_is_kept_there_is_nothing_to_verify(tmp_path: Path) -> None:
    assert items(Store(tmp_path / "none")) == []
    Store(tmp_path / "new").prepare()
    assert items(Store(tmp_path / "new")) == []


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_is_found_and_what_holds_it_is_moved_whole(name: str, root: Path) -> None:
    flip(root / name)
    broken = (root / name).read_bytes()
    (found,) = [finding for finding in verified(root) if finding.state != "ok"]
    assert found.state == "broken"
    assert name.startswith(str(found.item.path.relative_to(root)))
    assert not found.item.path.exists()
    assert found.moved is not None
    assert found.moved.parent == root / "quarantine"
    assert broken in files_below(found.moved).values()
    assert states(verified(root)) == ALL_WELL - Counter({(found.item.kind, "ok"): 1})


@pytest.mark.parametrize("name", FILES)
def test_looking_only_changes_nothing(name: str, root: Path) -> None:
    flip(root / name)
    before = {path: data for path, data in files_below(root).items() if not path.startswith("leases")}
    (found,) = [finding for finding in verified(root, move=False) if finding.state != "ok"]
    assert (found.state, found.moved) == ("broken", None)
    after = {path: data for path, data in files_below(root).items() if not path.startswith("leases")}
    assert after == before


@pytest.mark.parametrize("name", ["sweep.json", "answered.json"])
def test_a_record_of_a_sweep_that_cannot_be_read_is_moved(name: str, root: Path) -> None:
    (root / "sweeps" / SWEEP / name).write_text('{"jobs": [')
    (found,) = [finding for finding in verified(root) if finding.state != "ok"]
    assert found.moved == root / "quarantine" / f"sweeps-{SWEEP}-1"
    assert files_below(found.moved) == {name: b'{"jobs": ['}


def test_what_breaks_again_is_moved_beside_what_broke_before(root: Path) -> None:
    path = root / "measurements" / key("a") / "cost.json"
    for number in (1, 2, 3):
        path.write_bytes(b"%d" % number)
        verified(root)
    moved = sorted((root / "quarantine").iterdir())
    assert [(each / "cost.json").read_bytes() for each in moved] == [b"1", b"2", b"3"]


def test_a_result_that_was_moved_is_made_again(root: Path) -> None:
    flip(root / FILES[2])
    verified(root)
    store = Store(root, on_problem=pytest.fail)
    assert store.find(key("a"), key_json("a")) is None
    assert is_whole(publish(store, "a"), "a")
    assert states(verified(root)) == ALL_WELL


# Runs under way


@pytest.mark.parametrize(("name", "lease"), [(FILES[2], key("a")), (FILES[4], key("c")), (FILES[6], RUN)])
@pytest.mark.parametrize("move", [True, False])
def test_what_somebody_works_on_is_left_alone(name: str, lease: str, move: bool, root: Path) -> None:
    flip(root / name)
    broken = (root / name).read_bytes()
    with hold(Disk(), root / "leases", lease, pytest.fail):
        assert [each.state for each in verified(root, move=move) if each.state != "ok"] == ["in use"]
        assert (root / name).read_bytes() == broken
    assert [each.state for each in verified(root, move=move) if each.state != "ok"] == ["broken"]


def test_what_is_being_published_is_not_looked_at(root: Path) -> None:
    unfinished = root / "artifacts" / key("a")[:2] / temporary_name(key("a"))
    unfinished.mkdir()
    (unfinished / "manifest.json").write_bytes(b"half")
    assert states(verified(root)) == ALL_WELL


class MeddlingDisk(Disk):
    """Another process does something just before the bytes of the result a are read."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle

    def sha256(self, path: Path) -> str:
        if key("a") in str(path):
            self.meddle()
        return super().sha256(path)


def test_what_goes_while_it_is_read_is_not_broken(root: Path) -> None:
    disk = MeddlingDisk(lambda: Store(root).set_aside(key("a")))
    assert states(verified(root, disk=disk))["artifacts", "in use"] == 1
    assert list((root / "quarantine").iterdir()) == []


def test_what_is_replaced_while_it_is_read_is_not_broken(root: Path) -> None:
    meddled: list[None] = []

    def replace() -> None:
        if not meddled:
            meddled.append(None)
            flip(root / FILES[2])
            assert not [each for each in verified(root) if each.state not in ("ok", "broken")]
            publish(Store(root), "a")

    flip(root / FILES[2])
    findings = verified(root, disk=MeddlingDisk(replace))
    assert {each.state for each in findings} == {"ok"}


def test_what_a_person_put_there_is_not_looked_at(root: Path) -> None:
    for name in ("artifacts/mine/mine", "checkpoints/mine/mine/00000001", "measurements/mine", "runs/mine"):
        (root / name).mkdir(parents=True)
        (root / name / "thesis.tex").write_text("mine")
    assert states(verified(root)) == ALL_WELL


# What cannot be read


class FaultyReads(Disk):
    def sha256(self, path: Path) -> str:
        with explained("read", path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_the_disk_cannot_read_is_told_and_stays(root: Path) -> None:
    before = set(files_below(root / "artifacts"))
    findings = verified(root, disk=FaultyReads())
    assert states(findings)["artifacts", "unreadable"] == KINDS["artifacts"]
    assert all("the disk reports a fault" in each.problem for each in findings if each.state == "unreadable")
    assert set(files_below(root / "artifacts")) == before


def test_a_ledger_of_another_version_is_not_broken(root: Path) -> None:
    path = root / "runs" / RUN / "ledger.json"
    path.write_bytes(sealed({**unsealed(path.read_bytes()), "of_tomorrow": 1}))
    (found,) = [each for each in verified(root) if each.state != "ok"]
    assert found.state == "unreadable"
    assert "is of another version of mcomp" in found.problem
    assert path.exists()


def test_a_store_of_another_format_is_refused(root: Path) -> None:
    (root / "store.json").write_text(json.dumps({"store_format": 2}))
    with pytest.raises(StoreError, match="not of format 1"):
        items(Store(root))
