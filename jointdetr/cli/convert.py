"""`jointdetr convert`: make a pose dataset of another data set's own files."""

from pathlib import Path
from typing import Annotated

import typer

from .options import one_line_errors

ImagesOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the pictures, where it is not the one that the labels lie in."),
]
StepOption = Annotated[
    int | None,
    typer.Option(min=1, help="Take every n-th frame; if left out, as many as the data set's users do."),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="Which labels, where a data set has several: annot3 or univ_annot3 of 3DHP."),
]
SkeletonOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Map the joints to this skeleton, such as human36m, or to a skeleton.json."),
]
NamesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="JSON object of joints' names in the source: names of this package (bvh, coco)."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="What one data set alone has, such as unit=cm of bvh; may be repeated."
    ),
]


def convert(
    name: Annotated[str, typer.Argument(help="Which data set: human36m, mpi-inf-3dhp, ...; a wrong one lists all.")],
    source: Annotated[Path, typer.Argument(help="Its folder, or the file with its labels.")],
    output: Annotated[Path, typer.Argument(help="Folder to write to; an interrupted run goes on where it stopped.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes to start.")] = 1,
    check: Annotated[int, typer.Option(min=0, help="Draw the labels of so many rows, to look at.")] = 0,
    step: StepOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows of each recording.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split, such as train or test.")] = None,
    images: ImagesOption = None,
    labels: LabelsOption = None,
    skeleton: SkeletonOption = None,
    names: NamesOption = None,
    options: SetOption = None,
) -> None:
    """Convert a data set of pictures with 3D poses, or of poses alone, for training and evaluation."""
    from ..converters.conversion import ConversionSettings
    from ..converters.conversion import convert as write_dataset
    from ..converters.report import write_check_pictures
    from ..converters.sources import Source, make_converter

    with one_line_errors(str(source)):
        described = Source(source, images, step, labels, skeleton, names, _by_name(options or []))
        converter = make_converter(name, described)
        report = write_dataset(converter, ConversionSettings(output, workers, split, limit))
        drawn = write_check_pictures(output, check) if check else []
    for line in report.lines():
        typer.echo(line)
    if drawn:
        typer.echo(f"{len(drawn)} pictures to look at: {drawn[0].parent}")
    complaints = list(report.complaints())
    for complaint in complaints:
        typer.echo(f"jointdetr: {source}: {complaint}", err=True)
    if complaints:
        raise typer.Exit(2)
    typer.echo(f"{output}: {sum(report.rows.values())} rows")


def _by_name(options: list[str]) -> dict[str, str]:
    """Split `NAME=VALUE`."""
    split = [option.partition("=") for option in options]
    for option, (name, equals, value) in zip(options, split, strict=True):
        if not (name and equals and value):
            raise ValueError(f"--set must have the form NAME=VALUE, got {option!r}")
    return {name: value for name, _, value in split}
