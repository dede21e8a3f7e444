"""The people in a picture, found by any object-detection model of transformers.

Boxes are x, y, width, height in px of the upright picture.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers import Pipeline, pipeline

from .search_jointdetr import box_overlaps

PERSON = "person"
DUPLICATE_OVERLAP = 0.8  # intersection over union; people side by side or one behind the other overlap less


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
    found = detector(list(images), threshold=threshold) if images else []
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


__all__ = ["detect_people", "load_detector"]
