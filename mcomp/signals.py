"""SIGINT and SIGTERM: what is half done is finished, or taken back, before they end anything.

A command runs under `raising`: the first signal raises Interrupted wherever the program is, a second one ends
the process at once. What must not be cut in the middle runs under `deferred`, also where no command is
involved and Python's own KeyboardInterrupt is what a signal raises.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], Any]

# Signals that came while a command ran.
came: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to stop: `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raising() -> Iterator[None]:
    """Let the first signal raise Interrupted while the block runs, and a second one end the process.

    Afterwards the former handlers are back. Signals that are ignored stay ignored. Outside of the main
    thread, which no signal reaches, this does nothing.
    """
    former = handlers()
    install(dict.fromkeys(former, interrupt))
    try:
        yield
    finally:
        came.clear()
        install(former)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted; the next signal is the system's to handle, also within a call that never returns."""
    came.append(number)
    install(dict.fromkeys(handlers(), signal.SIG_DFL))
    raise Interrupted(number)


def raise_if_interrupted() -> None:
    """Raise Interrupted again if a signal came and the program still runs.

    Python drops what is raised inside a finalizer or the callback of a weak reference, and so do libraries
    that catch everything.
    """
    if came:
        raise Interrupted(came[0])


@contextmanager
def deferred() -> Iterator[None]:
    """Let a signal wait until the block has ended; a second one does not wait.

    Signals that Python does not handle, because they are ignored or end the process, are left alone.
    """
    waiting = Waiting({number: each for number, each in handlers().items() if callable(each)})
    if any(isinstance(each, Waiting) for each in waiting.former.values()):
        yield  # an outer block waits already
        return
    install(dict.fromkeys(waiting.former, waiting))
    try:
        yield
    finally:
        install(waiting.former)
        if waiting.number is not None:
            waiting.former[waiting.number](waiting.number, None)


class Waiting:
    """A handler that remembers the first signal, and hands the second to the handler it stands for."""

    def __init__(self, former: dict[int, Handler]) -> None:
        self.former = former
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self.former[number](number, frame)
        self.number = number


def handlers() -> dict[int, Any]:
    """Return the handlers of this thread's signals, without those that are ignored or not Python's to set."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: each for number, each in found.items() if each not in (signal.SIG_IGN, None)}


def install(handlers: Mapping[int, Any]) -> None:
    """Set the handler of each signal."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
