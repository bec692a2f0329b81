"""Work of many small steps within one unit: where it stands is kept now and then, and when it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from mcomp.signals import deferred, raise_if_interrupted
from mcomp.stage import Checkpoint, Checkpoints

EVERY_SECONDS = 30.0


class Process(Protocol):
    """Work in steps. Between two of them it can be written down, and gone on with by a fresh one."""

    def advance(self, number: int) -> None:
        """Do step `number`, counted from 0."""
        ...

    def state(self) -> Checkpoint:
        """Return all that the next steps depend on."""
        ...

    def restore(self, state: Checkpoint, num_done: int) -> None:
        """Bring a fresh process to a state that was written down after `num_done` steps."""
        ...


Steps = Callable[[str, int, Process], None]
"""`Context.steps`: keeps how far a process is if the step is interrupted."""


def in_turn(label: str, num_steps: int, process: Process) -> None:
    """Do all steps of a process; nothing is kept of how far it is."""
    for number in range(num_steps):
        raise_if_interrupted()
        process.advance(number)


class Progress:
    """One process and what is kept of it under a label."""

    def __init__(self, process: Process, checkpoints: Checkpoints, label: str) -> None:
        self.process, self.checkpoints, self.label = process, checkpoints, label
        self.num_done, self.is_whole = 0, True
        found = checkpoints.load(label)
        if found is not None:
            self.num_done = int(found.numbers["num_done"])
            process.restore(Checkpoint(found.tensors, found.numbers["state"]), self.num_done)
        self.num_kept, self.kept_at = self.num_done, time.monotonic()

    def advance_to(self, num_steps: int) -> None:
        """Do the steps that are left. A signal waits until the step that it came in has ended."""
        try:
            while self.num_done < num_steps:
                raise_if_interrupted()
                self.advance()
                if time.monotonic() - self.kept_at >= EVERY_SECONDS:
                    self.keep()
        except KeyboardInterrupt:
            if self.is_whole:  # a second signal does not wait
                self.keep()
            raise

    @deferred()
    def advance(self) -> None:
        """Do one step."""
        self.is_whole = False
        self.process.advance(self.num_done)
        self.num_done += 1
        self.is_whole = True

    def keep(self) -> None:
        """Write down where the process stands, unless that was done."""
        if self.num_done > self.num_kept:
            state = self.process.state()
            numbers = {"num_done": self.num_done, "state": dict(state.numbers)}
            self.checkpoints.save(self.label, Checkpoint(state.tensors, numbers))
            self.num_kept, self.kept_at = self.num_done, time.monotonic()
