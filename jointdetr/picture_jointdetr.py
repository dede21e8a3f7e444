"""Any picture a user may hand over -> an upright 8-bit RGB `PIL.Image`.

Files, URLs, base64 strings, PIL images, NumPy arrays and torch tensors are read; the EXIF orientation is applied,
transparency is laid over white (as transformers does), 16-bit pictures are scaled to 8 bits.
"""

import base64
import binascii
import os
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import ChannelDimension

CHANNEL_COUNTS = (1, 3, 4)
# What Pillow raises for files that are truncated, broken, no picture at all, or too large to be true.
DECODING_ERRORS = (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError)
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that trade width and height
TIMEOUT_SECONDS = 60
SHORTEST_PICTURE_BYTES = 24  # a GIF of one pixel has 35
HEIC_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")
FLOAT_TOLERANCE = 1e-3  # interpolation leaves values a little outside [0, 1]


def iterate_pictures(images: Any) -> Iterator[Any]:
    """Yield each picture of a single one, an array of them `(pictures, ..., ..., ...)`, or a list nested at will."""
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from iterate_pictures(image)
    elif isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        yield from images
    else:
        yield images


def load_picture(source: Any, name: str = "picture", data_format: ChannelDimension | str | None = None) -> Image.Image:
    """Return any picture as an upright 8-bit RGB image.

    Args:
        source: Path, URL, base64 string, PIL image, array or tensor. Arrays are `(height, width)`,
            `(height, width, channels)` or `(channels, height, width)` with 1, 3 or 4 channels: integers from 0 to 255,
            16-bit unsigned integers, booleans, or floating-point numbers within [0, 1] or within [0, 255].
        name: What an error message calls it.
        data_format: Where an array's channels are. Without it arrays are taken as channels-last and tensors as
            channels-first where both would do.

    Returns:
        The picture in mode "RGB".

    Raises:
        ValueError: It cannot be found, decoded or understood.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _from_array(source, name, data_format)
    shown = _short(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else repr(source)
    if isinstance(source, (str, os.PathLike)):
        source = _open(os.fspath(source), name)
    if not isinstance(source, Image.Image):
        raise ValueError(
            f"`{name}` must be a path, URL, base64 string, PIL image, array or tensor, got {type(source).__name__}"
        )
    try:
        source.load()
        if source.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            source = ImageOps.exif_transpose(source)
    except DECODING_ERRORS as error:
        raise ValueError(f"`{name}` must be a readable picture, got {shown}: {error}") from error
    return _to_rgb(source, name)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height that `load_picture` gives an opened picture, from its header alone.

    Raises:
        OSError, SyntaxError, ValueError: Its EXIF data cannot be read.
    """
    if image.format == "TIFF":  # Pillow turns these by itself, and has their upright size from the start
        return image.size
    width, height = image.size
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS else (width, height)


def _open(source: str, name: str) -> Image.Image:
    """Open a path, URL or base64 string without decoding the pixels."""
    if os.path.isdir(source):
        raise ValueError(f"`{name}` must be a picture, got the folder {_short(source)}: name the files in it")
    try:
        if source.startswith(("http://", "https://")):
            with urlopen(Request(source, headers={"User-Agent": "jointdetr"}), timeout=TIMEOUT_SECONDS) as response:
                return Image.open(BytesIO(response.read()))
        if os.path.isfile(source):
            return Image.open(source)
        return _open_base64(source)
    except binascii.Error as error:
        raise ValueError(f"`{name}` must be an existing file, a URL or base64, got {_short(source)}") from error
    except (*DECODING_ERRORS, IndexError) as error:
        reason = _reason(error, source)
        raise ValueError(f"`{name}` must be a readable picture, got {_short(source)}: {reason}") from error


def _open_base64(source: str) -> Image.Image:
    """Open a picture in base64; `binascii.Error` for what is none, such as the name of a file that is missing."""
    encoded = source.split(",", 1)[1] if source.startswith("data:image/") else source
    decoded = base64.b64decode("".join(encoded.split()), validate=True)
    if len(decoded) < SHORTEST_PICTURE_BYTES:  # many a name is made of base64's letters
        raise binascii.Error("too short for a picture")
    return Image.open(BytesIO(decoded))


def _reason(error: Exception, source: str) -> str:
    """What is wrong with a picture, without the address of a buffer or a second mention of the file."""
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        return f"it cannot be fetched: {getattr(error.reason, 'strerror', None) or error.reason}"
    if not isinstance(error, UnidentifiedImageError):
        return _short(str(error))
    return "HEIC is not read here: save it as JPEG" if _is_heic(source) else "no kind of picture that Pillow knows"


def _is_heic(source: str) -> bool:
    """Whether a file is a picture in Apple's usual format, whatever its name."""
    if not os.path.isfile(source):
        return False
    with open(source, "rb") as file:
        return file.read(12)[4:] in HEIC_BRANDS


def _short(text: str) -> str:
    """Shorten what was got, which may be a whole file in base64."""
    return repr(text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode of Pillow, whose own conversion would clip 16-bit and floating-point pictures."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # "I;16" and its relatives, and "I" where older Pillows put 16-bit files
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"`{name}` must have 16-bit values, got {values.min()} to {values.max()}")
        return _from_array(values.astype(np.uint16), name, ChannelDimension.LAST)
    if image.mode == "F":
        return _from_array(np.asarray(image), name, ChannelDimension.LAST)
    return Image.fromarray(np.asarray(convert_to_rgb(image, return_numpy=True)))


def _from_array(array: Any, name: str, data_format: ChannelDimension | str | None) -> Image.Image:
    """Convert an array or tensor."""
    prefer_first = isinstance(array, torch.Tensor)
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and _channels_are_first(shape, data_format, prefer_first):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in CHANNEL_COUNTS or 0 in shape:
        raise ValueError(
            f"`{name}` must be (height, width), (height, width, channels) or (channels, height, width) with 1, 3 or 4 "
            f"channels and at least one pixel, got shape {tuple(shape)}"
        )
    pixels = _to_bytes(array, name)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(pixels)), name)


def _channels_are_first(
    shape: tuple[int, ...], data_format: ChannelDimension | str | None, prefer_first: bool
) -> bool:
    """Tell the layout of a three-dimensional array."""
    if data_format is not None:
        return ChannelDimension(data_format) == ChannelDimension.FIRST
    first, last = shape[0] in CHANNEL_COUNTS, shape[-1] in CHANNEL_COUNTS
    return first and (prefer_first or not last)


def _to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    """Scale values of any type to 0 ... 255."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must hold numbers, got {values.dtype}")
    low, high = values.min(), values.max()  # NaN where any value is NaN, and then no comparison holds
    if values.dtype.kind == "f" and low >= -FLOAT_TOLERANCE and high <= 1 + FLOAT_TOLERANCE:
        return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    # Floating-point values whose maximum is just above 1 are no picture of 0 ... 255, and would come out black.
    if low >= 0 and high <= 255 and (values.dtype.kind != "f" or high >= 2):
        return np.rint(values).astype(np.uint8)
    raise ValueError(
        f"`{name}` must hold values from 0 to 255 (floating-point ones from 0 to 1 or from 0 to 255), "
        f"got {values.dtype} from {low} to {high}"
    )
