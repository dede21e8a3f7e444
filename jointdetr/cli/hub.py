"""`jointdetr push` and `jointdetr export`: publish a model on the Hugging Face Hub, write it for other runtimes."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import ModelOption, load_checkpoint, one_line_errors

if TYPE_CHECKING:
    from ..hub import ReportedEvaluation

TOLERANCE_MM = 0.01  # between the exported network's joints and the model's

LicenseOption = Annotated[
    str | None, typer.Option(help="Licence of the weights, as apache-2.0; needed unless the folder has a README.md.")
]
EvaluationOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=FILE", help="JSON file of `jointdetr evaluate` for the card. May be repeated."),
]


def push(
    repo: Annotated[str, typer.Argument(help="Name on the Hub, USER/NAME.")],
    model: ModelOption = None,
    tag: Annotated[str | None, typer.Option(help="Name of this version, as v1.0.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Publish a new version where files are already.")] = False,
    license: LicenseOption = None,
    training_data: Annotated[str | None, typer.Option(help="What it was trained on, for the card.")] = None,
    evaluation: EvaluationOption = None,
    space: Annotated[bool, typer.Option("--space", help="Publish the demo as a Space of the same name too.")] = False,
    space_folder: Annotated[Path, typer.Option(help="The Space's own files, as in the repository.")] = Path("space"),
) -> None:
    """Publish a model on the Hub: weights, image processor, code and model card."""
    from ..hub import ModelCardDetails, PushSettings, push_to_hub

    checkpoint = load_checkpoint(model)  # first, since a folder that is not there has no card either
    with one_line_errors(repo):
        details = ModelCardDetails(
            license=license,
            training_data=training_data,
            evaluations=_read_evaluations(evaluation or []),
            page=_existing_card(model),
            revision=tag,
        )
        settings = PushSettings(private, update, tag, space_folder if space else None)
        addresses = push_to_hub(checkpoint.model, checkpoint.processor, repo, details, settings)
    for address in addresses:
        typer.echo(f"published {address}")


def _read_evaluations(options: list[str]) -> "list[ReportedEvaluation]":
    """Read the files behind NAME=FILE."""
    from ..hub import ReportedEvaluation

    evaluations = []
    for option in options:
        name, separator, path = option.partition("=")
        if not (name and separator):
            raise ValueError(f"--evaluation must be NAME=FILE, got {option}")
        evaluations.append(ReportedEvaluation.read(path, name))
    return evaluations


def _existing_card(model: str | None) -> Path | None:
    """The model card in the checkpoint's folder, if it is a folder and has one."""
    page = Path(model or str(files("jointdetr") / "pretrained")) / "README.md"
    return page if page.is_file() else None


def export(
    output: Annotated[Path, typer.Option(help="Folder for the network, its config and its processor.")] = Path(
        "exported"
    ),
    model: ModelOption = None,
    format: Annotated[Literal["onnx", "torch-export"], typer.Option(help="What is to run it.")] = "onnx",
) -> None:
    """Export a model to ONNX or `torch.export`: fixed input size, any batch size, the same joints."""
    import torch

    from ..hub.export import ExportedModel, export_model

    checkpoint = load_checkpoint(model)
    network = checkpoint.model.to("cpu")
    with one_line_errors(str(output)):
        try:
            path = export_model(network, checkpoint.processor, output, format)
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
