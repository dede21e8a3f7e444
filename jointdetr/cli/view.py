"""`jointdetr view` and `jointdetr demo`: poses in 3D, and the model to try, in a browser."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import ModelOption, one_line_errors

if TYPE_CHECKING:
    from ..formats.motions import PoseMotion


def view(
    poses: Annotated[
        Path, typer.Argument(help="Poses of a picture or of a film, as .json, .npz, .parquet, .html, .glb or .bvh.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="File to write, and open nothing. Without it POSES.html is written and opened.")
    ] = None,
    angles: Annotated[
        bool,
        typer.Option("--angles", help="Joint angles: a figure (.png, .svg, .pdf) or a table (.csv, .parquet)."),
    ] = False,
    floor: Annotated[
        bool, typer.Option("--floor", help="People upright on the floor, feet that stand; the camera must be known.")
    ] = False,
) -> None:
    """Look at poses in 3D: a web page in one file, which needs no network."""
    from ..motion.floor import stand_all_on_floor
    from ..visualization import read_poses, write_viewer_html

    with one_line_errors(str(poses)):
        motions = read_poses(poses)
        if floor:
            motions, fits = stand_all_on_floor(motions)
            for motion, fit in zip(motions, fits, strict=True):
                typer.echo(f"person {motion.person + 1} {fit.describe()}")
    if angles:
        _write_angles(motions, poses, output)
        return
    page = output or poses.with_suffix(".html")
    with one_line_errors(str(page)):
        write_viewer_html(motions, page, title=poses.name)
    typer.echo(f"{poses}: {_summary(motions)}, see {page}")
    if output is None:
        webbrowser.open(page.resolve().as_uri())


def _write_angles(motions: list["PoseMotion"], poses: Path, output: Path | None) -> None:
    """Write the joint angles, and open the figure if no file was asked for."""
    from ..visualization.files import write_angle_figures, write_angles

    path = output or poses.with_suffix(".angles.png")
    with one_line_errors(str(path)):
        write = write_angles if path.suffix.lower() in (".csv", ".parquet") else write_angle_figures
        written = write(motions, path)
    names = ", ".join(str(each) for each in written) or "nothing, as nobody is there"
    typer.echo(f"{poses}: joint angles of {_summary(motions)}, see {names}")
    if output is None and written:
        webbrowser.open(next(iter(written)).resolve().as_uri())


def _summary(motions: list["PoseMotion"]) -> str:
    """How many people in how many frames."""
    from ..people.words import count_people

    frames = max((len(motion) for motion in motions), default=0)
    people = count_people(len(motions))
    return people if frames < 2 else f"{people}, {frames} frames"


def demo(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in the network use the demo.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen at.", show_default="the first free one from 7860"),
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Make a public link through gradio.live.")] = False,
    model: ModelOption = None,
) -> None:
    """Try the model in a browser: pictures, films, and a skeleton that turns under the mouse.

    Further settings, such as a detector of people and limits, are environment variables; see docs/space.md.
    """
    with one_line_errors("demo"):
        try:
            from ..demo.app import launch
        except ModuleNotFoundError as error:
            raise ValueError(f'{error}; install the extra: pip install "jointdetr[space]"') from error
        from ..demo import DemoSettings

        launch(DemoSettings.from_environment(model=model), host, port, share)
