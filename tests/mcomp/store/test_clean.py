"""What goes and what stays, and that nothing goes that somebody needs."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcomp.errors import StoreError
from mcomp.store import lease as lease_module
from mcomp.store.clean import Removal, Rules, removals, remove
from mcomp.store.lease import is_held, temporary_name
from mcomp.store.records import records
from mcomp.store.runs import Run
from mcomp.store.store import Store
from mcomp.store.sweeps import JobRecord, SweepFolder, SweepRecord
from tests.mcomp.store.example import RUN, SWEEP, flip, furnish, is_whole, key, key_json, publish
from tests.mcomp.store.faults import FaultyDisk
from tests.tiny import files_below

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DEFAULT = Rules()
ALL = Rules(keep_runs=0, quarantine=True, replaced=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("template") / "store").root


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(template, tmp_path / "store"), FaultyDisk(), on_problem=pytest.fail)


def make_run(store: Store, run_id: str, *keys: str) -> Run:
    run = Run(run_id, store.root / "runs" / run_id, store.disk)
    run.folder.mkdir()
    run.event("run started", keys=list(keys))
    return run


def make_sweep(store: Store, sweep_id: str, *runs: Run) -> SweepFolder:
    sweep = SweepFolder(sweep_id, store.root / "sweeps" / sweep_id, store.disk)
    sweep.folder.mkdir()
    jobs = [JobRecord(number=number, overrides=(), run=run.id) for number, run in enumerate(runs)]
    plain = {"mcomp": "0", "sweep": sweep_id, "recipe": "tiny", "started": "now", "status": "done"}
    sweep.write_record(SweepRecord.model_validate({**plain, "jobs": tuple(jobs)}))
    return sweep


def listed(store: Store, rules: Rules = DEFAULT) -> list[Removal]:
    return removals(store, rules, records(store), NOW)


def cleaned(store: Store, rules: Rules = DEFAULT) -> list[Removal]:
    known = records(store)
    going = removals(store, rules, known, NOW)
    assert [remove(store, each, known) for each in going] == [""] * len(going)
    assert list((store.root / "work").iterdir()) == []
    assert removals(store, rules, records(store), NOW) == []
    return going


def kinds(going: Sequence[Removal]) -> list[str]:
    return sorted(each.kind for each in going)


def is_there(store: Store, name: str) -> bool:
    found = store.find(key(name), key_json(name))
    assert found is None or is_whole(found, name)
    return found is not None


# What nobody refers to


def test_what_a_run_or_a_sweep_refers_to_stays(store: Store) -> None:
    before = files_below(store.root)
    assert cleaned(store) == []
    assert files_below(store.root) == before


def test_a_result_that_no_run_refers_to_goes_with_all_that_is_kept_of_it(store: Store) -> None:
    shutil.rmtree(store.root / "runs" / RUN)
    make_run(store, RUN, key("a"), key("e"))
    publish(store, "c")
    with store.lease(key("d"), pytest.fail):
        publish(store, "d")
    store.put_measurement(key("d"), "cost", {"seconds": 1})
    publish(store, "e")
    going = cleaned(store)
    assert {each.paths[0].name: each.kind for each in going} == {key("c"): "result", key("d"): "result"}
    there = {name: is_there(store, name) for name in "abcde"}
    assert there == {"a": True, "b": True, "c": False, "d": False, "e": True}
    assert [path for path in files_below(store.root) if key("c") in path or key("d") in path] == []


def test_a_listing_removes_nothing_and_says_what_and_why(store: Store) -> None:
    publish(store, "d")
    before = files_below(store.root)
    (only,) = listed(store)
    assert (only.kind, only.reason, only.lease) == ("result", "no kept run refers to it", key("d"))
    assert only.size_bytes == sum(len(data) for data in files_below(store.artifact_folder(key("d"))).values())
    assert files_below(store.root) == before


def test_what_an_interrupted_run_has_done_so_far_stays_until_its_result_is_there(store: Store) -> None:
    assert store.checkpoints_folder(key("c")).exists()
    publish(store, "c")
    (only,) = cleaned(store)
    assert (only.kind, only.reason) == ("checkpoints", "its result is there")
    assert is_there(store, "c")
    assert not store.checkpoints_folder(key("c")).exists()


@pytest.mark.parametrize("name", ["ledger.json", "events.jsonl"])
def test_one_readable_file_of_a_run_is_enough_to_keep_what_it_refers_to(name: str, store: Store) -> None:
    shutil.rmtree(store.root / "runs" / RUN)
    run = make_run(store, RUN)
    text = f'{{"rows": [{{"key": "{key("a")}", "of tomorrow": [{{"key": "{key("c")}"}}]}}]}}'
    for each in ("ledger.json", "events.jsonl"):
        (run.folder / each).write_text(text if each == name else '{"rows": [{"ke')
    assert cleaned(store) == []


def test_figures_and_checkpoints_without_a_result_and_a_run_go(store: Store) -> None:
    store.put_measurement(key("d"), "cost", {"seconds": 1})
    shutil.copytree(store.checkpoints_folder(key("c")), store.checkpoints_folder(key("e")))
    assert kinds(cleaned(store)) == ["checkpoints", "figures"]
    assert not store.checkpoints_folder(key("e")).exists()
    assert store.measurement(key("d"), "cost") is None
    assert store.measurement(key("a"), "cost") == {"seconds": 1.5}


def test_leases_on_what_is_not_there_go(store: Store) -> None:
    with store.lease(key("d"), pytest.fail):
        assert listed(store) == []
    assert kinds(cleaned(store)) == ["lease"]
    assert not [path for path in (store.root / "leases").iterdir() if path.name.startswith(key("d"))]


# Runs that may go


def test_without_a_rule_for_runs_all_stay(store: Store) -> None:
    make_run(store, "20200101-000000-old-0000")
    assert cleaned(store) == []


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        (Rules(keep_runs=3), "123"),
        (Rules(keep_runs=2), "12"),
        (Rules(keep_runs=0), ""),
        (Rules(older_than=timedelta(days=15)), "1"),
        (Rules(older_than=timedelta(days=80)), "123"),
        (Rules(older_than=timedelta(days=15), keep_runs=2), "12"),
        (Rules(older_than=timedelta(days=100), keep_runs=0), "1234"),
    ],
)
def test_a_run_goes_if_it_is_old_and_not_among_the_newest(rules: Rules, stay: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store", FaultyDisk())
    for number, days in enumerate((10, 20, 70, 90), start=1):
        began = NOW - timedelta(days=days)
        publish(store, str(number))
        make_run(store, f"{began:%Y%m%d-%H%M%S}-r{number}-0000", key(str(number)))
        os.utime(store.artifact_folder(key(str(number))), (began.timestamp(),) * 2)
    cleaned(store, rules)
    assert [run.split("-")[2] for run in store.runs()] == [f"r{number}" for number in stay]
    assert [number for number in "1234" if is_there(store, number)] == list(stay)


def test_the_jobs_of_a_sweep_stay_and_go_with_it_and_count_as_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", FaultyDisk())
    for name in ("old", "job0", "job1", "new"):
        publish(store, name)
    make_run(store, "20260101-000000-old-0000", key("old"))
    jobs = [make_run(store, f"20260102-00000{number}-job-0000", key(f"job{number}")) for number in (0, 1)]
    make_sweep(store, "20260102-000000-sweep-0000", *jobs)
    make_run(store, "20260103-000000-new-0000", key("new"))
    assert kinds(cleaned(store, Rules(keep_runs=2))) == ["result", "run"]
    assert [name for name in ("old", "job0", "job1", "new") if is_there(store, name)] == [
        "job0",
        "job1",
        "new",
    ]
    going = cleaned(store, Rules(keep_runs=1))
    assert kinds(going) == ["result", "result", "run", "run", "sweep"]
    assert [each.reason for each in going if each.kind == "run"] == ["of 20260102-000000-sweep-0000"] * 2
    assert (store.runs(), store.sweeps()) == (["20260103-000000-new-0000"], [])


def test_a_result_of_two_runs_goes_with_the_last_of_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", FaultyDisk())
    publish(store, "shared")
    for day in (1, 2):
        make_run(store, f"2026010{day}-000000-tiny-0000", key("shared"))
    assert kinds(cleaned(store, Rules(keep_runs=1))) == ["run"]
    assert is_there(store, "shared")
    assert kinds(cleaned(store, Rules(keep_runs=0))) == ["result", "run"]


@pytest.mark.parametrize("seed", range(10))
def test_exactly_what_the_kept_runs_refer_to_is_left(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    store, names = Store(tmp_path / "store", FaultyDisk()), [str(number) for number in range(8)]
    for name in names:
        publish(store, name)
    needs = {
        f"2026010{day}-000000-tiny-0000": chance.sample(names, chance.randrange(4)) for day in range(1, 8)
    }
    for run, needed in needs.items():
        make_run(store, run, *map(key, needed))
    number = chance.randrange(9)
    cleaned(store, Rules(keep_runs=number))
    kept = sorted(needs)[len(needs) - min(number, len(needs)) :]
    assert store.runs() == kept[::-1], seed
    expected = {name for run in kept for name in needs[run]}
    assert {name for name in names if is_there(store, name)} == expected, seed


# Further rules


def test_small_results_stay_where_only_large_ones_may_go(store: Store) -> None:
    publish(store, "d")
    (only,) = listed(store)
    assert cleaned(store, Rules(larger_than=only.size_bytes + 1)) == []
    assert kinds(cleaned(store, Rules(larger_than=only.size_bytes))) == ["result"]


def test_young_results_stay_where_only_old_things_may_go(store: Store) -> None:
    publish(store, "d")
    for days, goes in ((29, []), (31, ["result"])):
        os.utime(store.artifact_folder(key("d")), ((NOW - timedelta(days=days)).timestamp(),) * 2)
        assert kinds(cleaned(store, Rules(older_than=timedelta(days=30), keep_runs=9))) == goes


def test_what_was_set_aside_goes_only_when_it_is_asked_for(store: Store) -> None:
    store = Store(store.root, FaultyDisk(), on_problem=lambda message: None)
    flip(store.artifact_folder(key("a")) / "key.json")
    assert not is_there(store, "a")
    store.set_aside(key("b"))
    assert cleaned(store) == []
    assert [each.reason for each in cleaned(store, Rules(quarantine=True))] == ["found broken"]
    assert [each.reason for each in cleaned(store, Rules(replaced=True))] == ["replaced by --fresh"]
    assert [list((store.root / name).iterdir()) for name in ("quarantine", "replaced")] == [[], []]


def test_what_dead_processes_left_goes_and_what_living_ones_make_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = store.artifact_folder(key("a")).parent
    for folder in (store.root / "work", shard):
        (folder / temporary_name(key("a"))).mkdir()
    (store.root / "work" / temporary_name(key("b"))).write_text("half of a figure")
    assert listed(store) == []
    monkeypatch.setattr(lease_module, "is_alive", lambda pid: False)
    assert kinds(cleaned(store)) == ["left behind"] * 3
    assert [path.name for path in shard.iterdir()] == [key("a")]


def test_everything_can_go(store: Store) -> None:
    cleaned(store, ALL)
    assert set(files_below(store.root)) == {"store.json", ".gitignore", "leases/claim.lock"}
    assert is_whole(publish(store, "a"), "a")


def test_a_link_is_removed_and_not_followed(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("mine")
    for path in (store.artifact_folder(key("d")), store.root / "quarantine" / "link"):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(outside)
    cleaned(store, ALL)
    assert (outside / "thesis.tex").read_text() == "mine"
    assert not store.artifact_folder(key("d")).is_symlink()


# Processes at work


def test_what_is_worked_on_is_not_listed(store: Store) -> None:
    publish(store, "d")
    with store.lease(key("d"), pytest.fail):
        assert key("d") not in {each.lease for each in listed(store, ALL)}
    assert key("d") in {each.lease for each in listed(store, ALL)}


def test_what_is_worked_on_since_it_was_listed_stays(store: Store) -> None:
    publish(store, "d")
    known, (only,) = records(store), listed(store)
    with store.lease(key("d"), pytest.fail):
        assert remove(store, only, known) == "somebody works on it"
    assert is_there(store, "d")


def test_a_run_under_way_stays_with_all_it_needs_also_before_its_first_step_ended(store: Store) -> None:
    publish(store, "d")
    run = store.new_run("tiny")
    with run.under_way([key("d"), key("e")]):
        cleaned(store, ALL)
        assert store.runs() == [run.id]
        assert is_there(store, "d")
        assert not is_there(store, "a")
    cleaned(store, ALL)
    assert not is_there(store, "d")


def test_a_run_that_has_only_just_made_its_folder_stays(store: Store) -> None:
    run = store.new_run("tiny")
    for hours, stays in ((-1, True), (0.9, True), (1.1, False)):
        now = datetime.now(UTC) + timedelta(hours=hours)
        going = removals(store, ALL, records(store), now)
        assert (run.id not in {each.lease for each in going}) is stays


def test_a_sweep_under_way_stays_with_what_its_plan_needs(store: Store) -> None:
    sweep = store.sweep(SWEEP)
    with sweep.under_way():
        cleaned(store, ALL)
        assert is_there(store, "b")
        assert not is_there(store, "a")


def test_what_a_run_needs_that_began_since_it_was_listed_stays(store: Store) -> None:
    publish(store, "d")
    known, (only,) = records(store), listed(store)
    make_run(store, "20260301-000000-late-0000", key("d"))
    assert remove(store, only, known) == "a run that began meanwhile needs it"
    assert is_there(store, "d")


def test_what_a_run_needs_that_had_not_named_it_when_it_was_listed_stays(store: Store) -> None:
    publish(store, "d")
    late = store.new_run("late")
    known, (only,) = records(store), listed(store)
    late.event("run started", keys=[key("d")])
    assert remove(store, only, known) == "a run that began meanwhile needs it"


class PausingDisk(FaultyDisk):
    """Waits in the middle of each removal."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def sync_folder(self, path: Path) -> None:
        assert self.may_go_on.wait(timeout=20)


