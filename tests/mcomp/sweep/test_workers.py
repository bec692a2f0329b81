"""Who runs a job says so, and is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcomp.store.lease import start_of
from mcomp.sweep import workers
from mcomp.sweep.workers import AT_WORK, STOPPED, WORKED, at_work, others, waited_for

JOB = """
import time
from pathlib import Path
from mcomp.sweep.workers import at_work
try:
    with at_work(Path("7")):
        print("at work", flush=True)
        time.sleep(60)
finally:
    time.sleep({seconds})
    Path("kept").touch()
"""


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    former = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "7").mkdir()
    return tmp_path / "7"


@contextmanager
def worker(outputs: Path, seconds: float = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that runs job 7, and takes some time to end."""
    command = [sys.executable, "-c", JOB.format(seconds=seconds)]
    with subprocess.Popen(
        command, cwd=outputs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        yield process
        process.kill()


def test_a_job_says_who_runs_it_as_long_as_it_runs(folder: Path) -> None:
    with at_work(folder) as may_begin:
        assert may_begin
        note = (folder / AT_WORK).read_text()
        assert note.split()[1:] == [str(os.getpid()), str(start_of(os.getpid()))]
        assert not (folder / WORKED).exists()
    assert not (folder / AT_WORK).exists()
    assert (folder / WORKED).read_text() == note


def test_a_job_of_a_sweep_that_was_stopped_does_not_begin(folder: Path) -> None:
    (folder.parent / STOPPED).touch()
    with at_work(folder) as may_begin:
        assert not may_begin


def test_only_other_living_processes_of_this_machine_hear(folder: Path) -> None:
    host = workers.socket.gethostname()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    notes = {
        "this process": f"{host} {os.getpid()} {start_of(os.getpid())}",
        "a dead one": f"{host} {2**22 + 1} 7",
        "one with the number of a dead one": f"{host} {child.pid} {start_of(child.pid) - 1}",
        "one elsewhere": f"not-{host} {child.pid} {start_of(child.pid)}",
        "a torn note": f"{host} {child.pid}",
        "the one": f"{host} {child.pid} {start_of(child.pid)}",
    }
    for name, note in notes.items():
        (folder.parent / name).mkdir()
        (folder.parent / name / AT_WORK).write_text(note)
    assert [each.pid for each in others(folder.parent, AT_WORK) if each.hears(0)] == [child.pid]
    child.communicate()


def test_a_sweep_that_is_stopped_waits_for_its_workers(folder: Path) -> None:
    with worker(folder.parent) as process:

        def sweep() -> None:
            with waited_for(folder.parent):
                signal.raise_signal(signal.SIGINT)
                assert process.wait(timeout=20) != 0
                assert (folder.parent / "kept").exists()

        with pytest.raises(KeyboardInterrupt):
            sweep()
    assert (folder.parent / STOPPED).exists()
    assert [path.name for path in folder.iterdir()] == [WORKED]


def test_a_sweep_that_is_stopped_twice_kills_its_workers(folder: Path) -> None:
    def sweep() -> None:
        with waited_for(folder.parent):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("not raised")

    with worker(folder.parent, seconds=60) as process:
        with pytest.raises(KeyboardInterrupt):
            sweep()
        assert process.wait(timeout=20) == -signal.SIGKILL


def test_a_worker_that_takes_too_long_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 0.1)
    with worker(folder.parent, seconds=60) as process:

        def sweep() -> None:
            with waited_for(folder.parent):
                signal.raise_signal(signal.SIGINT)
                process.wait(timeout=20)

        with pytest.raises(KeyboardInterrupt):
            sweep()


def test_a_worker_that_has_ended_its_job_is_ended_with_the_sweep(folder: Path) -> None:
    with worker(folder.parent) as process:
        (folder / AT_WORK).rename(folder / WORKED)

        def sweep() -> None:
            with waited_for(folder.parent):
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            sweep()
        assert process.wait(timeout=20) == -signal.SIGKILL


def test_workers_of_a_sweep_that_was_not_stopped_are_left_alone(folder: Path) -> None:
    with worker(folder.parent) as process:
        with waited_for(folder.parent):
            pass
        assert process.poll() is None


STARTER = """
import subprocess
import sys

worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(worker.pid, flush=True)
worker.wait()
"""
WATCHING = """
import os
import time
from pathlib import Path
from mcomp.sweep import workers

workers.LOOK_SECONDS, workers.PATIENCE_SECONDS = 0.05, {patience}
workers.end_with(os.getppid())
try:
    with workers.at_work(Path("7")):
        Path("begun").touch()
        time.sleep(60)
except KeyboardInterrupt:
    Path("kept").touch()
time.sleep(60)
"""


def test_a_worker_keeps_what_it_has_and_ends_when_the_sweep_is_killed(folder: Path) -> None:
    worker = WATCHING.format(patience=0.5)
    command = [sys.executable, "-c", STARTER, worker]
    with subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        wait_until((folder.parent / "begun").exists)
        starter.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert (folder.parent / "kept").exists()


def test_a_process_that_another_one_started_is_not_watched(folder: Path) -> None:
    before = threading.active_count()
    workers.end_with(os.getpid())
    assert threading.active_count() == before


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
