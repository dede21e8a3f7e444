"""What keeps a public server safe: it opens only what was uploaded to it, fetches nothing, and limits what it accepts.

Gradio itself would download an address that a client names in place of an upload, and would fetch one for
`/gradio_api/file=http://...`. Neither is wanted here: a picture is uploaded, or sent as base64 through MCP.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..formats.film import FrameReader
from ..people_jointdetr import Box
from ..picture_jointdetr import DECODING_ERRORS, load_picture
from . import DemoSettings

UPLOAD_FIRST = "A file must be uploaded first: this server opens no path and no address that a client names."
MIN_SIDE_PX = 4  # of a box
NO_PICTURE = "This file could not be read as a picture."
NO_FILM = "this file could not be read as a film"
# What films come in; FFmpeg also reads playlists, which name other files.
FILM_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,gif"
FETCHES_ADDRESS = re.compile(r"/(file[=/]|proxy=)\W*https?:", flags=re.IGNORECASE)


class GuardedBlocks(gr.Blocks):
    """Blocks whose listeners, public and private, take no file but an uploaded one, and explain what they refuse."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Check the inputs of a listener before Gradio touches them."""
        refuse_foreign_files(inputs)
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except gr.Error:  # which is a ValueError too
            raise
        except ValueError as error:
            raise gr.Error(_reason(error), print_exception=False) from error


class RequestGuard:
    """ASGI middleware that refuses addresses to be fetched, and bodies larger than an upload may be."""

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if FETCHES_ADDRESS.search(scope["path"]):
            await PlainTextResponse(UPLOAD_FIRST, status_code=403)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, f"a request may have at most {self.max_bytes} bytes")
            return message

        await self.app(scope, receive_limited, send)


def refuse_foreign_files(value: Any) -> None:
    """Raise `gr.Error` if nested data of a request name a file that was not uploaded to this server."""
    if isinstance(value, dict):
        if value.get("path") is not None and not _is_uploaded(value["path"]):
            raise gr.Error(UPLOAD_FIRST, print_exception=False)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            refuse_foreign_files(item)


def _is_uploaded(path: Any) -> bool:
    if not isinstance(path, str) or "://" in path or "\0" in path:
        return False
    file = Path(path).resolve()
    return file.is_relative_to(Path(get_upload_folder()).resolve()) and file.is_file()


def _reason(error: Exception) -> str:
    """Say in words for a visitor why an input was refused, naming no file of the server."""
    cause = error.__cause__
    if isinstance(cause, Image.DecompressionBombError):
        return "The picture has too many pixels."
    if isinstance(cause, DECODING_ERRORS):
        return NO_PICTURE
    return "The request's data are not what this endpoint takes."


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a visitor what the package refuses, in its own words and without a stack trace. Also a decorator."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        raise gr.Error(message[:1].upper() + message[1:], print_exception=False) from error


def open_picture(path: str | None, settings: DemoSettings) -> Image.Image:
    """Open an uploaded picture, upright RGB; ValueError if there is none, it cannot be read, or it is too large."""
    if path is None:
        raise ValueError("give a picture first")
    require_file_size(path, settings)
    try:
        with Image.open(path) as header:
            megapixels = header.width * header.height / 1e6
            if megapixels <= settings.max_megapixels:  # more, decoded, would fill the memory
                return load_picture(header)
    except DECODING_ERRORS as error:
        raise ValueError(NO_PICTURE) from error
    limit = f"{settings.max_megapixels:g} million pixels"
    raise ValueError(f"a picture may have at most {limit}, this one has {megapixels:.0f} million")


def parse_boxes(value: Any, image: Image.Image, max_people: int) -> list[Box]:
    """Return boxes within the upright picture from `[[x, y, width, height], ...]` in px that a client sent.

    ValueError if they are no boxes, more than `max_people`, or do not lie in the picture.
    """
    if not isinstance(value, list) or not all(_is_box(box) for box in value):
        raise ValueError(f"boxes must be a list of [x, y, width, height] in pixels, got {str(value)[:100]}")
    if len(value) > max_people:
        raise ValueError(f"there may be at most {max_people} people, got {len(value)}")
    boxes = []
    for x, y, width, height in value:
        left, top = max(x, 0), max(y, 0)
        box = [left, top, min(x + width, image.width) - left, min(y + height, image.height) - top]
        if min(box[2:]) < MIN_SIDE_PX:
            size, given = f"{image.width} x {image.height}", [x, y, width, height]
            raise ValueError(f"a box must show some of the picture of {size} pixels, got {given}")
        boxes.append(box)
    return boxes


def _is_box(box: Any) -> bool:
    is_four = isinstance(box, list) and len(box) == 4
    return is_four and all(isinstance(number, (int, float)) and math.isfinite(number) for number in box)


def read_boxes(text: str) -> list[Box]:
    """Return the boxes of a text `x y width height; x y width height`, unchecked; commas are taken as blanks."""
    rows = [row.replace(",", " ").split() for row in text.split(";")]
    try:
        return [[float(word) for word in row] for row in rows if row]
    except ValueError as error:
        raise ValueError(f"boxes must be numbers, x y width height; x y width height, got {text[:100]!r}") from error


def require_film(path: str | None, settings: DemoSettings) -> tuple[int, int]:
    """Return the size (width, height) of the upright pictures of an uploaded film.

    ValueError if there is none, it cannot be read, or it is too large or too long.
    """
    if path is None:
        raise ValueError("give a film first")
    require_file_size(path, settings)
    reader = FrameReader(path, options={"format_whitelist": FILM_FORMATS})
    try:
        info = reader.info()
    except ValueError as error:  # it names the file's place on this machine
        raise ValueError(NO_FILM) from error
    limit_s, limit_megapixels = settings.max_video_seconds, settings.max_megapixels
    if info.duration_s is not None and info.duration_s > limit_s:
        raise ValueError(f"a film may have at most {limit_s:g} seconds, this one has {info.duration_s:.0f}")
    if info.size[0] * info.size[1] > limit_megapixels * 1e6:
        shape = " x ".join(str(side) for side in info.size)
        raise ValueError(f"a film's pictures may have at most {limit_megapixels:g} million pixels, here {shape}")
    try:
        return next(iter(reader)).image.size
    except ValueError as error:
        raise ValueError(NO_FILM) from error


def require_file_size(path: str, settings: DemoSettings) -> None:
    """Refuse a file that is larger than the settings allow."""
    megabytes = Path(path).stat().st_size / 1e6
    if megabytes > settings.max_file_mb:
        raise ValueError(f"a file may have at most {settings.max_file_mb:g} MB, this one has {megabytes:.0f} MB")
