"""Who is in a picture: the boxes given, those of a detector, or those of the built-in search; one way for all.

A detector is any object-detection model of transformers. The search looks with the pose network itself: at windows all
over the picture, then closer, as a network that is shown a person from too far away says roughly where. Whether it is
a person at all is told by how sure it is of the joints in the picture, and by whether the body stays in its place when
the window moves: what is imagined moves along. `benchmarks/accuracy/people_search.py` measures `SearchLimits`.

Shape vocabulary: people, joints. Boxes are x, y, width, height in px of the upright picture.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image
from transformers import Pipeline, pipeline

Box = list[float]

SEARCH, WHOLE = "search", "whole"
PEOPLE = (SEARCH, WHOLE)
"""Ways to find people without boxes: look for them, or take the whole picture to show one person."""

PERSON = "person"
DUPLICATE_OVERLAP = 0.8  # intersection over union; people side by side or one behind the other overlap less

BODY_BEYOND_JOINTS = 0.08  # of the joints' longer side; what synthetic walkers, runners and boxers have on average
SMALLEST_BOX_PX = 8.0
LEAST_INSIDE = 4  # joints in the picture, for a pose to be that of a person
LEAST_FOUND = 0.5  # share of these
LEAST_AGREEMENT = 0.2  # overlap of the body found with the box it was looked for in

TRUSTED_ERROR_MM = 150.0
"""Mean expected error of a person's joints beyond which the pose is not to be trusted."""

HARDLY_A_PERSON_MM = 220.0
"""Mean expected error beyond which there is probably nobody."""

WINDOW_SIZES = (1.0, 0.6)  # edges of the windows as shares of the picture's shorter edge
WINDOW_STEPS = (0.5, 0.7)  # from one window to the next, at most, as shares of the window
MOST_IN_A_ROW = 8  # windows; a panorama is looked at with gaps
CANDIDATES = ((4, False), (3, True))  # how many poses, at most, are looked at closely, then once more; turned upright?
WORKING_EDGE_PX = 800  # shorter edge of the picture that is searched
ASKEW = (0.12, -0.08)  # how far the last window lies off, as shares of the body's longer side


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


@dataclass(frozen=True)
class SearchLimits:
    """From when on a pose is taken for that of a person.

    Args:
        sureness: Least sureness, 0 to 1; see [`Sightings.sureness`].
        far_sureness: The same for a pose seen from too far away, which is then looked at again.
        error_mm: Most that the joints may be expected to be off, in the mean.
        following: Most that the body may move along with a window that moves: 0 stays, 1 follows.
        overlap: Of two poses whose boxes overlap by more (intersection over union), the surer one is looked at again.
        shared: Of two people the smaller of whose boxes shares more of its area with the other, the surer one is
            kept: people are found who stand apart, and parts of a person are not people.
    """

    sureness: float = 0.34
    far_sureness: float = 0.12
    error_mm: float = HARDLY_A_PERSON_MM
    following: float = 0.5
    overlap: float = 0.3
    shared: float = 0.6


LIMITS = SearchLimits()


