"""Run every hostile recipe in one process that watches itself, and print what happened as JSON.

    python tests/hostile/attacked.py FOLDER

An audit hook notes what leaves the process or the recipe's folder. Time is processor time of the process;
memory is what its peak grew by.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.cli import exit_code
from tests.hostile.recipes import GOOD, RECIPES

# Python itself, what is installed in it, and mcomp's own sources.
OWN = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])]
LEAVES = (
    "subprocess",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "socket",
    "ctypes",
    "pty",
)
CHANGES = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.putenv",
    "shutil",
)


class Watch:
    """What one attack did that a recipe must not do."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event; called by the interpreter."""
        if self.folder is None:
            return
        if event.startswith((*LEAVES, *CHANGES)):
            self.seen.append(f"{event} {arguments!r}")
        elif event == "open" and isinstance(arguments[0], str | bytes) and not self.allowed(*arguments):
            self.seen.append(f"open {arguments!r}")

    def allowed(self, path: str | bytes, mode: str | None, flags: int) -> bool:
        """Whether a file may be opened: to read, in the recipe's folder or among the installed ones."""
        assert self.folder is not None
        place = os.path.abspath(os.fsdecode(path))
        inside = any(place.startswith(f"{root}{os.sep}") for root in (*OWN, str(self.folder)))
        return inside and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)


def attack(name: str, folder: Path, watch: Watch) -> dict[str, Any]:
    """Run one attack in a folder of its own and return what it did."""
    folder.mkdir()
    RECIPES[name].write(folder)
    os.chdir(folder)
    printed = io.StringIO()
    before, start = peak_mb(), time.process_time()
    watch.folder, watch.seen = folder, []
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = exit_code([*RECIPES[name].arguments, *store(name, folder)])
    watch.folder = None
    return {
        "code": code,
        "printed": printed.getvalue(),
        "seconds": time.process_time() - start,
        "megabytes": peak_mb() - before,
        "seen": watch.seen,
        "evil": "evil" in sys.modules or any(folder.parent.rglob("pwned*")),
    }


def store(name: str, folder: Path) -> list[str]:
    """Return the option that names the store, for the commands that have one."""
    return ["--store", str(folder / "store")] if RECIPES[name].arguments[0] == "plan" else []


def peak_mb() -> float:
    """Return the largest memory this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Warm up with a good recipe, so that what is measured is the recipes' own, then attack."""
    root = Path(sys.argv[1]).resolve()
    os.environ["MCOMP_SECRET"] = "hunter2"
    (root / "good.yaml").write_text(GOOD)
    for arguments in (
        ["check", "--quick", str(root / "good.yaml")],
        ["plan", "-m", str(root / "good.yaml"), "seed=1,2"],
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            assert exit_code(arguments) == 0
    watch = Watch()
    sys.addaudithook(watch)
    results = {name: attack(name, root / f"{number:03}", watch) for number, name in enumerate(RECIPES)}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
