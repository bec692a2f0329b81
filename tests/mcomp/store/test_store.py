"""What a store promises to those who use it, and that it sees every way in which its bytes can change."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcomp.errors import CorruptArtifact, StoreError
from mcomp.store.disk import Disk
from mcomp.store.store import Store
from tests.mcomp.store.example import ABOUT, FILES, content, is_whole, key, key_json, ledger, publish


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, problems: list[str]) -> Store:
    """A store at an awkward path."""
    return Store(tmp_path / "a b" / "é 中" / ".mcomp", on_problem=problems.append)


def test_looking_makes_nothing(store: Store) -> None:
    assert store.find(key("a"), key_json("a")) is None
    assert store.measurement(key("a"), "cost") is None
    assert store.runs() == []
    assert not store.root.exists()


def test_what_is_published_is_found_by_another_process_whole(store: Store) -> None:
    publish(store, "a")
    found = Store(store.root).find(key("a"), key_json("a"))
    assert found is not None
    assert is_whole(found, "a")
    assert found.names() == sorted(FILES)
    assert found.verified("model") == found.folder / "model"


def test_the_store_is_ignored_by_git_and_keeps_no_scratch(store: Store) -> None:
    with store.lease(key("a"), on_wait=lambda text: None):
        publish(store, "a")
    assert (store.root / ".gitignore").read_text() == "*\n"
    assert list((store.root / "work").iterdir()) == []


def test_the_second_publisher_of_a_key_is_dropped(store: Store) -> None:
    first = publish(store, "a")
    inode = first.folder.stat().st_ino
    assert publish(store, "a").folder.stat().st_ino == inode
    assert [path.name for path in first.folder.parent.iterdir()] == [key("a")]


def test_a_bad_result_in_the_way_of_a_publisher_is_quarantined(store: Store, problems: list[str]) -> None:
    (publish(store, "a").folder / "report.json").write_bytes(b"cut")
    assert is_whole(publish(store, "a"), "a")
    assert len(problems) == 1
    assert (store.root / "quarantine" / f"{key('a')}-1" / "report.json").read_bytes() == b"cut"


def test_a_result_that_goes_while_it_is_looked_at_is_no_result(store: Store, problems: list[str]) -> None:
    class Removing(Disk):
        def files_below(self, folder: Path) -> dict[str, int | None]:
            super().remove(folder)
            return super().files_below(folder)

    publish(store, "a")
    assert Store(store.root, Removing(), problems.append).find(key("a")) is None
    assert problems == []


def test_a_key_that_is_not_the_fingerprint_of_its_json_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the fingerprint"):
        store.publish(key("a"), key_json("b"), tmp_path, {})


def test_a_result_that_depends_on_other_things_is_no_hit(store: Store, problems: list[str]) -> None:
    """As if two of them had the same digest."""
    publish(store, "a")
    assert store.find(key("a"), key_json("b")) is None
    assert "depends on other things" in problems[0]


@pytest.mark.parametrize("name", ["../../outside", "a" * 63, "A" * 64, ""])
def test_a_key_is_never_a_path(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        store.find(name)


def test_a_result_holds_no_links(store: Store) -> None:
    with store.workspace(key("a")) as folder:
        files = content(Disk(), folder, "a")
        (files / "link").symlink_to("/etc/passwd")
        with pytest.raises(StoreError, match="link cannot be published"):
            store.publish(key("a"), key_json("a"), files, ABOUT)
    assert store.find(key("a")) is None


def test_a_result_that_is_replaced_is_kept_aside(store: Store) -> None:
    publish(store, "a")
    store.set_aside(key("a"))
    assert store.find(key("a")) is None
    publish(store, "a")
    store.set_aside(key("a"))
    assert {path.name for path in (store.root / "replaced").iterdir()} == {f"{key('a')}-1", f"{key('a')}-2"}
    store.set_aside(key("a"))


def test_bytes_are_hashed_once_in_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    found = publish(store, "a")
    found.file("report.json")
    monkeypatch.setattr(Disk, "sha256", lambda self, path: pytest.fail("hashed again"))
    again = store.find(key("a"), key_json("a"))
    assert again is not None
    again.file("report.json")


# Figures and runs.


def test_a_figure_is_replaced_and_a_broken_one_is_none(store: Store, problems: list[str]) -> None:
    store.put_measurement(key("a"), "latency-x", {"ms": 1.5})
    store.put_measurement(key("a"), "latency-x", {"ms": 2.5})
    assert store.measurement(key("a"), "latency-x") == {"ms": 2.5}
    path = store.measurement_file(key("a"), "latency-x")
    path.write_bytes(path.read_bytes().replace(b"2.5", b"3.5"))
    assert store.measurement(key("a"), "latency-x") is None
    assert len(problems) == 1
    with pytest.raises(ValueError, match="cannot be the name"):
        store.put_measurement(key("a"), "../x", {})


def test_runs_are_listed_newest_first(store: Store) -> None:
    ids = [store.new_run(name).id for name in ("z", "a-b", "m")]
    assert store.runs() == ids[::-1]
    assert store.run(ids[0]).folder.is_dir()
    with pytest.raises(StoreError, match="has no run"):
        store.run("../artifacts")


def test_a_torn_line_in_the_log_costs_only_itself(store: Store) -> None:
    run = store.new_run("tiny")
    run.event("started", step="qat")
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "to')
    assert [event["event"] for event in run.events()] == ["started"]
    run.event("ended")
    assert [event["event"] for event in run.events()] == ["started", "ended"]


def test_a_ledger_comes_back_as_it_was(store: Store) -> None:
    run = store.new_run("tiny")
    with pytest.raises(StoreError, match="no ledger"):
        run.read_ledger()
    run.write_ledger(ledger("failed", run.id))
    run.write_ledger(ledger("done", run.id))
    assert store.run(run.id).read_ledger() == ledger("done", run.id)
    (run.folder / "ledger.json").write_text("{}")
    with pytest.raises(CorruptArtifact):
        run.read_ledger()


# Places where no store can be.


def test_a_file_in_the_place_of_the_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        publish(Store(tmp_path / "store"), "a")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        publish(Store(tmp_path / "store" / "below"), "a")
    assert (tmp_path / "store").read_text() == "mine"


def test_a_folder_of_other_things_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        Store(tmp_path).new_run("tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_of_another_format_is_refused(store: Store) -> None:
    store.prepare()
    (store.root / "store.json").write_text('{"store_format": 2}')
    with pytest.raises(StoreError, match="not of format 1"):
        Store(store.root).find(key("a"))


# Several processes.

SCRIPT = """
import sys
from pathlib import Path
from mcomp.store.store import Store
from tests.mcomp.store.example import is_whole, key, key_json, publish
assert "torch" not in sys.modules
store = Store(Path(sys.argv[1]))
"""


def process(store: Store, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT + code, str(store.root)]
    here = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_that_publish_one_key_at_once_all_succeed(store: Store) -> None:
    code = "print('ready', flush=True); input(); assert is_whole(publish(store, 'a'), 'a'); print('done')"
    workers = [process(store, code) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    assert [worker.communicate("go\n")[0] for worker in workers] == ["done\n"] * 3
    found = store.find(key("a"), key_json("a"))
    assert found is not None
    assert is_whole(found, "a")
    assert [path.name for path in found.folder.parent.iterdir()] == [key("a")]
    assert list((store.root / "quarantine").iterdir()) == []


def test_a_killed_holder_is_named_taken_over_and_cleaned_up_after(store: Store) -> None:
    code = """
with store.lease(key("a"), print), store.workspace(key("a")) as folder:
    (folder / "half").write_text("x")
    print("held", flush=True)
    input()
"""
    holder = process(store, code)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert len(list((store.root / "work").iterdir())) == 1
    waits: list[str] = []

    def kill(text: str) -> None:
        waits.append(text)
        holder.send_signal(signal.SIGKILL)
        holder.communicate()

    with store.lease(key("a"), on_wait=kill):
        assert list((store.root / "work").iterdir()) == []
    assert len(waits) == 1
    assert f"process {holder.pid} on " in waits[0]
    assert key("a")[:12] in waits[0]


def test_a_living_process_keeps_its_workspace(store: Store) -> None:
    with store.workspace(key("a")) as folder, store.lease(key("a"), on_wait=lambda text: None):
        assert folder.is_dir()
    assert not folder.exists()
