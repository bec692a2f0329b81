"""Jobs that run in processes of their own are told to stop by signals, and waited for.

<outputs>/stopped            the sweep was stopped: a job that begins now does nothing
          <number>/at work   who runs the job, as long as it runs
          <number>/worked    who ran the job
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from mcomp.signals import handing_on, raising_once
from mcomp.store.lease import start_of

STOPPED, AT_WORK, WORKED = "stopped", "at work", "worked"
WATCH = "end of the sweep"
# What is left of the ten seconds is for the process that waits, and for the launcher.
PATIENCE_SECONDS = 8.0
LOOK_SECONDS = 1.0


@contextmanager
def at_work(folder: Path) -> Iterator[bool]:
    """Say, while the block runs, that this process runs the job of a folder; yield whether it should begin.

    The first signal raises Interrupted in the block.
    """
    note = folder / AT_WORK
    with raising_once():
        note.write_text(f"{socket.gethostname()} {os.getpid()} {start_of(os.getpid())}", encoding="utf-8")
        try:
            # Looked at after the note is written: who stops a sweep says so first and reads the notes then.
            yield not (folder.parent / STOPPED).exists()
        finally:
            note.replace(folder / WORKED)


def end_with(starter: int) -> None:
    """Let this process end with the one that runs the sweep, if that is its parent, also if nobody is told.

    The job that it runs hears of it as of a signal. Workers would outlive a sweep that is killed.
    """
    watched = {thread.name for thread in threading.enumerate()}
    if os.getppid() == starter and WATCH not in watched:
        threading.Thread(target=watch, args=(starter,), name=WATCH, daemon=True).start()


def watch(starter: int) -> None:
    """Wait for the end of the parent; then tell the job, and end this process."""
    while os.getppid() == starter:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_SECONDS)
    os._exit(128 + signal.SIGTERM)


@contextmanager
def waited_for(outputs: Path) -> Iterator[None]:
    """Let jobs run in the block: its first signal lets them keep what they have done and end.

    A second one kills them, and so does a first one if they take too long.
    """

    def tell(number: int) -> bool:
        with suppress(OSError):  # on a full disk those that have not begun yet begin
            outputs.mkdir(parents=True, exist_ok=True)
            (outputs / STOPPED).touch()
        heard = [worker.hears(number) for worker in others(outputs, AT_WORK)]
        return any(heard)

    try:
        with handing_on(tell, PATIENCE_SECONDS):
            yield
    except KeyboardInterrupt:
        # Nothing is left to do for them, and a process that has torch takes seconds to end by itself.
        for worker in [*others(outputs, AT_WORK), *others(outputs, WORKED)]:
            worker.hears(signal.SIGKILL)
        raise


class Worker(NamedTuple):
    """A process of this machine that runs jobs; `start` as in `mcomp.store.lease.start_of`."""

    pid: int
    start: int

    def hears(self, number: int) -> bool:
        """Send it a signal and return whether it was there: it, and not another that was given its number."""
        try:
            if start_of(self.pid) == self.start:
                os.kill(self.pid, number)
                return True
        except ProcessLookupError:
            pass
        return False


def others(outputs: Path, name: str) -> Iterator[Worker]:
    """Yield the processes of this machine, beside this one, that notes of a name are of."""
    for note in outputs.glob(f"*/{name}"):
        with suppress(OSError, ValueError):
            host, pid, start = note.read_text(encoding="utf-8").split()
            if host == socket.gethostname() and int(pid) != os.getpid():
                yield Worker(int(pid), int(start))
