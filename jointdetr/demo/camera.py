"""The camera as a visitor says it: a guess, a focal length in pixels, or a field of view in degrees."""

from ..camera_jointdetr import GUESSED_FIELD_OF_VIEW, Camera

UNKNOWN = f"unknown: a guess of {GUESSED_FIELD_OF_VIEW:g} degrees"
FOCAL_LENGTH, FIELD_OF_VIEW = "focal length", "field of view"
KINDS = (UNKNOWN, FOCAL_LENGTH, FIELD_OF_VIEW)
NUMBER_LABELS = {FOCAL_LENGTH: "Focal length (pixels of this picture)", FIELD_OF_VIEW: "Field of view (degrees)"}
"""What the number beside each kind is; there is none for an unknown camera."""
MAX_FOCAL_PX = 1e6


def camera_of(kind: str, value: float | None, size: tuple[int, int]) -> Camera:
    """Return the camera of a picture of `size` (width, height) px, looking through its middle; a guess if unknown.

    A field of view is the angle across the picture's longer side.

    Raises:
        ValueError: The number cannot be right.
    """
    if kind == UNKNOWN or not value:  # an empty number field is 0
        return Camera.from_field_of_view(GUESSED_FIELD_OF_VIEW, size)
    if kind == FIELD_OF_VIEW:
        if not 1 <= value <= 170:
            raise ValueError(f"a field of view must be from 1 to 170 degrees, got {value:g}")
        return Camera.from_field_of_view(value, size)
    if not 1 <= value <= MAX_FOCAL_PX:
        raise ValueError(f"a focal length must be from 1 to {MAX_FOCAL_PX:g} pixels, got {value:g}")
    return Camera.from_focal_px(value, size)
