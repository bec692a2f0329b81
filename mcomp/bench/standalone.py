"""Time ONNX files in turns on a device that has Python, numpy and onnxruntime, and nothing else.

    python bench.py

Reads `settings.json` beside it, prints the figures as JSON and writes them to `figures.json`. On the machine
with the recipe: mcomp bench figures.json --require RECIPE
"""

import hashlib
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

TURN_SECONDS = 0.010
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
FAST = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
EXACT = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def processor():
    """Return the processor's name and its instruction sets, as far as the system says."""
    fields = {}
    if os.path.isfile("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                fields.setdefault(name.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name") or platform.processor() or "unknown", flags


def machine():
    """Return where the figures are taken, in words."""
    cpu, flags = processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "cpu": cpu,
        "cores": str(cores),
        "instructions": " ".join(name for name in FAST if name in flags),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
    }


def session(path, threads, wide_sums):
    """Return a session as mcomp makes it: all optimisations, sums of bytes that do not overflow."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if wide_sums and not set(EXACT) & set(processor()[1]):
        options.add_session_config_entry("session.x64quantprecision", "1")
    if threads > 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_for(loaded, batch_size, length):
    """Return random floats, and integers that are all 1."""
    draw, inputs = np.random.default_rng(0), {}
    for node in loaded.get_inputs():
        free = [batch_size if axis == 0 else length for axis in range(len(node.shape))]
        shape = [size if isinstance(size, int) else free[axis] for axis, size in enumerate(node.shape)]
        kind = TYPES.get(node.type, node.type[len("tensor(") : -1])
        whole = not np.issubdtype(np.dtype(kind), np.floating)
        inputs[node.name] = np.ones(shape, kind) if whole else draw.normal(size=shape).astype(kind)
    return inputs


def call_ms(loaded, inputs, calls):
    """Return the mean milliseconds of one call."""
    started = time.perf_counter()
    for _ in range(calls):
        loaded.run(None, inputs)
    return (time.perf_counter() - started) * 1000 / calls


def turns_of(sessions, inputs, rounds):
    """Return the milliseconds of a call in each round by file; every other round goes in reverse."""
    calls, turns, order = {}, {name: [] for name in sessions}, list(sessions)
    for name, loaded in sessions.items():
        fastest = min(call_ms(loaded, inputs[name], 1) for _ in range(3))
        calls[name] = max(1, math.ceil(TURN_SECONDS * 1000 / fastest))
    for _ in range(rounds):
        for name in order:
            turns[name].append(call_ms(sessions[name], inputs[name], calls[name]))
        order.reverse()
    return turns


def timings(folder, settings, threads, batch_size):
    """Return the figures of all files at one setting."""
    names = settings["files"]
    sessions = {name: session(folder / name, threads, name in settings["wide_sums"]) for name in names}
    inputs = {name: inputs_for(loaded, batch_size, settings["length"]) for name, loaded in sessions.items()}
    turns = turns_of(sessions, inputs, settings["rounds"])
    found = []
    for name in names:
        p10, median, p90 = (float(each) for each in np.percentile(turns[name], (10, 50, 90)))
        latency = {"median_ms": median, "p10_ms": p10, "p90_ms": p90, "rounds": settings["rounds"]}
        found.append(
            {
                "file": name,
                "runtime": "onnxruntime",
                "threads": threads,
                "batch_size": batch_size,
                "latency": latency,
                "speedup": float(np.median(np.divide(turns[names[0]], turns[name]))),
            }
        )
        if (p90 - p10) / median > settings["max_spread"]:
            sys.exit(
                f"the turns of {name} at batch {batch_size} spread by {(p90 - p10) / median:.0%}: something "
                "else runs here. Stop it and run again, or raise max_spread in settings.json"
            )
    return found


def main():
    """Time everything, print the figures and keep them."""
    folder = Path(__file__).parent
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    files = []
    for name in settings["files"]:
        beside = folder / f"{name}.data"
        size = (folder / name).stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        files.append({"file": name, "sha256": digest, "size_bytes": size})
    found = [
        each
        for threads in settings["threads"]
        for batch_size in settings["batch_sizes"]
        for each in timings(folder, settings, threads, batch_size)
    ]
    figures = json.dumps({"format": 1, "machine": machine(), "files": files, "timings": found}, indent=1)
    (folder / "figures.json").write_text(figures, encoding="utf-8")
    print(figures)


if __name__ == "__main__":
    main()