@dataclass(frozen=True)
class Sightings:
    """What the network sees in boxes of a picture, whatever it thinks of it.

    Args:
        points: `(people, joints, 2)` px of the picture.
        scores: `(people, joints)`, see [`AssembledPoses`].
        size: Width and height of the picture in px.
        visible: `(people, joints)` probabilities of being seen; None for networks without a confidence head.
        sigmas: `(people, joints)` mm, how far off the joints are expected to be; None for such networks, too.
    """

    points: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]
    visible: np.ndarray | None = None
    sigmas: np.ndarray | None = None

    def chosen(self, indices: Sequence[int]) -> "Sightings":
        """Some of them, in this order."""
        index = list(indices)
        visible, sigmas = (None if values is None else values[index] for values in (self.visible, self.sigmas))
        return Sightings(self.points[index], self.scores[index], self.size, visible, sigmas)

    @property
    def inside(self) -> np.ndarray:
        """Which joints are in the picture `(people, joints)`."""
        return inside_picture(self.points, self.size)

    def sureness(self) -> np.ndarray:
        """How sure the network is of each pose `(people,)`, 0 to 1.

        The mean over the joints in the picture of the score times the probability of being seen: nobody's joints are
        not. It is 0 where hardly any joint is in the picture.
        """
        values = self.scores if self.visible is None else self.scores * self.visible
        return self._mean(values) * (self.inside.sum(-1) >= LEAST_INSIDE)

    def errors_mm(self) -> np.ndarray:
        """Mean expected error of the joints in the picture of each pose `(people,)`; 0 where that is not known."""
        return np.zeros(len(self.points)) if self.sigmas is None else self._mean(self.sigmas)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the joints in the picture `(people,)`."""
        inside = self.inside
        return np.where(inside, values, 0.0).sum(-1) / inside.sum(-1).clip(min=1)

    def boxes(self) -> list[Box]:
        """The box of what is in the picture of each body."""
        return [clip_box(body_box(points), self.size) for points in self.points]


class Look(Protocol):
    """Runs the network on boxes of a picture; with `second_look` again on whoever leans, turned upright."""

    def __call__(self, image: Image.Image, boxes: list[Box], second_look: bool = False) -> Sightings:
        """Say what is seen."""
        ...


Overlaps = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of boxes (people, 4) and (others, 4): (people, others)


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


def _boxes_of_people(people: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[Box]:
    """Return boxes cut at the edges of a picture of `size` (width, height), in order, without empty or double ones."""
    width, height = size
    boxes: list[Box] = []
    for person in sorted(people, key=lambda person: -person["score"]):
        corner = person["box"]
        left, right = (min(max(float(corner[name]), 0.0), width) for name in ("xmin", "xmax"))
        top, bottom = (min(max(float(corner[name]), 0.0), height) for name in ("ymin", "ymax"))
        box = [left, top, right - left, bottom - top]
        is_new = not boxes or box_overlaps(np.array([box]), np.array(boxes)).max() < DUPLICATE_OVERLAP
        if right > left and bottom > top and is_new:
            boxes.append(box)
    return sorted(boxes)


def search_people(image: Image.Image, look: Look, limits: SearchLimits = LIMITS) -> list[Box]:
    """Find the people in a picture who can be seen well and stand apart.

    Args:
        image: The upright picture.
        look: The network.
        limits: From when on a pose is taken for that of a person.

    Returns:
        The boxes of their bodies from left to right; an empty list if there is nobody.
    """
    factor = reduction(image.size)
    small = image.reduce(factor) if factor > 1 else image
    seen = look(small, search_windows(small.size))
    for most, second_look in CANDIDATES:
        is_likely = seen.sureness() >= limits.far_sureness
        seen = seen.chosen(best_apart(seen, is_likely, box_overlaps, limits.overlap)[:most])
        if not len(seen.points):
            return []
        seen = look(small, seen.boxes(), second_look)
    last = look_askew(small, look, seen)
    is_person = (last.sureness() >= limits.sureness) & (last.errors_mm() <= limits.error_mm)
    is_person &= following_of(seen, last) <= limits.following
    people = last.chosen(best_apart(last, is_person, shared_areas, limits.shared))
    return sorted([factor * number for number in box] for box in people.boxes())


def reduction(size: tuple[int, int]) -> int:
    """Return by what whole number a picture of (width, height) is made smaller before it is searched."""
    return max(min(size) // WORKING_EDGE_PX, 1)


def look_askew(image: Image.Image, look: Look, near: Sightings) -> Sightings:
    """Look at bodies once more through windows that have moved by `ASKEW` of each body."""
    boxes = np.array(near.boxes())
    boxes[:, :2] += _shifts(near)
    return look(image, visible_boxes(boxes.tolist(), image.size), second_look=True)


def following_of(near: Sightings, askew: Sightings) -> np.ndarray:
    """How far each body has moved along with the window of `look_askew` `(people,)`: 0 not at all, 1 wholly."""
    shifts = _shifts(near)
    compared = (near.inside & askew.inside)[..., None]  # (people, joints, 1)
    differences = np.ma.masked_invalid(np.where(compared, askew.points - near.points, np.nan))
    moved = np.ma.median(differences, axis=1).filled(np.nan)  # (people, 2)
    return (moved * shifts).sum(-1) / (shifts * shifts).sum(-1)


def _shifts(near: Sightings) -> np.ndarray:
    """How far the window of each body moves: `(people, 2)` px."""
    return np.array(near.boxes())[:, 2:].max(-1, keepdims=True) * ASKEW


def search_windows(size: tuple[int, int]) -> list[Box]:
    """Square windows of two sizes all over a picture of (width, height)."""
    windows = []
    for share, step in zip(WINDOW_SIZES, WINDOW_STEPS, strict=True):
        edge = share * min(size)
        columns, rows = (math.ceil((length - edge) / (step * edge) - 1e-6) + 1 for length in size)
        columns, rows = (min(count, MOST_IN_A_ROW) for count in (columns, rows))
        windows += [
            [float(x), float(y), edge, edge]
            for y in np.linspace(0, size[1] - edge, rows)
            for x in np.linspace(0, size[0] - edge, columns)
        ]
    return windows


def best_apart(seen: Sightings, allowed: np.ndarray, measure: Overlaps, most: float) -> list[int]:
    """Return the indices of the poses that are allowed, the surest first, without those that overlap a surer one."""
    boxes = np.array(seen.boxes()).reshape(-1, 4)
    kept: list[int] = []
    for index in np.argsort(-seen.sureness(), kind="stable").tolist():
        apart = not kept or measure(boxes[[index]], boxes[kept]).max() <= most
        if allowed[index] and apart:
            kept.append(index)
    return kept


def is_there(pose: Mapping[str, np.ndarray], box: Sequence[float], size: tuple[int, int]) -> bool:
    """Tell whether a pose is that of a person in a box of a picture of (width, height).

    Of its joints that are not beyond the picture at least half must be `detected` `(joints,)`, and the body must be
    about where the box is: a pose that reaches far out of what the network was given is imagined.
    """
    points = pose["joints_2d"]
    inside = inside_picture(points, size)
    beyond = np.isfinite(points).all(-1) & ~inside
    if inside.sum() < LEAST_INSIDE or np.mean(pose["detected"][~beyond]) < LEAST_FOUND:
        return False
    body, looked_at = (np.array([clip_box(each, size)]) for each in (body_box(points), box))
    return bool(box_overlaps(body, looked_at)[0, 0] >= LEAST_AGREEMENT)


def inside_picture(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tell which points `(..., 2)` px are in a picture of (width, height): `(...)`, False for what is not known."""
    return np.all((points >= 0) & (points <= size), axis=-1)


