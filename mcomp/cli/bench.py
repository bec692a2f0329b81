"""`mcomp bench`: files beside each other in the runtimes of this machine, or of another."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import console


def numbers(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    """Return numbers that are separated by commas."""
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers like 1,2") from None
    if min(found) < 1:
        raise click.BadParameter("numbers start at 1")
    return found


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILES...")
@click.option("--runtime", default="", metavar="NAMES", help="Only these, with commas between them.")
@click.option("--threads", default="1", callback=numbers, metavar="N,N", help="Threads of the runtime.")
@click.option("--batch", default="1", callback=numbers, metavar="N,N", help="Samples in a call.")
@click.option(
    "--rounds", default=30, type=click.IntRange(min=3), show_default=True, help="Turns of each file."
)
@click.option(
    "--length", default=32, type=click.IntRange(min=1), show_default=True, help="Of free sizes, as tokens."
)
@click.option(
    "--max-spread", default=0.3, show_default=True, help="Refuse figures whose turns differ by more."
)
@click.option("--profile", is_flag=True, help="Also the time of each layer, where the runtime tells.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--portable", type=click.Path(path_type=Path), help="Write a folder that does this on another machine."
)
@click.option(
    "--require", "recipe", type=click.Path(path_type=Path), help="Hold figures (JSON) against a recipe."
)
def bench(
    files: tuple[Path, ...],
    runtime: str,
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    rounds: int,
    length: int,
    max_spread: float,
    profile: bool,
    as_json: bool,
    portable: Path | None,
    recipe: Path | None,
) -> int:
    """Time FILES in turns on this machine; the first is what the others are compared with.

    Each file is served by the runtime of its kind: .onnx, .xml (OpenVINO), .pt2 (PyTorch), .pte
    (ExecuTorch) or .safetensors. Figures whose turns differ too much are refused. A file that is slower than
    the first says why.

    --portable DIR writes the ONNX files and a script that needs numpy and onnxruntime alone. What it writes
    on a device is held against a recipe's bounds by --require: exit code 3 if one is missed.

    \\b
    Examples
      mcomp bench baseline.onnx small.onnx --threads 1,2 --batch 1,16
      mcomp bench small.onnx small.xml --profile
      mcomp bench baseline.onnx small.onnx --portable for_the_device
      mcomp bench figures.json --require recipes/resnet_int8.yaml
    """
    if not files:
        raise click.UsageError("name at least one file")
    if recipe is not None:
        from mcomp.bench.judge import judged_file, verdict_lines

        verdicts = judged_file(files, recipe)
        for line in verdict_lines(verdicts):
            click.echo(line)
        return 0 if all(verdict.met for verdict in verdicts) else 3
    from mcomp.bench.run import Setting
    from mcomp.bench.run import bench as run

    setting = Setting(
        tuple(filter(None, runtime.split(","))), threads, batch, rounds, length, max_spread, profile
    )
    if portable is not None:
        from mcomp.bench.portable import write_portable

        click.echo(write_portable(files, portable, setting))
        return 0
    found = run(files, setting, lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        from mcomp.report.bench import bench_table

        console().print(bench_table(found))
    return 0
