"""The area on which a visitor draws boxes: what it shows, and what it sends."""

import base64
import json
from io import BytesIO
from typing import Any

from PIL import Image

from ..people.boxes import Box


def drawing_value(display: Image.Image, size: tuple[int, int], boxes: list[Box]) -> str:
    """Return what the drawing area shows, as JSON: a small copy of the picture, its true size and the boxes."""
    stream = BytesIO()
    display.save(stream, "JPEG", quality=80)
    picture = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    return json.dumps({"picture": picture, "size": size, "boxes": boxes})


def drawn_boxes(value: str | None) -> Any:
    """Return the boxes of the drawing area's value, unchecked.

    Raises:
        ValueError: It is not what the drawing area sends.
    """
    try:
        return json.loads(value)["boxes"] if value else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the drawing area sent no boxes") from error
