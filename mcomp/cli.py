"""The command line. Everything heavy is imported inside the commands: `--help` must be quick, and no command
that only reads imports torch.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from mcomp.store.ledger import Ledger

EXIT_BUG, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143

recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
import_option = click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="Import a module of yours that registers models, data or stages.",
)
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="MCOMP_STORE",
    default=Path(".mcomp"),
    show_default=True,
    help="Where results are kept.",
)


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled like Ctrl-C, with an exit code of its own."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mcomp", message="mcomp %(version)s")
def cli() -> None:
    """Compress a trained PyTorch model: one recipe, ordered stages, a file that is proven in its runtime.

    \b
    Examples
      mcomp run recipes/resnet_int8.yaml
      mcomp run recipes/resnet_int8.yaml stages.prune.target.macs=0.4
      mcomp run -m recipes/resnet_int8.yaml stages.prune.target.macs=0.4,0.5,0.6
      mcomp plan recipes/resnet_int8.yaml
      mcomp stages prune.channels
      mcomp report
    """


@cli.command()
@recipe_argument
@overrides_argument
@click.option("-m", "--multirun", is_flag=True, help="Sweep: each of the comma-separated values is a job.")
@import_option
@store_option
@click.option(
    "--fresh", is_flag=True, help="Compute again what the store has; the old results are set aside."
)
def run(
    recipe: Path,
    overrides: tuple[str, ...],
    multirun: bool,
    imports: tuple[str, ...],
    store: Path,
    fresh: bool,
) -> int:
    """Run RECIPE. What the store already has is not computed again.

    \b
    Examples
      mcomp run recipes/resnet_int8.yaml
      mcomp run recipes/resnet_int8.yaml 'pipeline=[distill,qat,export]'
      mcomp run -m recipes/resnet_int8.yaml seed=0,1,2
    """
    import_modules(imports)
    if multirun:
        return run_sweep(recipe, overrides, imports, store, fresh)
    from mcomp.console import ConsoleReporter
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from mcomp.scheduler import Scheduler, set_aside
    from mcomp.store.store import Store

    made, kept = make_plan(load_recipe(recipe, overrides)), Store(store)
    if fresh:
        set_aside(made, kept)
    outcome = Scheduler(made, kept, ConsoleReporter(error_console())).execute()
    show_ledger(outcome.ledger)
    for name, path in outcome.files.items():
        click.echo(f"{name}: {path}")
    return outcome.exit_code


def run_sweep(
    recipe: Path, overrides: tuple[str, ...], imports: tuple[str, ...], store: Path, fresh: bool
) -> int:
    """Run a sweep, show its jobs side by side, and return the exit code of the first that failed."""
    from mcomp.console import ConsoleReporter
    from mcomp.report.table import sweep_table
    from mcomp.store.store import Store
    from mcomp.sweep import Sweep, ledgers

    sweep, kept = Sweep.resolve(recipe, overrides), Store(store)
    if fresh:
        sweep.fresh(kept)
    results = sweep.run(kept, ConsoleReporter(error_console()), imports=imports)
    console().print(sweep_table(ledgers(results, kept)))
    for result in results:
        for name, path in result.files.items():
            click.echo(f"{' '.join(result.overrides)}: {name}: {path}")
        if result.error:
            click.echo(f"{' '.join(result.overrides)}: {result.error}", err=True)
    return next((result.exit_code for result in results if result.exit_code), 0)


@cli.command()
@recipe_argument
@overrides_argument
@import_option
def check(recipe: Path, overrides: tuple[str, ...], imports: tuple[str, ...]) -> None:
    """Check RECIPE and every recipe it refers to; print all mistakes at once.

    Keys, types, ranges, choices, files and the order of the stages are checked. Layer names and shapes are
    not: they are checked when a stage starts.
    """
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe

    import_modules(imports)
    plan = make_plan(load_recipe(recipe, overrides))
    click.echo(f"{recipe}: no mistakes; {len(plan.steps)} steps")
    for name in plan.loaded.unused_stages:
        click.echo(f"  unused stage: {name}")


@cli.command()
@recipe_argument
@overrides_argument
@import_option
@store_option
def plan(recipe: Path, overrides: tuple[str, ...], imports: tuple[str, ...], store: Path) -> None:
    """Show the steps of RECIPE in order, and which of them the store already has. Computes nothing."""
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from mcomp.report.plan import plan_table
    from mcomp.store.store import Store

    import_modules(imports)
    made = make_plan(load_recipe(recipe, overrides))
    console().print(plan_table(made, Store(store)))


@cli.command()
@click.argument("name", required=False)
@import_option
def stages(name: str | None, imports: tuple[str, ...]) -> None:
    """List the installed stages, or print the fields, defaults and a sample of one.

    \b
    Examples
      mcomp stages
      mcomp stages prune.channels
    """
    from mcomp.report.stages import stage_list, stage_manual

    import_modules(imports)
    console().print(stage_manual(name) if name else stage_list())


@cli.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write one self-contained page to this file.")
def report(run_id: str | None, store: Path, as_json: bool, html: Path | None) -> None:
    """Show what a run did and what it gave; the last one by default.

    \b
    Examples
      mcomp report
      mcomp report --html report.html
      mcomp report 20260131-101500-resnet_int8-3fa1 --json
    """
    from mcomp.errors import RecipeError
    from mcomp.store.store import Store

    kept = Store(store)
    runs = kept.runs()
    if not runs:
        raise RecipeError(f"{store} has no run yet; start one with mcomp run, or choose another with --store")
    if run_id is not None and run_id not in runs:
        raise RecipeError(f"{store} has no run {run_id}; the last one is {runs[0]}")
    ledger = kept.run(run_id or runs[0]).read_ledger()
    if html is not None:
        write_page(ledger, html)
    elif as_json:
        click.echo(ledger.model_dump_json(indent=2))
    else:
        show_ledger(ledger)


def write_page(ledger: Ledger, path: Path) -> None:
    """Write the report as one page. Raises RecipeError if the file cannot be written."""
    from mcomp.errors import RecipeError
    from mcomp.report.html import render

    page = render(ledger)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {path}: {error.strerror}; name another file with --html") from error
    click.echo(f"wrote {path}")


def show_ledger(ledger: Ledger) -> None:
    """Print the table of a run."""
    from mcomp.report.table import ledger_table

    console().print(ledger_table(ledger))


def console() -> Console:
    """Return the console for what was asked for."""
    from rich.console import Console

    return Console()


def error_console() -> Console:
    """Return the console for how the work goes on: it stays out of what is piped."""
    from rich.console import Console

    return Console(stderr=True)


def import_modules(names: tuple[str, ...]) -> None:
    """Import the modules that the person named on the command line."""
    if names:
        from mcomp.plugins import import_module

        sys.path.insert(0, os.getcwd())
        for name in names:
            import_module(name)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: each class of error has its code, and only our bugs show a traceback."""
    signal.signal(signal.SIGTERM, raise_terminated)
    sys.exit(exit_code(arguments))


def raise_terminated(number: int, frame: Any) -> None:
    """Turn SIGTERM into an exception, so that it unwinds like Ctrl-C."""
    raise Terminated


def exit_code(arguments: list[str] | None) -> int:
    """Run one command and return its exit code."""
    from mcomp.errors import McompError

    try:
        return cli.main(arguments, prog_name="mcomp", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except click.Abort as abort:
        terminated = isinstance(abort.__cause__, Terminated)
        click.echo("terminated" if terminated else "interrupted", err=True)
        return EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
    except McompError as error:
        click.echo(str(error), err=True)
        return error.exit_code
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("this is a bug in mcomp; please report it with the lines above", err=True)
        return EXIT_BUG
