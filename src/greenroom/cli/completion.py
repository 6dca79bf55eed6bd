"""``greenroom completion SHELL``."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  eval "$(greenroom completion bash)"       in ~/.bashrc
    zsh:   eval "$(greenroom completion zsh)"        in ~/.zshrc
    fish:  greenroom completion fish > ~/.config/fish/completions/greenroom.fish
    """
    from click.shell_completion import get_completion_class

    from greenroom.cli.commands import greenroom

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(greenroom, {}, "greenroom", "_GREENROOM_COMPLETE").source())
