"""SIGINT and SIGTERM: what is half done is finished, or taken back, before they end anything.

A command runs under `raising`: the first signal raises Interrupted wherever the program is, a second one ends
the process at once. What must not be cut in the middle runs under `deferred`, also where no command is
involved and Python's own KeyboardInterrupt is what a signal raises.

A command that lets other processes work waits for them under `handing_on`; they work under `raising_once`.
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


@contextmanager
def raising_once() -> Iterator[None]:
    """Let the first signal raise Interrupted while the block runs; all others, also after it, do nothing.

    For a process that another one started: a terminal sends a signal to both, the other hands on its own, and
    ends this one when it has to be at once. Signals that are ignored stay ignored.
    """
    install(dict.fromkeys(handlers(), interrupt_once))
    try:
        yield
    finally:
        came.clear()
        install(dict.fromkeys(handlers(), ignore))


def interrupt_once(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted; later signals do nothing."""
    came.append(number)
    install(dict.fromkeys(handlers(), ignore))
    raise Interrupted(number)


def ignore(number: int, frame: FrameType | None) -> None:
    """Nothing."""


def raise_if_interrupted() -> None:
    """Raise Interrupted again if a signal came and the program still runs: asked before each unit of work.

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
        if self.number is None:
            self.number = number
        elif self.former[number] is not interrupt_once:
            self.former[number](number, frame)


@contextmanager
def handing_on(to: Callable[[int], bool], patience_seconds: float) -> Iterator[None]:
    """Hand the signals of this block on: `to` gets SIGTERM for the first, and SIGKILL for a second.

    It returns whether somebody was told who is to be waited for. If so, the first signal means what it meant
    before only when the block ends, but after `patience_seconds` at the latest; if not, it does at once.
    """
    handing = HandingOn(
        {number: each for number, each in handlers().items() if callable(each)}, to, patience_seconds
    )
    install(dict.fromkeys(handing.former, handing))
    try:
        yield
    finally:
        handing.stop_the_clock()
        if not handing.has_raised:
            install(handing.former)
            if handing.number is not None:
                handing.former[handing.number](handing.number, None)


class HandingOn:
    """A handler that has others stop, and waits for them."""

    def __init__(
        self, former: dict[int, Handler], to: Callable[[int], bool], patience_seconds: float
    ) -> None:
        self.former, self.to, self.patience_seconds = former, to, patience_seconds
        self.number: int | None = None
        self.former_alarm: Any = None
        self.has_raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        is_first = self.number is None
        if is_first:
            self.number = number
        is_told = self.to(signal.SIGTERM if is_first else signal.SIGKILL)
        if is_first and is_told:
            self.former_alarm = signal.signal(signal.SIGALRM, self.raise_now)
            signal.setitimer(signal.ITIMER_REAL, self.patience_seconds)
        else:
            self.raise_now(number, frame)

    def raise_now(self, number: int, frame: FrameType | None) -> None:
        """Let the first signal mean what it meant before."""
        assert self.number is not None
        self.stop_the_clock()
        install(self.former)
        self.has_raised = True
        self.former[self.number](self.number, frame)

    def stop_the_clock(self) -> None:
        """Wait no longer."""
        if self.former_alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.former_alarm)
            self.former_alarm = None


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
