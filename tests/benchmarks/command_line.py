"""Print how long the commands take that compute nothing, as whole processes, beside `python -c pass`.

    python tests/benchmarks/command_line.py --rounds 11

All are run in turns, so that a busy machine is busy for each. The recipe is the smallest that goes all the
way (teacher, distill, prune, QAT, export); it is computed once, and `run` then finds every step in the store.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.tiny import environment, write_recipes

NOTHING = "python -c pass"


def commands(recipe: Path, store: Path) -> dict[str, list[str]]:
    """Return the arguments of the interpreter for each line of the table."""
    mcomp = ["-m", "mcomp"]
    return {
        NOTHING: ["-c", "pass"],
        "mcomp --help": [*mcomp, "--help"],
        "mcomp stages": [*mcomp, "stages"],
        "mcomp check --quick": [*mcomp, "check", "--quick", str(recipe)],
        "mcomp plan": [*mcomp, "plan", str(recipe), "--store", str(store)],
        "mcomp run, all cached": [*mcomp, "run", str(recipe), "--store", str(store)],
    }


def seconds(arguments: Sequence[str]) -> float:
    """Return the wall time of one process. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment(), check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Fill the store, time everything in turns, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11, help="the median of so many is shown (default: 11)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        timed = commands(write_recipes(Path(folder)), Path(folder) / "store")
        for arguments in timed.values():
            seconds(arguments)  # computes the results, and writes the bytecode
        times = [{name: seconds(arguments) for name, arguments in timed.items()} for _ in range(rounds)]
    medians = {name: median(each[name] for each in times) for name in timed}
    print(f"{'command':24s} {'seconds':>8s} {'more':>8s} {'ratio':>7s}")
    for name, figure in medians.items():
        more, ratio = figure - medians[NOTHING], figure / medians[NOTHING]
        print(f"{name:24s} {figure:8.3f} {more:8.3f} {ratio:7.1f}")


if __name__ == "__main__":
    main()
