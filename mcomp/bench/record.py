"""What a bench found: figures by file, runtime, threads and batch size, and the machine. Free of torch."""

from __future__ import annotations

from typing import Literal

from mcomp.config import Config
from mcomp.store.ledger import Count, Latency


class Timing(Config):
    """One file at one setting. `speedup` is against the first file in the same runtime and setting."""

    file: str
    runtime: str
    threads: Count
    batch_size: Count
    latency: Latency
    speedup: float | None = None

    @property
    def spread(self) -> float:
        """How far the 10th and the 90th percentile are apart, as a share of the median."""
        return (self.latency.p90_ms - self.latency.p10_ms) / self.latency.median_ms


class Layer(Config):
    """How long one operator takes in a call, in the runtime's own profile."""

    name: str
    operator: str
    milliseconds: float


class BenchedFile(Config):
    """One file: its bytes, the memory of a process that loads and runs it, and what makes it slow."""

    file: str
    sha256: str
    size_bytes: Count
    peak_memory_bytes: dict[str, Count] = {}
    slower_because: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()


class Bench(Config):
    """All of it. The first file is what the others are compared with."""

    format: Literal[1] = 1
    machine: dict[str, str]
    files: tuple[BenchedFile, ...]
    timings: tuple[Timing, ...]
