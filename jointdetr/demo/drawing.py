"""The picture on which a visitor draws boxes: what it shows, and what it sends."""

import base64
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image

from ..people.boxes import Box


def drawing_value(display: Image.Image, size: tuple[int, int], boxes: Sequence[Box] | None) -> str:
    """Return what the picture to act on shows, as JSON.

    Args:
        display: A small copy of the picture.
        size: The picture's true width and height in px.
        boxes: What to show in place of the boxes that are there; `None` leaves them, for they may have gone on.
    """
    stream = BytesIO()
    display.save(stream, "JPEG", quality=80)
    picture = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    return json.dumps({"picture": picture, "size": size, "boxes": boxes})


def drawn_boxes(value: str | None) -> Any:
    """Return the boxes that a visitor drew, unchecked; `None` to have the people found.

    Raises:
        ValueError: It is not what the picture sends.
    """
    try:
        return json.loads(value)["boxes"] if value else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the picture sent no boxes") from error
