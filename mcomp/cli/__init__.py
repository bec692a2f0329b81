"""The command line: one file a command.

Everything heavy is imported inside the commands: `--help` must be quick, and no command that only reads
imports torch.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from mcomp.cli.bench import bench
from mcomp.cli.check import check
from mcomp.cli.clean import clean
from mcomp.cli.completion import completion
from mcomp.cli.diff import diff
from mcomp.cli.doctor import doctor
from mcomp.cli.explain import explain
from mcomp.cli.init import init
from mcomp.cli.plan import plan
from mcomp.cli.report import report
from mcomp.cli.run import run
from mcomp.cli.runs import runs
from mcomp.cli.schema import schema
from mcomp.cli.sensitivity import sensitivity
from mcomp.cli.serve import predict, serve
from mcomp.cli.stages import stages
from mcomp.cli.verify import verify
from mcomp.signals import raising

EXIT_BUG, EXIT_USAGE, EXIT_SIGNAL = 1, 2, 128


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


for command in (
    run,
    check,
    plan,
    stages,
    report,
    runs,
    explain,
    diff,
    sensitivity,
    bench,
    serve,
    predict,
    schema,
    init,
    verify,
    doctor,
    completion,
    clean,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: each class of error has its code, and only our bugs show a traceback."""
    # Torch's OpenMP threads wait for each other by spinning, for very long: on a machine with other work a
    # training step took 3 to 10 times as long as with a short spin. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    codes: list[int] = []
    atexit.register(end_at_once, codes)  # registered before all others, so that it comes after them
    with raising():
        codes.append(exit_code(arguments))
    sys.exit(codes[0])


def end_at_once(codes: list[int]) -> None:
    """End the process with its exit code, without taking the interpreter apart.

    With torch that takes one or two seconds of the ten that a signal leaves.
    """
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(codes[0])


def is_override(option: str) -> bool:
    """Whether an option that there is not looks like a key of a recipe (`--seed=1`, `--stages.a.b`)."""
    from mcomp.recipe.schema import Recipe

    return option.lstrip("-").partition(".")[0].partition("=")[0] in Recipe.model_fields


def exit_code(arguments: list[str] | None) -> int:
    """Run one command and return its exit code."""
    return ended(lambda: cli.main(arguments, prog_name="mcomp", standalone_mode=False))


def ended(work: Callable[[], object]) -> int:
    """Do some work and return the exit code for how it ended; what it raises is told."""
    from mcomp.cli.completion import VARIABLE
    from mcomp.errors import McompError, PluginError, printable_lines, words

    try:
        code = work()
        return code if isinstance(code, int) else 0
    except click.NoSuchOption as error:
        error.show()
        if is_override(error.option_name):
            click.echo(
                "Values of a recipe are written without dashes: stages.prune.target.macs=0.4", err=True
            )
        return EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except click.Abort as abort:
        number = signal.Signals(getattr(abort.__cause__, "number", signal.SIGINT))
        click.echo(f"stopped by {number.name}", err=True)
        return EXIT_SIGNAL + number
    except McompError as error:
        # Also what no one made printable on the way: names from files, words of libraries.
        click.echo(printable_lines(str(error)), err=True)
        return error.exit_code
    except SystemExit as error:
        if VARIABLE in os.environ:  # click answers a shell so
            return int(error.code or 0)
        click.echo(f"a plugin, or a library that it uses, ended the program: {words(error)}", err=True)
        return PluginError.exit_code
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("this is a bug in mcomp; please report it with the lines above", err=True)
        return EXIT_BUG
