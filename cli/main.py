"""`rapport`: the platform on one machine, and the commands of those who run it.

A command's module is imported when the command is called: `rapport run` should not wait for what `rapport train` needs.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from infra.failure import EXIT_CODE, Refusal

# What other modules bring. Each has `app`, a typer.Typer with these commands (or groups of commands).
ELSEWHERE = {
    "tenants": "cli.keys",
    "keys": "cli.keys",
    "train": "cli.models",
    "evaluate": "cli.models",
    "promote": "cli.models",
    "rollback": "cli.models",
    "models": "cli.models",
    "import": "cli.imports",
}


class Commands(typer.core.TyperGroup):
    """Those of this module, and those of ELSEWHERE, imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *ELSEWHERE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        return typer.main.get_group(import_module(ELSEWHERE[cmd_name]).app).get_command(ctx, cmd_name)


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def rapport() -> None:
    """Rapport turns what a company knows of its customers into better service for each of them."""


@app.command()
def run(
    state: Annotated[Path, typer.Option(help="The folder that holds everything.")] = Path(".rapport"),
    port: Annotated[int, typer.Option(help="The gateway's port; the others follow it.", min=1024, max=65500)] = 8080,
    data: Annotated[Path | None, typer.Option(help="Orders (CSV, Parquet) or Segment calls (JSON lines).")] = None,
    mapping: Annotated[Path | None, typer.Option(help="Which column of DATA is what.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the report.")] = False,
    customers: Annotated[int, typer.Option(help="Of the simulated shop.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Of the simulated shop.")] = 1,
) -> None:
    """Start the platform, feed it data, show a report, stay up."""
    from cli.run import Options, start

    raise typer.Exit(start(Options(state, port, data, mapping, once, customers, seed)))


def main() -> None:
    """A refusal is one sentence and exit code 2; anything else that escapes is a bug, with its traceback."""
    try:
        app()
    except Refusal as refusal:
        print(f"rapport: {refusal}", file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
