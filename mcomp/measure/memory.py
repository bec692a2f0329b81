"""How much memory the process held at most while something was done, and how much it can still get."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import TracebackType

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class PeakMemory:
    """Measures a `with` block; `peak_bytes` is the most the process held in memory during it.

    That is everything the process holds, also what it held when the block began. On Linux the kernel's mark
    is reset at the start, so blocks do not nest. Where it cannot be reset, only the peak of the whole life of
    the process is known: `peak_bytes` is that peak if the block raised it, and None otherwise.
    """

    peak_bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        self._reset = reset_peak()
        self._before = lifetime_peak_bytes()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reset:
            self.peak_bytes = high_water_mark_bytes()
        else:
            after = lifetime_peak_bytes()
            self.peak_bytes = after if after > self._before else None


def reset_peak() -> bool:
    """Set the kernel's high-water mark to what the process holds now; return whether that worked."""
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def high_water_mark_bytes() -> int:
    """Return the kernel's high-water mark of this process (Linux)."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def free_bytes() -> int | None:
    """Return the memory that can still be had, of the machine or of the control group that has less.

    None where the kernel does not say (it does on Linux).
    """
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        room = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    in_group = free_in_group_bytes()
    return room if in_group is None else min(room, in_group)


def free_in_group_bytes() -> int | None:
    """Return what the control group (version 2) lets this process have, None if it has no limit.

    Cached files count as held and are given up when memory is short.
    """
    try:
        limit, held = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        cached = int(stat["active_file"]) + int(stat["inactive_file"])
    except (OSError, KeyError, ValueError):  # no such group, or "max": no limit
        return None
    return max(limit - held + cached, 0)


def lifetime_peak_bytes() -> int:
    """Return the most this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def own_peak_bytes() -> int:
    """Return the most this program held. `lifetime_peak_bytes` counts what the process was before, too: the
    kernel hands on what who started it held.
    """
    try:
        return high_water_mark_bytes()
    except (OSError, ValueError):
        return lifetime_peak_bytes()


def children_peak_bytes() -> int:
    """Return the most that a process held which this one started and which has ended."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
