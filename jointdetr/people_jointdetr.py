"""Who is in a picture: the boxes given, those of a named detector, or those of the built-in search; one way for all.

Boxes are x, y, width, height in px of the upright picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from transformers import Pipeline

from .detection_jointdetr import detect_people
from .search_jointdetr import Look, search_people

SEARCH, WHOLE = "search", "whole"
PEOPLE = (SEARCH, WHOLE)
"""Ways to find people without boxes: look for them, or take the whole picture to show one person."""


@dataclass(frozen=True)
class PeopleRequest:
    """How the people of a picture are to be found.

    Args:
        boxes: Their boxes, if they are known; an empty list where nobody is.
        detector: An object-detection pipeline that finds them; None for the built-in search.
        detector_threshold: People whom the detector finds less probable are left out.
        people: "search" looks for them; "whole" takes the whole picture to show one person.

    Raises:
        ValueError: `people` is neither, or "whole" together with boxes or a detector.
    """

    boxes: Sequence | None = None
    detector: Pipeline | None = None
    detector_threshold: float = 0.5
    people: str = SEARCH

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.people not in PEOPLE:
            raise ValueError(f'`people` must be "search" or "whole", got "{self.people}"')
        others = [name for name in ("boxes", "detector") if getattr(self, name) is not None]
        if self.people == WHOLE and others:
            raise ValueError(f'`people` must be "search" beside `{others[0]}`, got "whole"')


def find_people(image: Image.Image, request: PeopleRequest, look: Look) -> Any:
    """Find the people in a picture.

    Args:
        image: The upright picture.
        request: How to find them. Given boxes go first, then the detector, then the built-in search.
        look: The pose network, for the search.

    Returns:
        Their boxes, from left to right where they were looked for; an empty list for nobody; None where the whole
        picture is to be taken as one person.

    Raises:
        ValueError: The detector knows no people.
    """
    if request.people == WHOLE:
        return None
    if request.boxes is not None:
        return request.boxes
    if request.detector is not None:
        return detect_people(request.detector, [image], request.detector_threshold)[0]
    return search_people(image, look)


__all__ = ["PEOPLE", "PeopleRequest", "find_people"]
