"""``greenroom deploy``."""

import click

from greenroom.cli.failure import program_failures
from greenroom.cli.load import find_whole_app, import_target
from greenroom.cli.namespace import namespace_option
from greenroom.model.errors import ExecutionError, ImageBuildError
from greenroom.sdk.output import enable_output


@click.command()
@click.option("--name", metavar="NAME", default=None, help="What the app is called, instead of what the program says.")
@click.option("--strategy", type=click.Choice(["rolling", "recreate"]), default="rolling",
              help="When the version before makes way: once this one is ready, or before this one starts.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-m", "as_module", is_flag=True, help="TARGET is a module, such as pkg.mod.")
@click.argument("target", metavar="TARGET", type=click.Path())
@namespace_option
def deploy(name: str | None, strategy: str, quiet: bool, as_module: bool, target: str) -> None:
    """Have the server that stays keep an app: TARGET is FILE.py or pkg.mod, with
    ::app where it has several. What calls it by name reaches this version as
    soon as it is ready; what the version before has begun, it finishes.

    Exit status: 0; 1 it could not start, and the version before goes on; 2 misuse.
    """
    path, _, app_name = target.partition("::")
    with program_failures(ExecutionError, ImageBuildError), enable_output(not quiet):
        app = find_whole_app(import_target(path, as_module), app_name, path)
        app.deploy(name=name, strategy=strategy)
    if not quiet:
        click.echo(f"✓ {app.name} is deployed: version {app.version}")
