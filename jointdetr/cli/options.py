"""What the commands share: options with the same meaning everywhere, loading a checkpoint, errors in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from ..image_processing_jointdetr import JointDetrImageProcessor
    from ..modeling_jointdetr import JointDetrForPoseEstimation

Precision = Literal["float32", "bfloat16"]

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Folder or Hub repository of the checkpoint; the one in the package if left out."),
]
ThresholdOption = Annotated[float, typer.Option(min=0.0, max=1.0, help="A joint with a smaller score is a guess.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--dtype",
        help="Numbers to compute with: bfloat16 is faster with many people at once, on processors that have it.",
    ),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Crops that go through the network at once.")]


class Command(TyperCommand):
    """A command that runs with the Auto classes knowing the package, which takes too long for its help.

    It is a function, or a dataclass of options with a method `run`.
    """

    def invoke(self, ctx: typer.Context) -> object:
        """Run the command."""
        from .. import registration  # noqa: F401

        made = super().invoke(ctx)
        return made.run() if is_dataclass(made) else made


@contextmanager
def one_line_errors(subject: str) -> Iterator[None]:
    """Report what the user can put right in one line, and exit with code 2."""
    try:
        yield
    # ImportError: an extra of the package is not installed; FloatingPointError: training has diverged
    except (FloatingPointError, ImportError, OSError, ValueError) as error:
        words = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename:  # without number and quotation marks
            words = f"{error.strerror.lower()}: {error.filename}"
        reason = next(iter(words.strip().splitlines()), type(error).__name__)
        typer.echo(f"jointdetr: {subject}: {reason.removeprefix(f'{subject}: ')}", err=True)
        raise typer.Exit(2) from error


def load_checkpoint(
    name: str | None, precision: Precision = "float32"
) -> "tuple[JointDetrImageProcessor, JointDetrForPoseEstimation]":
    """Load a checkpoint through the Auto classes, from the package itself if no name is given; ready to run."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForPoseEstimation
    from transformers.utils import logging

    from ..modeling_jointdetr import JointDetrForPoseEstimation

    logging.disable_progress_bar()
    source = name or str(files("jointdetr") / "pretrained")
    with one_line_errors(source):
        if not Path(source).is_dir() and re.fullmatch(r"\w[\w.-]*/[\w.-]+", source) is None:
            raise ValueError("there is no such folder, and a repository on the Hub is named user/model")
        model = AutoModelForPoseEstimation.from_pretrained(source, dtype=precision).eval()
        if not isinstance(model, JointDetrForPoseEstimation):
            raise ValueError(f"expected a checkpoint of JointDetrForPoseEstimation, got {type(model).__name__}")
        processor = AutoImageProcessor.from_pretrained(source)
    if precision == "bfloat16":
        model.to(memory_format=torch.channels_last)  # whose convolutions are faster still
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return processor, model
