"""`jointdetr demo`: the page to try the model in a browser."""

from typing import Annotated

import typer

from .options import ModelOption, one_line_errors


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
