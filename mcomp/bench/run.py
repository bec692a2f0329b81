"""Time files in turns, in every runtime that serves them, and say how sure the figures are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mcomp import plainfile
from mcomp.bench.inputs import inputs_for, takes_batch
from mcomp.bench.memory import peak_memory_bytes
from mcomp.bench.record import Bench, BenchedFile, Layer, Timing
from mcomp.errors import RecipeError, StageError
from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.machine import machine
from mcomp.measure.runtime import Runtime, find_runtime, runtime_of
from mcomp.measure.slowness import explain_slow

LONGEST = 12  # operators that a profile lists


@dataclass(frozen=True)
class Setting:
    """What is timed: in which runtimes, with so many threads, at these batch sizes, over so many rounds.

    `length`: of free sizes other than the batch. `max_spread`: above it a figure is refused.
    """

    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    batch_sizes: tuple[int, ...] = (1,)
    rounds: int = 30
    length: int = 32
    max_spread: float = 0.3
    profile: bool = False


def bench(paths: Sequence[Path], setting: Setting, log: Callable[[str], None]) -> Bench:
    """Return the figures of files, of which the first is what the others are compared with.

    Raises RecipeError for a file that none of the runtimes serves, StageError if one is refused, or if a
    figure is spread too far to be told.
    """
    served = runtimes_of(paths, setting.runtimes)
    timings = [
        timing
        for threads in setting.threads
        for batch_size in setting.batch_sizes
        for timing in timed(served, threads, batch_size, setting, log)
    ]
    require_sure(timings, setting.max_spread)
    files = [benched(path, runtime, paths[0], timings, setting) for path, runtime in served]
    return Bench(machine=machine(), files=tuple(files), timings=tuple(timings))


def runtimes_of(paths: Sequence[Path], wanted: Sequence[str]) -> list[tuple[Path, Runtime]]:
    """Return each file with what serves it. Raises RecipeError for one that none of `wanted` serves."""
    served = []
    for path in paths:
        if not path.is_file():
            raise RecipeError(f"there is no file {path}")
        name = runtime_of(path)
        if wanted and name not in wanted:
            raise RecipeError(f"{path} is served by {name}, which is none of --runtime {','.join(wanted)}")
        served.append((path, find_runtime(name)))
    names = [path.name for path in paths]
    twice = next((path for path in paths if names.count(path.name) > 1), None)
    if twice is not None:
        raise RecipeError(f"two files are called {twice.name}: rename one, figures are told by their names")
    return served


def timed(
    served: Sequence[tuple[Path, Runtime]],
    threads: int,
    batch_size: int,
    setting: Setting,
    log: Callable[[str], None],
) -> list[Timing]:
    """Return the timings of all files that take a batch size, taken in turns."""
    sessions = {path.name: runtime.load(path, threads) for path, runtime in served}
    for name in [name for name, session in sessions.items() if not takes_batch(session, batch_size)]:
        log(f"{name} takes no batches of {batch_size}: left out")
        del sessions[name]
    if not sessions:
        return []
    log(f"{len(sessions)} files in turns: {threads} threads, batch {batch_size}")
    first = next(iter(sessions.values()))
    inputs = inputs_for(first, batch_size, setting.length)
    turns = interleaved(sessions, inputs, setting.rounds)
    reference = served[0][0].name
    return [
        Timing(
            file=path.name,
            runtime=runtime.name,
            threads=threads,
            batch_size=batch_size,
            latency=latency(turns[path.name]),
            speedup=speedup(turns[reference], turns[path.name]) if reference in turns else None,
        )
        for path, runtime in served
        if path.name in turns
    ]


def require_sure(timings: Sequence[Timing], max_spread: float) -> None:
    """Raise StageError, with what to do, if the turns of a file differ too much."""
    worst = max(timings, key=lambda timing: timing.spread, default=None)
    if worst is None:
        raise StageError("no file takes any of the batch sizes")
    if worst.spread > max_spread:
        raise StageError(
            f"the turns of {worst.file} at batch {worst.batch_size} spread by {worst.spread:.0%} of their "
            f"median, and {max_spread:.0%} is the most that a figure may: something else runs on this "
            "machine. Stop it, use fewer threads than there are cores, or take more --rounds; "
            "--max-spread accepts more"
        )


def benched(
    path: Path, runtime: Runtime, reference: Path, timings: Sequence[Timing], setting: Setting
) -> BenchedFile:
    """Return what is known of one file beside its timings."""
    threads = setting.threads[0]
    slower = any(each.file == path.name and (each.speedup or 1) < 1 for each in timings)
    causes = slower_because(path, reference, runtime, threads) if slower else ()
    beside = [each for each in runtime.beside(path) if each.is_file()]
    return BenchedFile(
        file=path.name,
        sha256=plainfile.sha256(path),
        size_bytes=sum(each.stat().st_size for each in (path, *beside)),
        peak_memory_bytes={
            str(size): peak_memory_bytes(path, runtime.name, threads, size, setting.length)
            for size in setting.batch_sizes
        },
        slower_because=causes,
        layers=layers(path, runtime, setting) if setting.profile else (),
    )


def layers(path: Path, runtime: Runtime, setting: Setting) -> tuple[Layer, ...]:
    """Return the operators of a file that take longest, at the first setting."""
    threads, batch_size = setting.threads[0], setting.batch_sizes[0]
    inputs = inputs_for(runtime.load(path, threads), batch_size, setting.length)
    return tuple(Layer(**asdict(each)) for each in runtime.profile(path, inputs, threads)[:LONGEST])


def slower_because(path: Path, reference: Path, runtime: Runtime, threads: int) -> tuple[str, ...]:
    """Return why a file is slower than the first, if both are served by one runtime that tells."""
    if runtime_of(reference) != runtime.name:
        return ()
    with TemporaryDirectory() as scratch:
        here, there = (runtime.census(each, Path(scratch), threads) for each in (path, reference))
    if here is None or there is None:
        return ()
    return explain_slow(here, there, machine()["instructions"].split())
