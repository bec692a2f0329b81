"""Silence about what torch.export had captured when it gave up: an error says which line is to blame.

torch 2.13 prints the partial graph to stderr (`torch/export/_trace.py`, `partial_fx_graph`), and no setting
keeps it from that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

OF_A_GRAPH = "def forward(self, arg0_1"


class WithoutPartialGraphs:
    """A stream that leaves out graphs, and hands on everything else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if OF_A_GRAPH in text else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def without_partial_graphs() -> Iterator[None]:
    """Keep partial graphs from stderr."""
    stream = sys.stderr
    sys.stderr = WithoutPartialGraphs(stream)
    try:
        yield
    finally:
        sys.stderr = stream
