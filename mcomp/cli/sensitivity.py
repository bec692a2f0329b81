"""`mcomp sensitivity`: what each part of a stage costs alone, and the fields that follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.complete import complete_recipe_stages
from mcomp.cli.options import (
    console,
    error_console,
    import_modules,
    import_option,
    opened_store,
    planned,
    quick_option,
    recipe_argument,
    store_option,
)
from mcomp.cli.report import write_page

if TYPE_CHECKING:
    from mcomp.plan import Plan
    from mcomp.sensitivity.record import Asked, Figure, Sensitivity
    from mcomp.store.store import Store


class Levels(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "levels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers; write it like 8,4", param, ctx)


@click.command()
@recipe_argument
@click.argument("stage", shell_complete=complete_recipe_stages)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--metric",
    type=click.Choice(("task", "sqnr", "latency")),
    default="task",
    show_default=True,
    help="The task's metric on validation; without labels the SQNR of the outputs on calibration; or, of "
    "channels, blocks and ranks, the milliseconds in ONNX Runtime.",
)
@click.option(
    "--limit",
    type=float,
    help="What one part may cost: a drop of the metric (0.005), or the smallest SQNR in dB (20).",
)
@click.option(
    "--levels", type=Levels(), default=(), metavar="LIST", help="Bits or shares to try, like 8,4 or 0.25,0.5."
)
@click.option(
    "--samples", type=click.IntRange(min=2), help="Measure on so many samples; for the SQNR 128, else all."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Draw it: write one self-contained page.")
@import_option
@store_option
@quick_option
def sensitivity(
    recipe: Path,
    stage: str,
    overrides: tuple[str, ...],
    metric: Figure,
    limit: float | None,
    levels: tuple[float, ...],
    samples: int | None,
    as_json: bool,
    html: Path | None,
    imports: tuple[str, ...],
    store: Path,
    quick: bool,
) -> None:
    """Measure what each part of the model costs when STAGE of RECIPE changes it alone, and print a patch.

    For a stage that quantizes, a part is a layer; for one that prunes, channels that are cut together, a
    layer that gets zeros or lower ranks, or a block. The stages before are run first where the store does not
    have them. Each figure is kept: what was interrupted goes on. The patch is YAML for the recipe: layers to
    keep in float or at another width, ratios or ranks by layer, or layers and blocks to skip.

    \b
    Examples
      mcomp sensitivity recipes/resnet_int8.yaml qat
      mcomp sensitivity recipes/resnet_int8.yaml qat --metric sqnr --limit 25
      mcomp sensitivity recipes/resnet_int8.yaml qat --levels 8,4,3 --html sensitivity.html
      mcomp sensitivity recipes/resnet_int8.yaml prune --levels 0.25,0.5,0.75 --limit 0.01
      mcomp sensitivity recipes/resnet_int8.yaml prune --metric latency --html latency.html
      mcomp sensitivity recipes/resnet_int8.yaml prune stages.prune.importance=taylor --json
    """
    from mcomp.sensitivity.record import asked

    import_modules(imports)
    kept = opened_store(store)
    plan = planned(recipe, overrides, quick)
    found = measured(plan, stage, kept, asked(metric, limit, levels, samples))
    if html is not None:
        from mcomp.report.sensitivity import sensitivity_page

        write_page(sensitivity_page(found), html)
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json"), indent=2))
    elif html is None:
        show(found)


def measured(plan: Plan, stage: str, store: Store, asked: Asked) -> Sensitivity:
    """Run what the stage needs, and measure. Raises RecipeError or StageError."""
    from mcomp.console import ConsoleReporter
    from mcomp.scheduler import Scheduler
    from mcomp.sensitivity.needs import before, measurable

    step = measurable(plan, stage)
    reporter = ConsoleReporter(error_console())
    first = before(plan, step)
    if any(store.find(each.key, each.key_json) is None for each in first.steps):
        Scheduler(first, store, reporter).execute()
    from mcomp.sensitivity.measure import measured  # imports torch

    try:
        return measured(step, store, reporter, asked)
    except KeyboardInterrupt:
        reporter.log("what is measured is kept: run the same command again to go on")
        raise


def show(found: Sensitivity) -> None:
    """Print the table, and the patch as it is pasted."""
    from mcomp.report.sensitivity import patch_text, sensitivity_table

    console().print(sensitivity_table(found))
    patch = patch_text(found)
    if patch:
        click.echo(f"\nPut into the recipe:\n\n{patch}", nl=False)
