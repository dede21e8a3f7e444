"""`jointdetr push` and `jointdetr export`: publish a model on the Hugging Face Hub, write it for other runtimes."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import ModelOption, load_checkpoint, one_line_errors

TOLERANCE_MM = 0.01  # between the exported network's joints and the model's


@dataclass(frozen=True)
class PushOptions:
    """Publish a model on the Hub: weights, image processor, code and model card."""

    repo: Annotated[str, typer.Argument(help="Name on the Hub, USER/NAME.")]
    model: ModelOption = None
    tag: Annotated[str | None, typer.Option(help="Name of this version, as v1.0.")] = None
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False
    update: Annotated[bool, typer.Option("--update", help="Publish a new version where files are already.")] = False
    license: Annotated[
        str | None,
        typer.Option(help="Licence of the weights, as apache-2.0; needed without a README.md in the folder."),
    ] = None
    training_data: Annotated[str | None, typer.Option(help="What it was trained on, for the card.")] = None
    evaluation: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="JSON file of `jointdetr evaluate` for the card. May be repeated."),
    ] = None
    space: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Publish the demo as a Space too, with its own files, as the repository's."),
    ] = None

    def run(self) -> None:
        """Publish."""
        from ..hub import ModelCardDetails, PushSettings, ReportedEvaluation, push_to_hub

        processor, model = load_checkpoint(self.model)  # first, since a folder that is not there has no card either
        page = Path(self.model or str(files("jointdetr") / "pretrained")) / "README.md"
        with one_line_errors(self.repo):
            evaluations = []
            for option in self.evaluation or ():
                name, separator, path = option.partition("=")
                if not (name and separator):
                    raise ValueError(f"--evaluation must be NAME=FILE, got {option}")
                evaluations.append(ReportedEvaluation.read(path, name))
            details = ModelCardDetails(
                license=self.license,
                training_data=self.training_data,
                evaluations=evaluations,
                page=page if page.is_file() else None,
                revision=self.tag,
            )
            settings = PushSettings(self.private, self.update, self.tag, self.space)
            addresses = push_to_hub(model, processor, self.repo, details, settings)
        for address in addresses:
            typer.echo(f"published {address}")


def export(
    output: Annotated[Path, typer.Option(help="Folder for network, config and processor.")] = Path("exported"),
    model: ModelOption = None,
    format: Annotated[Literal["onnx", "torch-export"], typer.Option(help="What is to run it.")] = "onnx",
) -> None:
    """Export a model to ONNX or `torch.export`: fixed input size, any batch size, the same joints."""
    import torch

    from ..hub.export import ExportedModel, export_model

    processor, network = load_checkpoint(model)
    network.to("cpu")
    with one_line_errors(str(output)):
        path = export_model(network, processor, output, format)
        shape = (3, 3, processor.size["height"], processor.size["width"])
        pixel_values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        exported = ExportedModel(path)(pixel_values)
        with torch.inference_mode():
            wanted = network(pixel_values=pixel_values)
        error_mm = (exported.pred_joints - wanted.pred_joints).abs().max().item()
        if not error_mm < TOLERANCE_MM:
            raise ValueError(f"the exported joints must be within {TOLERANCE_MM} mm of the model's, got {error_mm} mm")
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB, joints within {error_mm:.5f} mm of the model's")
