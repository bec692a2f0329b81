"""`mcomp completion`: the script by which a shell completes mcomp's arguments."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_MCOMP_COMPLETE"

WHERE = {
    "bash": "mcomp completion bash > ~/.local/share/bash-completion/completions/mcomp",
    "zsh": "mcomp completion zsh > ~/.zfunc/_mcomp    # with fpath+=~/.zfunc before compinit in ~/.zshrc",
    "fish": "mcomp completion fish > ~/.config/fish/completions/mcomp.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(tuple(WHERE)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, recipes, stages and runs.

    \b
    Put it where the shell looks for it, and open a new shell
      mcomp completion bash > ~/.local/share/bash-completion/completions/mcomp
      mcomp completion zsh > ~/.zfunc/_mcomp
      mcomp completion fish > ~/.config/fish/completions/mcomp.fish

    For zsh, ~/.zshrc needs the line `fpath+=~/.zfunc` before `compinit`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "mcomp", VARIABLE).source())
    click.echo(f"to keep it: {WHERE[shell]}", err=True)
