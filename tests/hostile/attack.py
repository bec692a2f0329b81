"""One attack, and what came of it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcomp.cli import ended
from mcomp.measure.memory import high_water_mark_bytes, reset_peak
from tests.hostile.watch import Tripwire, Watch

SECONDS, MEGABYTES = 0.1, 100.0
TRIES = 3  # a busy machine makes anything slow once

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Attack:
    """What lies in an empty folder, what a person does with it, and how that must end.

    `source` is a key of `tests.hostile.sources`. `act` is handed the folder, and returns an exit code or
    raises; `error` is the class of what it raises. `writes`: whether mcomp may write in the folder.
    `seconds` and `megabytes` are the most it may take.
    """

    source: str
    prepare: Prepare
    act: Callable[[Path], object]
    told: str
    code: int = 2
    error: str = ""
    writes: bool = False
    seconds: float = SECONDS
    megabytes: float = MEGABYTES


def command(*arguments: str) -> Callable[[Path], object]:
    """Return what runs `mcomp` in the folder."""
    from mcomp.cli import cli

    return lambda folder: cli.main(list(arguments), prog_name="mcomp", standalone_mode=False)


def files(contents: Mapping[str, str | bytes]) -> Prepare:
    """Return what writes files by relative name."""

    def write(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def link(name: str, target: str) -> Prepare:
    """Return what makes a symbolic link."""
    return lambda folder: (folder / name).symlink_to(target)


def pipe(name: str) -> Prepare:
    """Return what makes a pipe that nobody writes to."""
    return lambda folder: os.mkfifo(folder / name)


def hole(name: str, size_bytes: int = 2**40) -> Prepare:
    """Return what makes a file that is a hole of this size and takes no room."""

    def make(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(size_bytes)

    return make


def both(*steps: Prepare) -> Prepare:
    """Return what does one after the other."""
    return lambda folder: [step(folder) for step in steps]


def attacked(attack: Attack, root: Path, watch: Watch, tripwire: Tripwire) -> dict[str, Any]:
    """Attack in a new folder below `root` and return what happened; figures are the best of a few tries."""
    results = []
    for number in range(TRIES):
        folder = root / f"{number}"
        folder.mkdir(parents=True)
        attack.prepare(folder)
        results.append(tried(attack, folder, watch, tripwire))
        if results[-1]["seconds"] < attack.seconds / 2:
            break
    os.chdir(root.parent)
    shutil.rmtree(root)
    figures = {name: min(result[name] for result in results) for name in ("seconds", "megabytes")}
    return {**results[0], **figures}


def tried(attack: Attack, folder: Path, watch: Watch, tripwire: Tripwire) -> dict[str, Any]:
    """Attack once. Seconds are of the processor, megabytes what the process grew by at most."""
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    raised: list[str] = []
    tripwire.seen()
    reset_peak()
    before, start = high_water_mark_bytes(), time.process_time()
    with printed() as output, watched(attack, folder, watch):
        code = ended(lambda: noted(attack, folder, raised))
    seconds, grown = time.process_time() - start, high_water_mark_bytes() - before
    return {
        "code": code,
        "error": raised[0] if raised else "",
        "printed": output.getvalue(),
        "seconds": seconds,
        "megabytes": grown / 2**20,
        "seen": [*watch.seen, *tripwire.seen()],
        "evil": "evil" in sys.modules or is_marked(folder),
    }


def is_marked(folder: Path) -> bool:
    """Return whether something ran that leaves a mark: in the folder, above it, or in the files outside."""
    root = folder.parents[1]
    return any((*folder.rglob("pwned*"), *root.glob("pwned*"), *root.glob("*/pwned*")))


def noted(attack: Attack, folder: Path, raised: list[str]) -> object:
    """Do what the person does, and note what that raises."""
    try:
        return attack.act(folder)
    except BaseException as error:
        raised.append(type(error).__name__)
        raise


@contextlib.contextmanager
def printed() -> Iterator[io.StringIO]:
    """Catch everything that is printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output


@contextlib.contextmanager
def watched(attack: Attack, folder: Path, watch: Watch) -> Iterator[None]:
    """Watch the block."""
    watch.folder, watch.writes, watch.seen = folder, attack.writes, []
    try:
        yield
    finally:
        watch.folder = None


def named(kind: str, attacks: Mapping[str, Attack]) -> dict[str, Attack]:
    """Return attacks by kind and name."""
    return {f"{kind}: {name}": attack for name, attack in attacks.items()}


def each_of(make: Callable[[str], Attack], names: Sequence[str]) -> dict[str, Attack]:
    """Return an attack for each of several names."""
    return {name: make(name) for name in names}
