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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.recipe.overrides import first_line, quoted
from mcomp.recipe.places import COMMAND_LINE

LAUNCHER = "hydra/launcher"
# What to install for launchers that do not come with Hydra: the package's module, and what pip is asked for.
PACKAGES = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "mcomp[joblib]"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "hydra-ray-launcher"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher"),
}

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
    start it in another process. Raises RecipeError if Hydra refuses the options, WorkerKilled if a process
    died before its jobs were done.
    """
    listed = ",".join(map(str, numbers))
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


def launcher_of(options: Sequence[str]) -> str:
    """Return the launcher that the options choose; the last one counts."""
    chosen = [text.partition("=")[2] for text in options if text.partition("=")[0] == LAUNCHER]
    return chosen[-1] if chosen else "basic"


def runs_alone(options: Sequence[str]) -> bool:
    """Return whether one job runs after the other."""
    return launcher_of(options) == "basic"


def require_launcher(options: Sequence[str]) -> None:
    """Raise RecipeError if the launcher that the options choose is not installed."""
    name = launcher_of(options)
    text = f"{LAUNCHER}={name}"
    if name in PACKAGES:
        module, package = PACKAGES[name]
        if not is_installed(module):
            next_step = f"pip install '{package}'"
            raise RecipeError(Problem(COMMAND_LINE, text, "this launcher is not installed", next_step))
        return
    Plugins.instance()  # launchers add their name to the store when they are found
    known = sorted(file.removesuffix(".yaml") for file in ConfigStore.instance().list(LAUNCHER))
    if name not in known:
        near = did_you_mean(name, [*known, *PACKAGES]) or f"it must be {one_of(known)}"
        raise RecipeError(Problem(COMMAND_LINE, text, f"there is no launcher '{name}'", near))


def is_installed(module: str) -> bool:
    """Return whether a module of Hydra's plugins can be found."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # there are no plugins at all
        return False


def output_folder() -> Path:
    """Return the folder that Hydra made for the job that is running."""
    return Path(HydraConfig.get().runtime.output_dir)
