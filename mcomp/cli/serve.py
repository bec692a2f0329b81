"""`mcomp serve` and `mcomp predict`: a folder that serves an exported model, and its answer for one input."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import (
    error_console,
    import_modules,
    import_option,
    opened_store,
    overrides_argument,
    planned,
    quick_option,
    recipe_argument,
    store_option,
)


@click.command()
@recipe_argument
@click.argument("folder", type=click.Path(path_type=Path))
@overrides_argument
@click.option("--of", "stage", metavar="STAGE", help="The stage that exports; default: the last.")
@import_option
@store_option
@quick_option
def serve(
    recipe: Path,
    folder: Path,
    overrides: tuple[str, ...],
    stage: str | None,
    imports: tuple[str, ...],
    store: Path,
    quick: bool,
) -> int:
    """Write a folder that serves the model of RECIPE: the file, how inputs are prepared, labels, and a card.

    What the store does not have is computed first. The folder needs the runtime alone, with numpy, and Pillow
    for images or tokenizers for text: `python FOLDER/predict.py image.png`.

    \\b
    Examples
      mcomp serve recipes/resnet_int8.yaml served
      mcomp serve recipes/resnet_int8.yaml served --of openvino
    """
    from mcomp.console import ConsoleReporter
    from mcomp.scheduler import Scheduler
    from mcomp.serve.run import serve_run

    import_modules(imports)
    kept, made = opened_store(store), planned(recipe, overrides, quick)
    scheduler = Scheduler(made, kept, ConsoleReporter(error_console()))
    outcome = scheduler.execute()
    serve_run(scheduler, outcome, folder, stage)
    click.echo(folder)
    return outcome.exit_code


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("said", metavar="IMAGE|TEXT")
def predict(folder: Path, said: str) -> None:
    """Print what the model in FOLDER says about an image file or a text, as JSON.

    Imports the runtime of the folder, and no torch for an ONNX file.

    \\b
    Examples
      mcomp predict served image.png
      mcomp predict served "a sentence"
    """
    import json

    from mcomp.serve.answer import answer

    click.echo(json.dumps(answer(folder, said), indent=1))
