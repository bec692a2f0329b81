"""Start numbered jobs with a Hydra launcher: through Hydra's public entry point, and with nothing but
numbers.

Beside `compose`, the only file that knows Hydra.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig

from mcomp.errors import RecipeError

# Nothing is configured by files, nothing is written but the folders of the jobs, and our own output is the
# log.
QUIET = (
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.job.chdir=False",
    "hydra.sweep.subdir='${job}'",
)


def launch(job: Callable[[Any], None], numbers: Sequence[int], options: Sequence[str], outputs: Path) -> None:
    """Call `job` once for each number, with a config that holds it as `job`; `outputs` gets a folder for
    each.

    `options` choose Hydra's launcher and its settings. `job` must be importable and picklable: a launcher may
    start it in another process. Raises RecipeError if Hydra refuses the options; it says why itself.
    """
    arguments = ["--multirun", f"+job={','.join(map(str, numbers))}", f"hydra.sweep.dir={quoted(outputs)}"]
    saved, sys.argv = sys.argv, [sys.argv[0], *arguments, *QUIET, *options]
    try:
        hydra.main(version_base="1.3", config_path=None, config_name=None)(job)()
    except SystemExit as error:
        raise RecipeError(f"Hydra did not start the jobs ({' '.join(options)}); see above") from error
    finally:
        sys.argv = saved


def quoted(path: Path) -> str:
    """Return a path as a quoted text of Hydra's grammar; quotes in it are escaped."""
    escaped = re.sub(r"(\\*)'", r"\1\1\'", str(path))
    return f"'{escaped}'"


def output_folder() -> Path:
    """Return the folder that Hydra made for the job that is running."""
    return Path(HydraConfig.get().runtime.output_dir)
