"""Make every attack in one process that watches itself, and print what happened as JSON.

    python tests/hostile/attacked.py FOLDER [KIND]...
    python tests/hostile/attacked.py --figures FOLDER [KIND]...

Time is of the processor; memory is what the process grew by at most. With --figures a table is printed.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.cli import exit_code
from tests.hostile.attack import attacked
from tests.hostile.corpus import ATTACKS, OUTSIDE, SECRET, warm_up
from tests.hostile.recipes import GOOD
from tests.hostile.watch import Tripwire, Watch


def main(folder: str, kinds: list[str]) -> dict[str, dict[str, Any]]:
    """Warm up with what is good, so that what is measured is the attacks' own; then attack."""
    root = Path(folder).resolve()
    os.environ["MCOMP_SECRET"] = SECRET
    outside, good = root / "outside", root / "good"
    for each in (outside, good):
        each.mkdir()
    OUTSIDE(outside)
    os.chdir(good)
    (good / "good.yaml").write_text(GOOD)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert exit_code(["check", "--quick", "good.yaml"]) == 0
        assert exit_code(["plan", "-m", "good.yaml", "seed=1,2", "--store", "store"]) == 0
        warm_up(good)
    watch, tripwire = Watch(), Tripwire(outside)
    sys.addaudithook(watch)
    chosen = {name: attack for name, attack in ATTACKS.items() if not kinds or name.split(":")[0] in kinds}
    return {
        name: attacked(attack, root / f"{number:03}", watch, tripwire)
        for number, (name, attack) in enumerate(chosen.items())
    }


def figures(results: dict[str, dict[str, Any]]) -> str:
    """Return by kind how many there are, and the slowest and the largest."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in results:
        kinds[name.split(":")[0]].append(name)
    lines = ["| kind | cases | slowest | | largest | |", "| --- | --- | --- | --- | --- | --- |"]
    for kind, names in kinds.items():
        slowest = max(names, key=lambda name: results[name]["seconds"])
        largest = max(names, key=lambda name: results[name]["megabytes"])
        seconds, megabytes = results[slowest]["seconds"], results[largest]["megabytes"]
        cells = (kind, len(names), f"{seconds:.3f} s", slowest, f"{megabytes:.1f} MB", largest)
        lines.append(f"| {' | '.join(str(cell).removeprefix(f'{kind}: ') for cell in cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    arguments = [each for each in sys.argv[1:] if each != "--figures"]
    found = main(arguments[0], arguments[1:])
    print(figures(found) if "--figures" in sys.argv else json.dumps(found))
