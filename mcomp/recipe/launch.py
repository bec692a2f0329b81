"""Start numbered jobs with a Hydra launcher: through Hydra's public entry point, and with nothing but
numbers.

Beside `compose` and `variants`, the only file that knows Hydra.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.overrides import first_line, quoted
from mcomp.recipe.places import COMMAND_LINE

# Nothing is configured by files, nothing is written but the folders of the jobs, and our own output is the
# log.
QUIET = (
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.job.chdir=False",
    "hydra.sweep.subdir='${job}'",
)


class WorkerKilled(Exception):
    """A process that ran jobs died; the launcher ended the others."""


def launch(job: Callable[[Any], None], numbers: Sequence[int], options: Sequence[str], outputs: Path) -> None:
    """Call `job` once for each number, with a config that holds it as `job`; `outputs` gets a folder for
    each.

    `options` choose Hydra's launcher and its settings. `job` must be importable and picklable: a launcher may
    start it in another process. Raises RecipeError if Hydra refuses the options or the folder, WorkerKilled
    if a process died before its jobs were done.
    """
    listed = ",".join(map(str, numbers))
    if "${" in str(outputs):  # Hydra resolves it twice, so that no escape holds
        what = "holds ${, which Hydra would read as a reference"
        raise RecipeError(Problem(COMMAND_LINE, str(outputs), what, "choose another folder with --store"))
    arguments = ["--multirun", f"+job={listed}", f"hydra.sweep.dir={quoted(str(outputs))}", *QUIET, *options]
    try:
        with command_line(arguments), errors_as_they_are():
            hydra.main(version_base="1.3", config_path=None, config_name=None)(job)()
    except (HydraException, OmegaConfBaseException, SystemExit) as error:
        chosen = " ".join(options)
        raise RecipeError(
            Problem(COMMAND_LINE, chosen, f"Hydra cannot start the jobs: {first_line(error)}")
        ) from error
    except BrokenProcessPool as error:
        raise WorkerKilled from error


@contextmanager
def command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Stand in for the command line that Hydra reads."""
    saved, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        yield
    finally:
        sys.argv = saved


@contextmanager
def errors_as_they_are() -> Iterator[None]:
    """Let Hydra raise what went wrong; it would print a traceback and exit."""
    name = "HYDRA_FULL_ERROR"
    saved = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if saved is not None:
            os.environ[name] = saved


def output_folder() -> Path:
    """Return the folder that Hydra made for the job that is running."""
    return Path(HydraConfig.get().runtime.output_dir)
