"""The memory of a process that does nothing but load a file and run it.

python -m mcomp.bench.memory FILE RUNTIME THREADS BATCH LENGTH
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mcomp.errors import StageError, printable
from mcomp.measure.memory import children_peak_bytes, own_peak_bytes

RUNS = 3
PATIENCE_SECONDS = 600


def peak_memory_bytes(path: Path, runtime: str, threads: int, batch_size: int, length: int) -> int:
    """Return the most memory that a fresh process held. Raises StageError if it fails."""
    arguments = [str(path), runtime, str(threads), str(batch_size), str(length)]
    command = [sys.executable, "-m", "mcomp.bench.memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if done.returncode:
        said = printable(done.stderr.strip().rpartition("\n")[2])
        raise StageError(f"{path.name} cannot be measured in a process of its own: {said}")
    return int(done.stdout.split()[-1])


def main(path: str, runtime: str, threads: str, batch_size: str, length: str) -> int:
    """Load a file, run it some times, and return the most memory that this process held."""
    from mcomp.bench.inputs import inputs_for
    from mcomp.measure.runtime import find_runtime

    session = find_runtime(runtime).session(Path(path), int(threads))
    inputs = inputs_for(session, int(batch_size), int(length))
    for _ in range(RUNS):
        session.run(inputs)
    del session  # of a runtime in a process of its own: it counts when it has ended
    return max(own_peak_bytes(), children_peak_bytes())


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
