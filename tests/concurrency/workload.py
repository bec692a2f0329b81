"""Many processes at work in one store: what runs do to it, without torch, and sleeping in place of training.

    python -m tests.concurrency.workload <name> <store> <seed>

prints one JSON object of figures. What is wrong raises.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mcomp.fingerprint import fingerprint
from mcomp.store.artifact import Artifact
from mcomp.store.clean import Rules, removals, remove
from mcomp.store.records import records
from mcomp.store.store import Store
from tests.mcomp.store.example import is_whole, key, key_json, publish

FORK = get_context("fork")
PATIENCE_SECONDS = 60
Figures = dict[str, Any]


def fail(message: str) -> None:
    raise AssertionError(message)


def opened(root: Path) -> Store:
    return Store(root, on_problem=fail)


def together(workers: Sequence[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    """Run functions in processes of their own, all at once. Raises if one of them raised."""
    processes = [
        FORK.Process(target=function, args=arguments, daemon=True) for function, arguments in workers
    ]
    for process in processes:
        process.start()
    while alive := [process.sentinel for process in processes if process.is_alive()]:
        wait(alive, PATIENCE_SECONDS)
        assert not any(process.exitcode for process in processes), "a process failed"
    assert [process.exitcode for process in processes] == [0] * len(processes)


# Sixteen writers of one key


NUM_WRITERS, NUM_ROUNDS = 16, 50


def writers(root: Path, seed: int) -> Figures:
    """Sixteen processes publish the same key at the same moment, fifty times over."""
    opened(root).prepare()
    barrier = FORK.Barrier(NUM_WRITERS)
    together([(write, (root, barrier))] * NUM_WRITERS)
    store = opened(root)
    whole = [is_whole_result(store, f"round {number}") for number in range(NUM_ROUNDS)]
    names = [path.name for path in root.glob("artifacts/*/*")]
    return {"whole": sum(whole), "names": len(names), "left": left(root)}


def write(root: Path, barrier: Any) -> None:
    store = opened(root)
    for number in range(NUM_ROUNDS):
        barrier.wait(PATIENCE_SECONDS)
        assert is_whole(publish(store, f"round {number}"), f"round {number}")


def is_whole_result(store: Store, name: str) -> bool:
    found = store.find(key(name), key_json(name))
    return found is not None and is_whole(found, name)


def left(root: Path) -> list[str]:
    """Return what is unfinished, or was set aside."""
    found = [*root.glob("work/*"), *root.glob("quarantine/*")]
    found += [path for path in root.glob("artifacts/*/*") if len(path.name) != 64]
    return [str(path.relative_to(root)) for path in found]


# Readers while results are published


NUM_RESULTS = 60


def readers(root: Path, seed: int) -> Figures:
    """Three processes look all the time for results that a fourth publishes."""
    opened(root).prepare()
    together([(publish_all, (root,)), *[(look, (root,))] * 3])
    return {"looks": sum(int(path.read_text()) for path in root.parent.glob("looks-*")), "left": left(root)}


def publish_all(root: Path) -> None:
    store = opened(root)
    for number in range(NUM_RESULTS):
        publish(store, f"result {number}")


def look(root: Path) -> None:
    """Look for each result until it is there: it is never there in part."""
    store, looks = opened(root), 0
    for number in range(NUM_RESULTS):
        while not is_whole_or_absent(store, f"result {number}"):
            looks += 1
    (root.parent / f"looks-{os.getpid()}").write_text(str(looks))


def is_whole_or_absent(store: Store, name: str) -> bool:
    found = store.find(key(name), key_json(name))
    assert found is None or is_whole(found, name)
    return found is not None


# Cleaning while runs go on


NUM_RUNS, NUM_RUNNERS = 25, 2


def cleaners(root: Path, seed: int) -> Figures:
    """Runs that need the same three results begin and end; two processes remove all that no run needs."""
    opened(root).prepare()
    runners = [(run_often, (root, number)) for number in range(NUM_RUNNERS)]
    together([*runners, *[(clean_until_done, (root,))] * 2])
    counts = [json.loads(path.read_text()) for path in root.parent.glob("counts-*")]
    figures = {name: sum(count.get(name, 0) for count in counts) for name in ("runs", "made", "removed")}
    clean_all(opened(root))
    return {**figures, "left": left(root), "results": len(list(root.glob("artifacts/*/*")))}


def run_often(root: Path, runner: int) -> None:
    store = Store(root, on_problem=lambda message: None)
    counts = {"runs": 0, "made": 0}
    for _ in range(NUM_RUNS):
        time.sleep(0.01)  # so that now and then no run needs anything
        run_once(store, [f"shared {number}" for number in range(3)], f"runner{runner}", counts)
    (root.parent / f"counts-{runner}").write_text(json.dumps(counts))


def run_once(store: Store, names: list[str], recipe: str, counts: dict[str, int]) -> None:
    """Do what a scheduler does: say what is needed, find or make it, read it. From then on nothing goes."""
    run = store.new_run(recipe)
    with run.under_way([key(name) for name in names]):
        for name in names:
            counts["made"] += found_or_made(store, name)
        for name in names:
            assert is_whole_result(store, name)
    counts["runs"] += 1


def found_or_made(store: Store, name: str) -> int:
    if store.find(key(name), key_json(name)) is not None:
        return 0
    with store.lease(key(name), lambda text: None):
        if store.find(key(name), key_json(name)) is None:
            publish(store, name)
            return 1
    return 0


def clean_until_done(root: Path) -> None:
    store, removed = Store(root, on_problem=lambda message: None), 0
    while len(list(root.parent.glob("counts-[0-9]"))) < NUM_RUNNERS:
        removed += clean_all(store)
    (root.parent / f"counts-clean-{os.getpid()}").write_text(json.dumps({"removed": removed}))


def clean_all(store: Store) -> int:
    """Remove everything that no run under way needs; return how much it was."""
    known = records(store)
    going = removals(store, Rules(keep_runs=0), known, datetime.now(UTC))
    return sum(remove(store, each, known) == "" for each in going)


# Jobs that share work, some of them killed


NUM_JOBS, NUM_SHARED, NUM_KILLS, NUM_UNITS = 32, 4, 3, 10
UNIT_SECONDS = 0.02


def jobs(root: Path, seed: int) -> Figures:
    """Thirty-two jobs rest on four shared steps; three are killed at random and started again."""
    opened(root).prepare()
    chance = random.Random(seed)
    start, end = FORK.Event(), FORK.Event()
    arguments = [(root, number, start, end) for number in range(NUM_JOBS)]
    processes = [FORK.Process(target=job_between, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    start.set()
    killed = kill_some(processes, chance)
    end.set()
    for process in processes:
        process.join(PATIENCE_SECONDS)
    failed = [number for number, process in enumerate(processes) if process.exitcode]
    assert set(failed) == killed, failed
    together([(job, (root, number)) for number in failed])
    clean_left_behind(opened(root))
    return {**judged(root), "killed": len(failed)}


def kill_some(processes: list[Any], chance: random.Random) -> set[int]:
    """Kill processes at random moments, about as long as the shared steps take; return which."""
    killed = chance.sample(range(len(processes)), NUM_KILLS)
    for number in killed:
        time.sleep(chance.uniform(0.0, NUM_UNITS * UNIT_SECONDS / 2))
        processes[number].kill()
    return set(killed)


def judged(root: Path) -> Figures:
    """Return how many jobs have the right result, and how much shared work was done for it."""
    store = opened(root)
    right = [store.find(fingerprint(job_key(number)), job_key(number)) for number in range(NUM_JOBS)]
    done = (root.parent / "units").read_text().split()
    return {
        "right": sum(is_right(each, number) for number, each in enumerate(right)),
        "units": len(done),
        "of": NUM_SHARED * NUM_UNITS,
        "published": len(list(root.glob("artifacts/*/*"))),
        "left": left(root),
    }


def clean_left_behind(store: Store) -> None:
    known = records(store)
    for each in removals(store, Rules(), known, datetime.now(UTC)):
        if each.kind == "left behind":
            remove(store, each, known)


def shared_key(number: int) -> dict[str, Any]:
    return {"shared": number}


def job_key(number: int) -> dict[str, Any]:
    return {"job": number, "source": fingerprint(shared_key(number % NUM_SHARED))}


def job_between(root: Path, number: int, start: Any, end: Any) -> None:
    """Do a job; live until all that are to be killed are."""
    start.wait(PATIENCE_SECONDS)
    job(root, number)
    end.wait(PATIENCE_SECONDS)


def job(root: Path, number: int) -> None:
    """Do a shared step, or wait for who does it, and then a step of its own that rests on it."""
    store = opened(root)
    shared = step(store, shared_key(number % NUM_SHARED), lambda: units(root, store, number % NUM_SHARED))
    value = json.loads(shared.file("report.json").read_bytes())
    step(store, job_key(number), lambda: {"job": number, "of": value})


def step(store: Store, step_key: dict[str, Any], compute: Callable[[], Figures]) -> Artifact:
    name = fingerprint(step_key)
    artifact = store.find(name, step_key)
    if artifact is not None:
        return artifact
    with store.lease(name, on_wait=lambda text: None):
        artifact = store.find(name, step_key)
        if artifact is not None:
            return artifact
        with store.workspace(name) as folder:
            value = compute()
            (folder / "content").mkdir()
            (folder / "content" / "report.json").write_text(json.dumps(value))
            artifact = store.publish(name, step_key, folder / "content", {})
        store.remove_checkpoints(name)
        return artifact


def units(root: Path, store: Store, shared: int) -> Figures:
    """Do the units of a shared step that no job did before it was killed, and keep each."""
    folder = store.checkpoints_folder(fingerprint(shared_key(shared)))
    folder.mkdir(exist_ok=True)
    kept = folder / "units.json"
    done = json.loads(kept.read_bytes()) if kept.exists() else []
    while len(done) < NUM_UNITS:
        time.sleep(UNIT_SECONDS)
        store.disk.append(root.parent / "units", f"{shared}/{len(done)}\n".encode())
        done.append(len(done) * (shared + 1))
        store.disk.put(kept, json.dumps(done).encode(), folder / "units.json.new")
    return {"units": done}


def is_right(artifact: Artifact | None, number: int) -> bool:
    of = {"units": [unit * (number % NUM_SHARED + 1) for unit in range(NUM_UNITS)]}
    return artifact is not None and json.loads(artifact.file("report.json").read_bytes()) == {
        "job": number,
        "of": of,
    }


WORKLOADS: dict[str, Callable[[Path, int], Figures]] = {
    each.__name__: each for each in (writers, readers, cleaners, jobs)
}

if __name__ == "__main__":
    assert "torch" not in sys.modules
    print(json.dumps(WORKLOADS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
