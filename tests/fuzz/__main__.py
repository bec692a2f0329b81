"""Fuzz one target until its time is up or something is found.

    pip install -e ".[fuzz]"
    python -m tests.fuzz ledger --seconds 300 --found /tmp/found

Targets: arrays, headers, ledger, models, pickles, recipe, states, tokenizers. What is found (an error that
nobody raises on purpose, a hang of 5 s, 2 GB of memory, a command that is run) ends the run and lies in the
folder `--found`; with `--again FILE` it is tried once more. It becomes a case of tests/hostile.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

from tests.fuzz.mutations import changed_json

TARGETS = ("arrays", "headers", "ledger", "models", "pickles", "recipe", "states", "tokenizers")
INSTRUMENTED = ["mcomp", "mcomp_stages", "tests.fuzz", "yaml", "json", "pickletools", "zipfile"]
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess", "socket.connect")


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise for what no file may make happen; called by the interpreter."""
    if event.startswith(FORBIDDEN):
        raise RuntimeError(f"{event} {arguments!r}")


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--found", type=Path, default=Path("found"))
    parser.add_argument("--again", nargs="*", default=[], help="only try these files")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"tests.fuzz.{chosen.target}")
    chosen.found.mkdir(parents=True, exist_ok=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        os.chdir(folder)
        for number, seed in enumerate(target.SEEDS):
            Path(f"seeds/{number}").parent.mkdir(exist_ok=True)
            Path(f"seeds/{number}").write_bytes(seed)
            target.attempt(seed)
        sys.addaudithook(refuse)
        limits = [
            "-timeout=5",
            "-rss_limit_mb=2048",
            "-max_len=16384",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        options = [
            f"-max_total_time={chosen.seconds}",
            f"-artifact_prefix={chosen.found.resolve()}/",
            *limits,
        ]
        inputs = [str(Path(each).resolve()) for each in chosen.again] or ["seeds"]
        extra = {"custom_mutator": changed_json} if target.IS_JSON else {}
        atheris.Setup([sys.argv[0], *options, *inputs], target.attempt, **extra)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
