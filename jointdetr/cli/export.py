"""`jointdetr export`: write the network for other runtimes, and compare it with the model."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .options import ModelOption, load_checkpoint, one_line_errors

TOLERANCE_MM = 0.01


class ExportChoice(str, Enum):
    """The formats of `jointdetr.hub.export`, as choices."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"


def export(
    output: Annotated[Path, typer.Option(help="Folder for the network, its config and its processor.")] = Path(
        "exported"
    ),
    model: ModelOption = None,
    format: Annotated[ExportChoice, typer.Option("--format", help="What is to run it.")] = ExportChoice.ONNX,
) -> None:
    """Export a model to ONNX or `torch.export`: fixed input size, any batch size, the same joints."""
    import torch

    from ..hub.export import ExportedModel, export_model

    checkpoint = load_checkpoint(model)
    network = checkpoint.model.to("cpu")
    with one_line_errors(str(output)):
        try:
            path = export_model(network, checkpoint.processor, output, format.value)
            size = checkpoint.processor.size
            pixel_values = torch.randn(3, 3, size["height"], size["width"], generator=torch.Generator().manual_seed(0))
            exported = ExportedModel(path)(pixel_values)
        except ImportError as error:
            raise ValueError(str(error)) from error
        with torch.inference_mode():
            wanted = network(pixel_values=pixel_values)
        error_mm = (exported.pred_joints - wanted.pred_joints).abs().max().item()
        if not error_mm < TOLERANCE_MM:
            raise ValueError(f"the exported joints must be within {TOLERANCE_MM} mm of the model's, got {error_mm} mm")
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB, joints within {error_mm:.5f} mm of the model's")
