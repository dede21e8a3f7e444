"""The command `jointdetr`: each subcommand reads its options, calls one function of the package and reports.

What takes seconds to import is imported inside the command that needs it. A mistake in what was asked ends with one
line on stderr and exit code 2.
"""

import typer

from .convert import ConvertOptions
from .evaluate import EvaluateOptions
from .hub import PushOptions, export
from .options import Command
from .predict import PredictCommand, PredictOptions
from .synthesize import SynthesizeOptions
from .train import train, train_refiner
from .view import demo, view

INTERRUPTED = 130  # exit code after Ctrl-C

app = typer.Typer(
    help="3D human pose from one picture: predict it, make synthetic people, train, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("predict", cls=PredictCommand)(PredictOptions)
app.command("convert", cls=Command)(ConvertOptions)
app.command("synthesize", cls=Command)(SynthesizeOptions)
app.command(cls=Command)(train)
app.command(cls=Command)(train_refiner)
app.command("evaluate", cls=Command)(EvaluateOptions)
app.command(cls=Command)(view)
app.command(cls=Command)(demo)
app.command("push", cls=Command)(PushOptions)
app.command(cls=Command)(export)


@app.command()
def version() -> None:
    """Print the versions of jointdetr and of what it stands on."""
    import torch
    import transformers

    from .. import __version__

    typer.echo(f"jointdetr {__version__}, transformers {transformers.__version__}, torch {torch.__version__}")


def main() -> None:
    """Run the command line: the entry point of `jointdetr` and of `python -m jointdetr`."""
    try:
        app(prog_name="jointdetr")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            typer.echo("jointdetr: stopped; what was finished is kept", err=True)
        raise
