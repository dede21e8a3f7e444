"""`jointdetr synthesize`: draw a dataset of synthetic people."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import one_line_errors


@dataclass(frozen=True)
class SynthesizeOptions:
    """Make a dataset of synthetic people with exact 3D joints, ready for training."""

    output: Annotated[Path, typer.Option(help="Folder of the dataset; an interrupted run goes on where it stopped.")]
    count: Annotated[int, typer.Option(min=1, help="Number of people, one picture each.")] = 1000
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other people.")] = 0
    size: Annotated[int, typer.Option(min=1, help="Width and height of the pictures in pixels.")] = 256
    preset: Annotated[
        Literal["everyday", "everything", "nobody"],
        typer.Option(help="Mostly upright people; all poses and steep views as well; or empty rooms."),
    ] = "everyday"
    workers: Annotated[int, typer.Option(min=1, help="Processes to start.")] = 1
    supersampling: Annotated[
        int, typer.Option(min=1, help="Rays along each edge of a pixel; 2 smooths edges for four times the work.")
    ] = 1
    motions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of CMU motion capture (.asf, .amc) to take half of the poses from."),
    ] = None
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to pose and render the people.")] = "cpu"
    sheet: Annotated[bool, typer.Option("--sheet", help="Write sheet.png with the first pictures and joints.")] = False

    def run(self) -> None:
        """Check what is needed before anything is written and any worker started, then write."""
        import torch

        from ..synthesis.rows import SynthesisSettings, synthesize

        settings = asdict(self)
        sheet = settings.pop("sheet")
        with one_line_errors(str(self.output)):
            if self.motions is not None and not any(self.motions.rglob("*.asf")):
                raise ValueError(f"--motions must be a folder of .asf and .amc files, found no .asf in {self.motions}")
            if self.device == "cuda" and not torch.cuda.is_available():
                raise ValueError("--device cuda needs a GPU that PyTorch can use, got none")
            synthesize(SynthesisSettings(**settings))
            if sheet:
                _write_sheet(self.output)
        typer.echo(f"{self.output}: {self.count} people")


def _write_sheet(folder: Path, pictures: int = 40, columns: int = 8) -> None:
    """Write the first pictures of a dataset in a grid to sheet.png in its folder, joints drawn: hollow if not seen."""
    import numpy as np
    from PIL import Image

    from ..data.loading import load_pose_dataset
    from ..skeleton_jointdetr import HUMAN36M
    from ..visualization.figures import draw_overlay

    rows = load_pose_dataset(folder)
    rows = rows.select(range(min(pictures, len(rows))))
    width, height = rows[0]["image"].size
    sheet = Image.new("RGB", (min(columns, len(rows)) * width, -(-len(rows) // columns) * height))
    for number, row in enumerate(rows):
        drawn = draw_overlay(row["image"], np.array(row["joints_2d"]), np.array(row["visible"]), HUMAN36M)
        sheet.paste(drawn, (number % columns * width, number // columns * height))
    sheet.save(folder / "sheet.png")
