"""Film or picture? By the name where it tells, by the content where it does not.

`.ts` may be a film or the source of a program, a `.gif` may move, and a file may have no suffix at all.
"""

from pathlib import Path
from urllib.parse import urlparse

from PIL import Image

from ..picture_jointdetr import DECODING_ERRORS
from .reading import FrameReader

FILM_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv")
)
PICTURE_SUFFIXES = frozenset((".bmp", ".heic", ".jpeg", ".jpg", ".jxl", ".png", ".tif", ".tiff", ".webp"))
MOVING_FORMATS = ("GIF",)  # of those that Pillow reads


def is_film(source: str) -> bool:
    """Tell whether a file or URL is a film: moving pictures, of whatever kind.

    Where neither name nor content tells, it is taken for a picture, whose reader then says what is wrong with it.
    """
    is_address = "://" in source
    suffix = Path(urlparse(source).path if is_address else source).suffix.lower()
    if suffix in FILM_SUFFIXES or suffix in PICTURE_SUFFIXES:
        return suffix in FILM_SUFFIXES
    if is_address or not Path(source).is_file():
        return False
    try:
        with Image.open(source) as image:
            return image.format in MOVING_FORMATS and image.n_frames > 1
    except DECODING_ERRORS:
        return _holds_a_film(source)


def _holds_a_film(path: str) -> bool:
    """Tell whether FFmpeg finds moving pictures in a file."""
    try:
        FrameReader(path).info()
    except (ImportError, ValueError):
        return False
    return True
