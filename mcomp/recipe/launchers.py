"""Which of Hydra's launchers may start the jobs of a sweep, and which of their settings may be chosen.

Hydra makes an object of whatever class its options name. So nothing of a command line reaches it that is not
listed here: the name of a launcher, and plain values of its settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from hydra.core.override_parser.types import OverrideType

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.recipe.overrides import LAUNCHER, SETTING, read_override
from mcomp.recipe.places import COMMAND_LINE


@dataclass(frozen=True)
class Launcher:
    """What may be set of a launcher; `module` is where it comes from, `package` what pip is asked for."""

    settings: tuple[str, ...] = ()
    module: str = "hydra"
    package: str = "hydra-core"


SUBMITIT = ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher")
OF_SUBMITIT = ("cpus_per_task", "gpus_per_node", "mem_gb", "name", "nodes", "tasks_per_node", "timeout_min")
OF_SLURM = (
    *("account", "array_parallelism", "comment", "constraint", "cpus_per_gpu", "exclude", "gpus_per_task"),
    *("gres", "max_num_timeout", "mem_per_cpu", "mem_per_gpu", "partition", "qos", "signal_delay_s"),
)

LAUNCHERS = {
    "basic": Launcher(),
    "joblib": Launcher(
        ("batch_size", "n_jobs", "pre_dispatch", "temp_folder", "timeout", "verbose"),
        "hydra_plugins.hydra_joblib_launcher",
        "mcomp[joblib]",
    ),
    "ray": Launcher(
        (
            *("ray.init.address", "ray.init.num_cpus", "ray.init.num_gpus"),
            *("ray.remote.num_cpus", "ray.remote.num_gpus"),
        ),
        "hydra_plugins.hydra_ray_launcher",
        "hydra-ray-launcher",
    ),
    "submitit_local": Launcher(OF_SUBMITIT, *SUBMITIT),
    "submitit_slurm": Launcher((*OF_SUBMITIT, *OF_SLURM), *SUBMITIT),
}


def chooses_launcher(options: Sequence[str]) -> bool:
    """Return whether one of the options is the choice of a launcher."""
    return any(text.partition("=")[0] == LAUNCHER for text in options)


def launcher_of(options: Sequence[str]) -> str:
    """Return the launcher that the options choose; the last one counts."""
    chosen = [text.partition("=")[2] for text in options if text.partition("=")[0] == LAUNCHER]
    return chosen[-1] if chosen else "basic"


def runs_alone(options: Sequence[str]) -> bool:
    """Return whether one job runs after the other."""
    return launcher_of(options) == "basic"


def require_launcher(options: Sequence[str], chosen: Problem | None = None) -> None:
    """Raise RecipeError if the options choose what is not listed or not installed, or set what is not.

    `chosen`: where the recipe chooses the launcher, if it does.
    """
    name = launcher_of(options)
    at = chosen or Problem(COMMAND_LINE, f"{LAUNCHER}={name}", "")
    if name not in LAUNCHERS:
        near = did_you_mean(name, LAUNCHERS) or f"it must be {one_of(LAUNCHERS)}"
        raise RecipeError(replace(at, what=f"there is no launcher '{name}'", next_step=near))
    launcher = LAUNCHERS[name]
    if not is_installed(launcher.module):
        what, next_step = f"the launcher {name} is not installed", f"pip install '{launcher.package}'"
        raise RecipeError(replace(at, what=what, next_step=next_step))
    problems = [
        Problem(COMMAND_LINE, option, *refused)
        for option in options
        for refused in wrong(option, name, launcher)
    ]
    if problems:
        raise RecipeError(problems)


def wrong(option: str, name: str, launcher: Launcher) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with one option of a launcher, and what to do."""
    key = option.partition("=")[0]
    setting = key.removeprefix(SETTING)
    if key != LAUNCHER and setting not in launcher.settings:
        listed = ", ".join(launcher.settings)
        near = did_you_mean(setting, launcher.settings) or f"it has {listed or 'nothing to set'}"
        yield f"the launcher {name} has no setting '{setting}'", near
    elif not is_value(option):
        yield "must be one plain value", f"write {key}=value"


def is_value(option: str) -> bool:
    """Whether an option gives one number, word or text."""
    override = read_override(option)
    if override is None or override.type is not OverrideType.CHANGE or override.is_sweep_override():
        return False
    return "${" not in option and isinstance(override.value(), bool | int | float | str | None)


def is_installed(module: str) -> bool:
    """Return whether a module of Hydra's plugins can be found."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # there are no plugins at all
        return False