def test_a_run_begins_and_a_cleaner_takes_nothing_while_a_cleaner_that_was_stopped_holds_the_claim(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "CLAIM_SECONDS", 0.1)
    publish(store, "d")
    known = records(store)
    (only,) = listed(store)
    with lease_module.claim(store.root / "leases"):
        assert remove(store, only, known) == "somebody else cleans, or begins, and does not come to an end"
        with store.new_run("late").under_way([key("d")]):
            assert is_there(store, "d")
    assert is_there(store, "d")


def test_who_waits_for_a_result_that_is_being_removed_makes_it_anew(store: Store) -> None:
    publish(store, "d")
    known, (only,), disk = records(store), listed(store), PausingDisk()
    removing = threading.Thread(target=remove, args=(Store(store.root, disk), only, known))
    removing.start()
    while store.artifact_folder(key("d")).exists():
        time.sleep(0.001)
    waited: list[str] = []

    def let_it_go_on(text: str) -> None:
        waited.append(text)
        disk.may_go_on.set()

    with store.lease(key("d"), let_it_go_on):
        assert not is_there(store, "d")
        assert is_whole(publish(store, "d"), "d")
        assert is_held(store.root / "leases", key("d"))
    removing.join()
    assert len(waited) == 1
    assert is_there(store, "d")


def test_what_is_gone_already_is_no_error(store: Store) -> None:
    publish(store, "d")
    known, going = records(store), listed(store)
    assert [remove(store, each, known) for each in [*going, *going]] == ["", ""]


def test_a_folder_that_is_no_store_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(StoreError, match="not of format 1"):
        records(Store(tmp_path))
    assert records(Store(tmp_path / "none")) == []
    assert removals(Store(tmp_path / "none"), ALL, [], NOW) == []