def body_box(joints_2d: np.ndarray) -> Box:
    """Return the box of the body around joints `(joints, 2)` px, of which some may be NaN."""
    known = joints_2d[np.isfinite(joints_2d).all(-1)]
    low, high = known.min(0), known.max(0)
    margin = BODY_BEYOND_JOINTS * max((high - low).max(), SMALLEST_BOX_PX)
    return [*(low - margin).tolist(), *(high - low + 2 * margin).tolist()]


def clip_box(box: Sequence[float], size: tuple[int, int]) -> Box:
    """Return what lies of a box in a picture of (width, height), at least a pixel at its edge."""
    low = np.clip(box[:2], 0, np.array(size) - 1)
    high = np.clip(np.add(box[:2], box[2:]), low + 1, size)
    return [*low.tolist(), *(high - low).tolist()]


def visible_boxes(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> list[Box]:
    """Move boxes `(people, 4)` that have left the picture of (width, height) back to its edge."""
    return [
        [min(max(x, 1 - width), size[0] - 1), min(max(y, 1 - height), size[1] - 1), width, height]
        for x, y, width, height in boxes
    ]


def box_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes `(people, 4)` and `(others, 4)`: `(people, others)`."""
    common = _common_areas(first, second)
    return common / (first[:, None, 2:].prod(-1) + second[None, :, 2:].prod(-1) - common)


def shared_areas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What the smaller of two boxes shares with the other, of its area: `(people, others)`."""
    return _common_areas(first, second) / np.minimum(first[:, None, 2:].prod(-1), second[None, :, 2:].prod(-1))


def _common_areas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = first[:, None], second[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    return (high - low).clip(min=0).prod(-1)
