"""What the commands share: options with the same meaning everywhere, loading a checkpoint, errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from ..image_processing_jointdetr import JointDetrImageProcessor
    from ..modeling_jointdetr import JointDetrForPoseEstimation

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Folder or Hub repository of the checkpoint; the one in the package if left out."),
]
ThresholdOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="A joint less probable than this counts as not found.")
]


class Device(str, Enum):
    """Where to compute, as choices."""

    CPU = "cpu"
    CUDA = "cuda"


class Checkpoint(NamedTuple):
    """A model, ready to run, and its image processor."""

    processor: "JointDetrImageProcessor"
    model: "JointDetrForPoseEstimation"


@contextmanager
def one_line_errors(subject: str) -> Iterator[None]:
    """Report what the user can put right in one line, and exit with code 2."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:  # ImportError: an extra of the package is not installed
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        typer.echo(f"jointdetr: {subject}: {reason.removeprefix(f'{subject}: ')}", err=True)
        raise typer.Exit(2) from error


def load_checkpoint(name: str | None) -> Checkpoint:
    """Load a checkpoint through the Auto classes, from the package itself if no name is given."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForPoseEstimation
    from transformers.utils import logging

    from ..modeling_jointdetr import JointDetrForPoseEstimation

    logging.disable_progress_bar()
    source = name or str(files("jointdetr") / "pretrained")
    with one_line_errors(source):
        model = AutoModelForPoseEstimation.from_pretrained(source, dtype=torch.float32).eval()
        if not isinstance(model, JointDetrForPoseEstimation):
            raise ValueError(f"expected a checkpoint of JointDetrForPoseEstimation, got {type(model).__name__}")
        processor = AutoImageProcessor.from_pretrained(source)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return Checkpoint(processor, model)
