"""A session in a process of its own, for a runtime that cannot share one with what is loaded here.

The process is asked through its standard input and answers through its standard output: eight bytes with the
length, then arrays as .npz. What it asks or answers beside them stands in the array `said`, as JSON.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from mcomp.errors import StageError, printable
from mcomp.measure.runtime import Sizes, require_file, require_inputs

LENGTH = 8
SAID, PREFIX = "said", "array:"
# What a process must answer: what it takes, an output, or how long so many calls take.
Answer = tuple[dict[str, Any], dict[str, np.ndarray]]


class SessionElsewhere:
    """A file that another process has loaded. Raises StageError if that refuses it, or ends.

    `module` is that of the process: it calls `serve`. `title` is what people call the runtime.
    """

    def __init__(self, path: Path, title: str, module: str, threads: int) -> None:
        require_file(path)
        self.path, self.title = path, title
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(path), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._end = weakref.finalize(self, ended, self._process)
        takes, _ = self._answer("load")
        self.input_sizes: Mapping[str, Sizes] = {name: tuple(told[1:]) for name, told in takes.items()}
        self.input_types: Mapping[str, np.dtype[Any]] = {
            name: np.dtype(told[0]) for name, told in takes.items()
        }

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output for inputs by name. Raises StageError if they do not fit the file."""
        require_inputs(self, inputs)
        _, arrays = self._ask({"calls": 0}, inputs)
        return arrays["output"]

    def mean_seconds(self, inputs: Mapping[str, np.ndarray], num_calls: int) -> float:
        """Return the mean seconds of one call, by the clock of the process that makes them."""
        require_inputs(self, inputs)
        said, _ = self._ask({"calls": num_calls}, inputs)
        return float(said["seconds"])

    def _ask(self, said: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Answer:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # how it ended is told below
            write(self._process.stdin, said, arrays)
        return self._answer("run")

    def _answer(self, does: str) -> Answer:
        assert self._process.stdout is not None
        answer = read(self._process.stdout)
        if answer is None:
            raise died(self.title, f"{does} {self.path.name}", self._process.wait())
        said, arrays = answer
        if "error" in said:
            raise StageError(f"{self.title} cannot {does} {self.path.name}: {printable(str(said['error']))}")
        return said, arrays


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process that nobody asks any more."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def died(title: str, does: str, code: int) -> StageError:
    """Return the error for a process that ended before it answered."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    what = f"{title} ended with {how} in a process of its own, when it was to {does}"
    return StageError(f"{what}; run again, and if it stays so leave this export out")


def write(stream: IO[bytes], said: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write one message."""
    content, prefixed = io.BytesIO(), {f"{PREFIX}{name}": array for name, array in arrays.items()}
    np.savez(content, allow_pickle=False, **{SAID: np.array(json.dumps(dict(said)))}, **prefixed)
    stream.write(content.tell().to_bytes(LENGTH, "little") + content.getvalue())
    stream.flush()


def read(stream: IO[bytes]) -> Answer | None:
    """Return one message, None where there is none any more."""
    length = stream.read(LENGTH)
    content = stream.read(int.from_bytes(length, "little")) if len(length) == LENGTH else b""
    if not content:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        said = json.loads(str(arrays[SAID]))
        return said, {name.removeprefix(PREFIX): arrays[name] for name in arrays.files if name != SAID}


Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
Load = Callable[[Path, int], tuple[Mapping[str, Sequence[Any]], Run]]


def serve(load: Load) -> None:
    """Answer until nobody asks any more: the body of the other process.

    `load` returns what a file takes, as name: (type, sizes...), and what runs it. Whatever it prints goes to
    stderr.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks ends it
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        takes, run = load(Path(sys.argv[1]), int(sys.argv[2]))
    except Exception as error:  # a runtime raises what it likes
        write(answers, failure(error), {})
        os._exit(0)
    write(answers, takes, {})
    while (question := read(asked)) is not None:
        said, arrays = question
        try:
            write(answers, *answer(run, arrays, said["calls"]))
        except Exception as error:  # as above
            write(answers, failure(error), {})
    os._exit(0)  # the libraries of a runtime may not take each other down in order


def answer(run: Run, arrays: Mapping[str, np.ndarray], num_calls: int) -> Answer:
    """Return the output of one call, or how long a call takes over `num_calls`."""
    if not num_calls:
        return {}, {"output": run(arrays)}
    started = time.perf_counter()
    for _ in range(num_calls):
        run(arrays)
    return {"seconds": (time.perf_counter() - started) / num_calls}, {}


def failure(error: Exception) -> dict[str, str]:
    """Return what is answered for an error."""
    return {"error": str(error).strip() or type(error).__name__}
