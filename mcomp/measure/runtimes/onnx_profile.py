"""How long each operator of a file takes in ONNX Runtime, by its own profiler."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mcomp.measure.runtime import LayerTime
from mcomp.measure.runtimes.onnx import load_session, session_options

WARMUP, CALLS = 3, 20


def profile(path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> tuple[LayerTime, ...]:
    """Return the mean over 20 calls, the longest first; the names are those of the optimised graph."""
    with TemporaryDirectory() as folder:
        options = session_options(path, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = load_session(path, options)
        for _ in range(WARMUP + CALLS):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            spent[key].append(event["dur"] / 1000)
    times = [LayerTime(name, kind, float(np.mean(each[-CALLS:]))) for (name, kind), each in spent.items()]
    return tuple(sorted(times, key=lambda each: -each.milliseconds))
