from __future__ import annotations

import pytest

from mcomp.errors import Problem, RecipeError
from mcomp.recipe import launchers
from mcomp.recipe.launchers import require_launcher, runs_alone
from mcomp.recipe.places import COMMAND_LINE

JOBLIB = "hydra/launcher=joblib"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("hydra/launcher=basic",),
        (JOBLIB, "hydra.launcher.n_jobs=2"),
        (JOBLIB, "hydra.launcher.temp_folder=/tmp/a"),
        ("hydra/launcher=basic", JOBLIB, "hydra.launcher.verbose=10"),
    ],
)
def test_listed_launchers_and_settings_pass(options: tuple[str, ...]) -> None:
    require_launcher(options)


@pytest.mark.parametrize(
    ("options", "what", "next_step"),
    [
        (("hydra/launcher=jobslib",), "there is no launcher 'jobslib'", "did you mean 'joblib'?"),
        (("hydra/launcher=my_launcher",), "there is no launcher 'my_launcher'", "it must be"),
        ((JOBLIB, "hydra.launcher.n_job=2"), "no setting 'n_job'", "did you mean 'n_jobs'?"),
        (("hydra.launcher.n_jobs=2",), "the launcher basic has no setting", "it has nothing to set"),
        ((JOBLIB, "hydra.launcher._target_=os.system"), "no setting '_target_'", "it has batch_size"),
        ((JOBLIB, "hydra.launcher.n_jobs={a: 1}"), "must be one plain value", "hydra.launcher.n_jobs=value"),
        ((JOBLIB, "hydra.launcher.n_jobs=1,2"), "must be one plain value", "hydra.launcher.n_jobs=value"),
        (
            (JOBLIB, "hydra.launcher.n_jobs=${oc.env:HOME}"),
            "must be one plain value",
            "hydra.launcher.n_jobs=value",
        ),
    ],
)
def test_what_is_not_listed_is_refused_with_what_is_nearest(
    options: tuple[str, ...], what: str, next_step: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        require_launcher(options)
    (problem,) = raised.value.problems
    assert problem.where == COMMAND_LINE
    assert what in problem.what
    assert next_step in problem.next_step


def test_a_launcher_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "is_installed", lambda module: False)
    with pytest.raises(RecipeError, match=r"pip install 'mcomp\[joblib\]'"):
        require_launcher((JOBLIB,))


def test_the_choice_of_a_recipe_is_blamed_on_its_place() -> None:
    chosen = Problem("a.yaml:3:5", "sweep.launcher", "")
    with pytest.raises(RecipeError, match=r"a\.yaml:3:5"):
        require_launcher(("hydra/launcher=other",), chosen)


@pytest.mark.parametrize(("options", "alone"), [((), True), ((JOBLIB,), False)])
def test_only_the_basic_launcher_runs_one_job_after_the_other(options: tuple[str, ...], alone: bool) -> None:
    assert runs_alone(options) is alone
