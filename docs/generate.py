"""Write docs/reference from the schemas, the manuals and the command line, so that it cannot drift.

python docs/generate.py
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel

from mcomp import plugins
from mcomp.cli import cli
from mcomp.recipe.schema import Recipe
from mcomp.report.stages import field_rows

REFERENCE = Path(__file__).with_name("reference")
NOTE = "<!-- Written by docs/generate.py; change the source, not this page. -->"
WIDTH = 100

PLUGINS: dict[plugins.Group, tuple[str, str]] = {
    "models": (
        "Models",
        "What may stand under `model:`. The weights of `checkpoint` are a file, or another recipe's model.",
    ),
    "data": ("Data", "What may stand under `data:`."),
    "tasks": ("Tasks", "What may stand under `task:`; without it, `classification`."),
}


def pages() -> dict[str, str]:
    """Return every page of the reference by its file's name."""
    return {
        "recipe.md": recipe_page(),
        "stages.md": stages_page(),
        "plugins.md": plugins_page(),
        "cli.md": command_line_page(),
    }


def recipe_page() -> str:
    """Return the page of the keys that every recipe may have."""
    introduction = (
        "Every key that a recipe may have, with its default. What `model`, `data`, `task` and each of\n"
        "`stages` may hold depends on their `type`: see [stages](stages.md) and\n"
        "[models, data, tasks](plugins.md). The language itself is explained in [Recipes](../recipe.md)."
    )
    return page("Keys of a recipe", introduction, field_table(Recipe))


def stages_page() -> str:
    """Return the page of the stages."""
    introduction = (
        "What may stand under `stages:`, each under a name of yours. `mcomp stages NAME` prints the same."
    )
    return page("Stages", introduction, *sections("stages", "##"))


def plugins_page() -> str:
    """Return the page of models, data and tasks."""
    parts = [
        part
        for group, (title, introduction) in PLUGINS.items()
        for part in (f"## {title}", introduction, *sections(group, "###"))
    ]
    return page("Models, data, tasks", *parts)


def command_line_page() -> str:
    """Return the page of the commands."""
    parts = [help_of(cli, "mcomp")]
    for name, command in sorted(cli.commands.items()):
        parts += [f"## mcomp {name}", help_of(command, f"mcomp {name}")]
    codes = (
        "0 done, 1 a bug of mcomp, 2 usage or recipe, 3 `require` not met, 4 plugin, 5 stage, 6 store,\n"
        "130 and 143 interrupted, 137 a job was killed. A sweep exits with the code of its first failure."
    )
    return page("Command line", *parts, "## Exit codes", codes)


def page(title: str, *parts: str) -> str:
    """Return a page."""
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def sections(group: plugins.Group, level: str) -> Iterator[str]:
    """Yield a heading, the manual and the fields of each plugin that comes with mcomp."""
    for name in plugins.names(group):
        claim = plugins.claims(group, name)[0]
        if claim.source.startswith("mcomp "):
            kind = plugins.load(group, name)
            yield f"{level} {name}"
            yield manual(kind)
            yield field_table(kind)


def manual(kind: type[BaseModel]) -> str:
    """Return the docstring of a plugin's module as Markdown: indented blocks are YAML."""
    text = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(
        fenced(inspect.cleandoc(f"\n{each}"), "yaml") if each[:1] == " " else each for each in paragraphs
    )


def field_table(kind: type[BaseModel]) -> str:
    """Return a table of fields; those of a mapping inside have its name in front."""
    schema = kind.model_json_schema()
    lines = ["| field | value | default | |", "| --- | --- | --- | --- |"]
    around: list[str] = []
    for name, value, default, meaning in field_rows(schema, schema.get("$defs", {})):
        depth = (len(name) - len(name.lstrip())) // 2
        around = [*around[:depth], name.strip()]
        cells = (f"`{'.'.join(around)}`", value, default or '""', meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(dict.fromkeys(lines))


def help_of(command: click.Command, name: str) -> str:
    """Return what `--help` prints."""
    settings = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=name, **settings)
    return fenced(command.get_help(context), "text")


def fenced(text: str, language: str) -> str:
    """Return a block."""
    return f"```{language}\n{text.rstrip()}\n```"


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {REFERENCE / name}")


if __name__ == "__main__":
    main()
