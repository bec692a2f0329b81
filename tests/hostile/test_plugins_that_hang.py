"""A plugin that hangs is ended by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

HANGS = "import time\nprint('hangs', flush=True)\ntime.sleep(600)\n"


def started(folder: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start mcomp with a module of one's own."""
    (folder / "own.py").write_text(module)
    program = [sys.executable, "-m", "mcomp", *arguments]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        program,
        cwd=folder,
        env=os.environ | path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it puts into the background with SIGINT ignored, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_plugin_that_hangs_is_ended_by_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    process = started(tmp_path, HANGS, "stages", "--import", "own")
    assert process.stderr is not None
    assert process.stderr.readline() == "hangs\n"  # what it prints goes to stderr
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - sent < 5
    assert process.returncode == 128 + number
    assert (out, err.strip()) == ("", f"stopped by {number.name}")
