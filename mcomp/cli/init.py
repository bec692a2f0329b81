"""`mcomp init`: a first recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.options import import_modules, import_option

if TYPE_CHECKING:
    from mcomp.plugins import Group

FIRST_STAGES = "train,prune,qat,export"

file_type = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", type=file_type)
@click.option("--model", help="The architecture, as `resnet`.")
@click.option("--data", help="Where samples come from, as `image_folder`.")
@click.option("--data-path", type=file_type, help="Your files, for data that reads them.")
@click.option(
    "--stages",
    help="What to do, in order: train, distill, prune, qat, export, or types that `mcomp stages` lists.",
)
@click.option("--checkpoint", type=file_type, help="Trained weights to start from: .safetensors or .pt.")
@click.option(
    "--teacher", type=file_type, help="The recipe of a teacher; without it one is written, if needed."
)
@click.option("--speedup", type=click.FloatRange(min=0), help="Require at least this speedup.")
@click.option("--size-ratio", type=click.FloatRange(min=0), help="Require at least to be this much smaller.")
@click.option("--accuracy-drop", type=float, help="Require to lose at most this much of the metric (0.01).")
@import_option
def init(
    recipe: Path,
    model: str | None,
    data: str | None,
    data_path: Path | None,
    stages: str | None,
    checkpoint: Path | None,
    teacher: Path | None,
    speedup: float | None,
    size_ratio: float | None,
    accuracy_drop: float | None,
    imports: tuple[str, ...],
) -> None:
    """Write a commented recipe to RECIPE that passes `mcomp check`. Nothing is ever overwritten.

    What is not given is asked for on a terminal.

    \b
    Examples
      mcomp init first.yaml --model resnet --data digits --stages train,qat,export
      mcomp init my.yaml --model resnet --data image_folder --data-path ./images \\
                 --stages distill,prune,qat,export --speedup 5
    """
    from mcomp.starter.write import Wanted, require_new, write_starter

    import_modules(imports)
    require_new(recipe)
    model = model or answer("model", "models")
    data = data or answer("data", "data")
    data_path = data_path or asked_path(data)
    stages = stages or answer("stages", "stages", FIRST_STAGES)
    bounds = {
        "accuracy_drop": ("max", accuracy_drop),
        "speedup": ("min", speedup),
        "size_ratio": ("min", size_ratio),
    }
    wanted = Wanted(
        model=model,
        data=data,
        stages=tuple(name.strip() for name in stages.split(",") if name.strip()),
        data_path=data_path,
        checkpoint=checkpoint,
        teacher=teacher,
        require={what: {end: value} for what, (end, value) in bounds.items() if value is not None},
        imports=imports,
    )
    for file in write_starter(recipe, wanted):
        click.echo(f"wrote {file}")
    click.echo(f"next: {wanted.command('check', recipe)}")


def answer(option: str, group: Group, default: str | None = None) -> str:
    """Return what the person answers on a terminal. Raises RecipeError where nobody can be asked."""
    from mcomp import plugins
    from mcomp.errors import RecipeError
    from mcomp.recipe.nearest import one_of

    names = plugins.names(group)
    if not sys.stdin.isatty():
        raise RecipeError(f"give --{option}; {one_of(names)}")
    if default is not None:
        return str(click.prompt(option, default=default))
    return str(click.prompt(option, type=click.Choice(names)))


def asked_path(data: str) -> Path | None:
    """Return the files for data that reads some, asked for on a terminal."""
    from mcomp.starter.text import plugin_fields

    if "path" not in plugin_fields("data", data) or not sys.stdin.isatty():
        return None
    return Path(click.prompt("data-path", type=file_type))
