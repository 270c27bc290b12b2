"""`harness completion`: the lines that make a shell complete commands, options, case files, models, tags and codes."""

from __future__ import annotations

import click

from harness.cli.help import Helped

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Helped)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    In ~/.bashrc:  eval "$(harness completion bash)"
    In ~/.zshrc:   eval "$(harness completion zsh)"
    In ~/.config/fish/completions/harness.fish:  harness completion fish | source
    """
    from click.shell_completion import get_completion_class

    from harness.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "harness", "_HARNESS_COMPLETE").source())
