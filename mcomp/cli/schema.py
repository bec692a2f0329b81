"""`mcomp schema`: what a recipe may say, for editors and other programs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mcomp.cli.options import import_modules, import_option


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write it to this file and not to the terminal."
)
@import_option
def schema(output: Path | None, imports: tuple[str, ...]) -> None:
    """Print a JSON Schema of recipes: every installed stage, model, data and task with its fields, their
    meaning, defaults and samples.

    An editor with a YAML language server completes and checks recipes by it that start with the line

    \b
      # yaml-language-server: $schema=.schema.json

    \b
    Examples
      mcomp schema -o recipes/.schema.json
      mcomp schema --import my_models | jq '."$defs" | keys'
    """
    from mcomp.errors import RecipeError
    from mcomp.recipe.json_schema import recipe_schema
    from mcomp.report.text import clean

    import_modules(imports)
    made = recipe_schema(lambda error: click.echo(f"left out: {clean(error)}", err=True))
    text = json.dumps(made, indent=1, ensure_ascii=output is None) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {output}: {error.strerror}; name another file with -o") from error
    click.echo(f"wrote {output}")
