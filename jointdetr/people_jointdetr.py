"""Who is in a picture: the boxes given, those of a detector, or those of the built-in search; one way for all.

A detector is any object-detection model of transformers. Boxes are x, y, width, height in px of the upright picture.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from transformers import Pipeline, pipeline

from .search_jointdetr import Look, box_overlaps, search_people

SEARCH, WHOLE = "search", "whole"
PEOPLE = (SEARCH, WHOLE)
"""Ways to find people without boxes: look for them, or take the whole picture to show one person."""

PERSON = "person"
DUPLICATE_OVERLAP = 0.8  # intersection over union; people side by side or one behind the other overlap less


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


def load_detector(detector: Pipeline | str | os.PathLike, **options: Any) -> Pipeline:
    """Return the object-detection pipeline of a checkpoint; one that is a pipeline already is returned as it is.

    Args:
        detector: An object-detection pipeline, or the folder or Hub repository of a checkpoint for it.
        options: More arguments of `transformers.pipeline`, such as `device`.

    Returns:
        The pipeline.

    Raises:
        OSError: There is no such checkpoint.
        ValueError: It does not detect objects.
        TypeError: It is neither a pipeline nor the name of a checkpoint.
    """
    if isinstance(detector, (str, os.PathLike)):
        return pipeline("object-detection", model=os.fspath(detector), **options)
    if not callable(detector):
        raise TypeError(
            "`detector` must be an object-detection pipeline, or the folder or Hub repository of a checkpoint for it, "
            f"got {type(detector).__name__}"
        )
    return detector


def detect_people(
    detector: Pipeline | str | os.PathLike, images: Sequence[Image.Image], threshold: float = 0.5
) -> list[list[list[float]]]:
    """Find the people in pictures.

    Args:
        detector: An object-detection pipeline, or the folder or Hub repository of a checkpoint for it. One of its
            labels must be "person". Pass the pipeline to load it only once.
        images: Upright pictures.
        threshold: People less probable than this are left out.

    Returns:
        For each picture the boxes of its people, cut at the picture's edges, from left to right (and from top to
        bottom where two begin in the same column); an empty list where there is nobody. Of boxes that all but
        coincide, which show one person twice, the most probable is kept.

    Raises:
        ValueError: The threshold is outside [0, 1], or the detector knows no people.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the detector's `threshold` must be in [0, 1], got {threshold}")
    detector = load_detector(detector)
    label = _person_label(detector)
    found: Any = detector(list(images), threshold=threshold) if images else []
    return [
        _boxes_of_people([thing for thing in things if thing["label"] == label], image.size)
        for things, image in zip(found, images, strict=True)
    ]


def _person_label(detector: Pipeline) -> str:
    """Return what the detector calls a person."""
    labels = list(detector.model.config.id2label.values())
    for label in labels:
        if label.strip().lower() == PERSON:
            return label
    raise ValueError(f'`detector` must have the label "{PERSON}", got the labels {", ".join(sorted(labels)[:10])} ...')


def _boxes_of_people(people: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[list[float]]:
    """Return boxes cut at the edges of a picture of `size` (width, height), in order; empty ones are left out."""
    width, height = size
    boxes = []
    for person in sorted(people, key=lambda person: -person["score"]):
        corner = person["box"]
        left, right = (min(max(float(corner[name]), 0.0), width) for name in ("xmin", "xmax"))
        top, bottom = (min(max(float(corner[name]), 0.0), height) for name in ("ymin", "ymax"))
        if right > left and bottom > top:
            boxes.append([left, top, right - left, bottom - top])
    return sorted(_without_duplicates(boxes))


def _without_duplicates(boxes: Sequence[list[float]]) -> list[list[float]]:
    """Leave out boxes that all but coincide with one before them."""
    kept: list[list[float]] = []
    for box in boxes:
        if not kept or box_overlaps(np.array([box]), np.array(kept)).max() < DUPLICATE_OVERLAP:
            kept.append(box)
    return kept


__all__ = ["PEOPLE", "PeopleRequest", "detect_people", "find_people", "load_detector"]
