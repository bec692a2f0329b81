"""Which jobs a sweep has: the recipe's own `sweep:`, replaced and completed by the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.build import LoadedRecipe
from mcomp.recipe.launchers import chooses_launcher
from mcomp.recipe.overrides import listed, product, split_launch_options, written
from mcomp.recipe.places import COMMAND_LINE, dotted, in_order
from mcomp.recipe.variants import Recipes


@dataclass(frozen=True)
class Swept:
    """One swept key: what its mistakes are blamed on, all of them together or by the override of a job."""

    whole: Problem
    values: Mapping[str, Problem]


@dataclass(frozen=True)
class Listing:
    """The overrides of each job, Hydra's options for the launcher, and where the values were written.

    `launcher`: where the recipe chooses it, if it does.
    """

    jobs: Sequence[tuple[str, ...]]
    options: tuple[str, ...]
    swept: Sequence[Swept]
    launcher: Problem | None = None


def list_jobs(path: Path, overrides: Sequence[str], recipes: Recipes) -> Listing:
    """Return the jobs of a sweep. Raises RecipeError for values that cannot be listed, and for no values."""
    options, settings = split_launch_options(overrides)
    given = listed(settings)
    first = product(given)[0]
    try:
        loaded = recipes.load(path, first)
    except RecipeError:
        # The first job is planned with the others, and its mistakes are said with theirs.
        return Listing(product(given), options, commanded(given))
    if loaded.recipe.sweep is None:
        if not overrides:
            what = "there is nothing to sweep over; give values (seed=0,1), or write a `sweep:` in the recipe"
            raise RecipeError(f"{path}: {what}")
        return Listing(product(given), options, commanded(given))
    own = {key: swept for key, swept in own_parameters(loaded).items() if key not in given}
    choices = {key: list(swept.values) for key, swept in own.items()}
    return Listing(
        product({**choices, **given}),
        (*launch_options(loaded, options), *options),
        [*own.values(), *commanded(given)],
        None if chooses_launcher(options) else loaded.composed.places.problem(("sweep", "launcher"), ""),
    )


def own_parameters(loaded: LoadedRecipe) -> dict[str, Swept]:
    """Return what the recipe itself sweeps, by key."""
    assert loaded.recipe.sweep is not None
    found = {}
    for key, values in loaded.recipe.sweep.parameters.items():
        path = ("sweep", "parameters", key)
        texts = [f"{key}={written(value)}" for value in values]
        found[key] = Swept(
            loaded.composed.places.problem(path, "", at_key=True),
            {
                text: Problem(loaded.where((*path, index)), dotted((*path, index)), "")
                for index, text in enumerate(texts)
            },
        )
    return found


def commanded(given: Mapping[str, Sequence[str]]) -> list[Swept]:
    """Return the keys that the command line gives several values."""
    return [
        Swept(Problem(COMMAND_LINE, key, ""), {text: Problem(COMMAND_LINE, text, "") for text in texts})
        for key, texts in given.items()
        if len(texts) > 1
    ]


def launch_options(loaded: LoadedRecipe, given: Sequence[str]) -> tuple[str, ...]:
    """Return the launcher that the recipe asks for, as Hydra's options, unless another was `given`."""
    sweep = loaded.recipe.sweep
    assert sweep is not None
    if sweep.launcher == "basic" or chooses_launcher(given):
        return ()
    jobs = () if sweep.jobs is None else (f"hydra.launcher.n_jobs={sweep.jobs}",)
    return (f"hydra/launcher={sweep.launcher}", *jobs)


def blamed(problems: Iterable[Problem], swept: Sequence[Swept]) -> list[Problem]:
    """Return the problems of all jobs, each once, blamed on where the swept values were written.

    What is wrong with every value of a key is said once, at the key.
    """
    said: dict[tuple[int, str, str], list[Problem]] = {}
    others = []
    owners = {text: number for number, each in enumerate(swept) for text in each.values}
    for problem in dict.fromkeys(problems):
        if problem.where == COMMAND_LINE and problem.path in owners:
            said.setdefault((owners[problem.path], problem.what, problem.next_step), []).append(problem)
        else:
            others.append(problem)
    for (number, what, next_step), alike in said.items():
        owner = swept[number]
        of_all = len(alike) == len(owner.values) > 1
        places = [owner.whole] if of_all else [owner.values[problem.path] for problem in alike]
        others += [Problem(place.where, place.path, what, next_step) for place in places]
    return in_order(others)
