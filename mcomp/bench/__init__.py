"""Files beside each other in the runtimes of this machine: latency, memory, and why one is slower."""

from __future__ import annotations

from pathlib import Path


def standalone_source() -> str:
    """Return the text of the script that runs without mcomp."""
    return Path(__file__).with_name("standalone.py").read_text(encoding="utf-8")
