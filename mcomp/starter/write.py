"""Write a first recipe, after it was checked; nothing is overwritten."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mcomp.errors import Problem, RecipeError
from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
from mcomp.starter.text import Starter, needs_teacher, own_part, plugin_fields, stage_parts, starter_text

SCHEMA = ".schema.json"


@dataclass(frozen=True)
class Wanted:
    """What the person asked for: names of plugins, files as they are named from here, and bounds.

    `imports`: the modules of their own that register some of the plugins.
    """

    model: str
    data: str
    stages: tuple[str, ...]
    data_path: Path | None = None
    checkpoint: Path | None = None
    teacher: Path | None = None
    require: Mapping[str, Mapping[str, float]] | None = None
    imports: tuple[str, ...] = ()

    def command(self, name: str, recipe: Path | str) -> str:
        """Return a command on a recipe, with the modules that it needs."""
        return f"mcomp {name} {recipe}" + "".join(f" --import {module}" for module in self.imports)


def write_starter(path: Path, wanted: Wanted) -> list[Path]:
    """Write a recipe, and one for its teacher if a stage needs one and none is given; return the files.

    Raises RecipeError if a file is there already, or if what is wanted does not fit together: then nothing is
    written.
    """
    if not wanted.stages:
        raise RecipeError("a recipe does at least one thing; name stages with --stages")
    teacher, new = wanted.teacher, []
    if not needs_teacher(wanted.stages):
        teacher = None
    elif teacher is None:
        teacher = path.with_name(f"{path.stem}_teacher.yaml")
        new = [teacher]
    for file in (path, *new):
        require_new(file)
    text = starter_text(student(path, wanted, teacher))
    for file in new:
        publish(file, starter_text(taught_first(file, wanted)))
    try:
        publish(path, text)
    except BaseException:
        for file in new:
            file.unlink()
        raise
    return [path, *new]


def student(path: Path, wanted: Wanted, teacher: Path | None) -> Starter:
    """Return the recipe that was asked for."""
    reference = relative(teacher, path) if teacher else ""
    checkpoint = {"checkpoint": relative(wanted.checkpoint, path)} if wanted.checkpoint else {}
    model = own_part("models", wanted.model, checkpoint)
    return Starter(
        name=recipe_name(path),
        headline=(
            *schema_header(path),
            f"{wanted.command('check', path.name)}, then {wanted.command('run', path.name)}",
        ),
        model=model,
        data=own_part("data", wanted.data, data_files(path, wanted)),
        stages=stage_parts(wanted.stages, reference, model),
        baseline=reference or None,
        require=wanted.require or {},
    )


def taught_first(path: Path, wanted: Wanted) -> Starter:
    """Return the recipe of the teacher: the same model, trained."""
    model = own_part("models", wanted.model, {})
    return Starter(
        name=recipe_name(path),
        headline=(*schema_header(path), "The teacher: give it more width or depth than what learns from it."),
        model=model,
        data=own_part("data", wanted.data, data_files(path, wanted)),
        stages=stage_parts(("train",), "", model),
        baseline=None,
        require={},
    )


def data_files(path: Path, wanted: Wanted) -> dict[str, str]:
    """Return the field for the files of the data. Raises RecipeError if they are missing or of no use."""
    has_path = "path" in plugin_fields("data", wanted.data)
    if has_path and wanted.data_path is None:
        raise RecipeError(f"{wanted.data} reads files of yours; name them with --data-path")
    if wanted.data_path is None:
        return {}
    if not has_path:
        raise RecipeError(
            f"{wanted.data} reads no files of yours; leave out --data-path, or choose other --data"
        )
    return {"path": relative(wanted.data_path, path)}


def publish(path: Path, text: str) -> None:
    """Check a recipe and give it its name, whole or not at all. Raises RecipeError."""
    unfinished = path.with_name(f".{path.stem}-{os.getpid()}.yaml")
    with explained(path):
        try:
            unfinished.write_text(text, encoding="utf-8")
            check(unfinished)
            os.link(unfinished, path)  # a rename would replace what somebody wrote in the meantime
        finally:
            unfinished.unlink(missing_ok=True)


def check(path: Path) -> None:
    """Raise what `mcomp check` would say, without the places in a file that nobody will see."""
    try:
        make_plan(load_recipe(path))
    except RecipeError as error:
        where = "nothing was written"
        raise RecipeError([replace(problem, where=where) for problem in error.problems]) from None


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into a RecipeError."""
    try:
        yield
    except FileExistsError:
        require_new(path)
        raise
    except OSError as error:
        raise RecipeError(f"cannot write {path}: {error.strerror}") from error


def require_new(path: Path) -> None:
    """Raise RecipeError unless a recipe can be made at `path`."""
    if path.suffix != ".yaml":
        raise RecipeError(Problem(str(path), "", "is not a recipe", "a recipe's name ends in .yaml"))
    if os.path.lexists(path):
        raise RecipeError(Problem(str(path), "", "is there already", "remove it, or name another file"))
    if not path.parent.is_dir():
        raise RecipeError(Problem(str(path), "", f"there is no folder {path.parent}", "make it first"))


def relative(file: Path, recipe: Path) -> str:
    """Return how a recipe names a file."""
    return os.path.relpath(file, recipe.parent)


def schema_header(path: Path) -> tuple[str, ...]:
    """Return the line by which an editor finds the schema, if there is one beside the recipe."""
    return (f"yaml-language-server: $schema={SCHEMA}",) if path.with_name(SCHEMA).is_file() else ()


def recipe_name(path: Path) -> str:
    """Return the name of a recipe after its file."""
    letters = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)
    return (letters if letters[:1].isalpha() else f"recipe_{letters}")[:64]
