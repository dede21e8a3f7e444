"""`jointdetr convert`: make a pose dataset of another data set's own files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import one_line_errors


@dataclass(frozen=True)
class ConvertOptions:
    """Convert a data set of pictures with 3D poses, or of poses alone, for training and evaluation."""

    name: Annotated[str, typer.Argument(help="Which data set: human36m, mpi-inf-3dhp, ...; a wrong one lists all.")]
    source: Annotated[Path, typer.Argument(help="Its folder, or the file with its labels.")]
    output: Annotated[Path, typer.Argument(help="Folder to write to; an interrupted run goes on where it stopped.")]
    workers: Annotated[int, typer.Option(min=1, help="Processes to start.")] = 1
    check: Annotated[int, typer.Option(min=0, help="Draw the labels of so many rows, to look at.")] = 0
    split: Annotated[str | None, typer.Option(help="Only this split, such as train or test.")] = None
    skeleton: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Map the joints to this skeleton, such as human36m, or to a skeleton.json."),
    ] = None
    step: Annotated[
        int | None,
        typer.Option(min=1, help="Take every n-th frame; if left out, as many as the data set's users do."),
    ] = None
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the pictures, where it is not the one that the labels lie in."),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What one data set alone has, as unit=cm of bvh; may be repeated."),
    ] = None

    @property
    def of_converter(self) -> dict[str, Any]:
        """Options that go to the converter."""
        given: dict[str, Any] = {"step": self.step, "images": self.images}
        for option in self.set or ():
            name, _, value = option.partition("=")
            if not name or not value:
                raise ValueError(f"--set must have the form NAME=VALUE, got {option!r}")
            given[name] = value
        return {name: value for name, value in given.items() if value is not None}

    def run(self) -> None:
        """Convert, report what was left out, and end with code 2 if something must be put right."""
        from ..converters.conversion import convert, make_converter
        from ..converters.report import write_check_pictures
        from ..formats.skeletons import find_skeleton

        with one_line_errors(str(self.source)):
            converter = make_converter(self.name, self.source, **self.of_converter)
            skeleton = None if self.skeleton is None else find_skeleton(self.skeleton)
            report = convert(converter, self.output, self.workers, self.split, skeleton)
            drawn = write_check_pictures(self.output, self.check) if self.check else []
        for line in report.lines():
            typer.echo(line)
        if drawn:
            typer.echo(f"{len(drawn)} pictures to look at: {drawn[0].parent}")
        complaints = list(report.complaints())
        for complaint in complaints:
            typer.echo(f"jointdetr: {self.source}: {complaint}", err=True)
        if complaints:
            raise typer.Exit(2)
        typer.echo(f"{self.output}: {sum(report.rows.values())} rows")
