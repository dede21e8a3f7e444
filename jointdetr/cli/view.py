"""`jointdetr view`: look at poses in 3D."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import one_line_errors

if TYPE_CHECKING:
    from ..motion import PoseMotion


def view(
    poses: Annotated[Path, typer.Argument(help="Poses as .json, .npz or .parquet, of a picture or of a film.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write, and open nothing. Without it POSES.html is written and opened.")
    ] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Use the viewer rerun (the extra `view`); --output is then an .rrd file.")
    ] = False,
) -> None:
    """Look at poses in 3D: a web page in one file, which needs no network."""
    from ..motion import load_motions
    from ..visualization import write_viewer_html

    with one_line_errors(str(poses)):
        motions = load_motions(poses)
    if rerun:
        from ..visualization.rerun_log import show_in_rerun

        with one_line_errors("--rerun"):
            show_in_rerun(motions, output)
        return
    page = output or poses.with_suffix(".html")
    with one_line_errors(str(page)):
        write_viewer_html(motions, page, title=poses.name)
    typer.echo(f"{poses}: {_summary(motions)}, see {page}")
    if output is None:
        webbrowser.open(page.resolve().as_uri())


def _summary(motions: list["PoseMotion"]) -> str:
    """How many people in how many frames."""
    frames = max((len(motion) for motion in motions), default=0)
    people = "1 person" if len(motions) == 1 else f"{len(motions)} people"
    return people if frames < 2 else f"{people}, {frames} frames"
