"""What people are told of the people who were found: how many joints, how far off, how far away, and what to doubt.

A person is what the pipeline returns for one, as tensors or as arrays.

Shape vocabulary: joints.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..people_jointdetr import HARDLY_A_PERSON_MM, TRUSTED_ERROR_MM
from ..postprocessing_jointdetr import MIN_JOINTS_FOR_TRANSLATION
from ..skeleton_jointdetr import Skeleton

NOBODY = "nobody found"
ROUNDING_MM = 5
# Nearer or farther than this nobody is seen whole and large enough; a focal length that says so is likely to be wrong.
NEAREST_M, FARTHEST_M = 0.8, 60.0
Person = Mapping[str, Any]


def expected_error_mm(person: Person) -> float:
    """How far off a person's joints are expected to be, the mean over those in the picture; NaN if nobody can say."""
    sigmas = np.asarray(person.get("sigmas", math.nan), dtype=np.float64)
    known = np.isfinite(sigmas) & np.asarray(person.get("inside", True), dtype=bool)
    return float(sigmas[known].mean()) if known.any() else math.nan


def count_people(number: int) -> str:
    """How many people there are, as "1 person" or "3 people"."""
    return "1 person" if number == 1 else f"{number} people"


def count_found(person: Person) -> str:
    """How many joints were found, as "16 of 17 joints found"."""
    detected = np.asarray(person["detected"], dtype=bool)
    return f"{int(detected.sum())} of {len(detected)} joints found"


def describe_person(person: Person) -> str:
    """What was found of a person, and how far off it is expected to be."""
    return ", ".join(filter(None, (count_found(person), describe_error(expected_error_mm(person)))))


def describe_error(error_mm: float) -> str:
    """An expected error as "expected error about 45 mm"; nothing if it is not known."""
    return "" if math.isnan(error_mm) else f"expected error about {ROUNDING_MM * round(error_mm / ROUNDING_MM)} mm"


def doubt_of_error(error_mm: float, advice: str) -> str:
    """What to say of an expected error in which no trust is to be put; nothing of a smaller one."""
    if not error_mm > TRUSTED_ERROR_MM:
        return ""
    is_person = error_mm <= HARDLY_A_PERSON_MM
    reason = "a hard pose, or a person cut off or small" if is_person else "probably not a person, or too small"
    return f"{describe_error(error_mm)}: {reason}; {advice}"


def doubts(people: Sequence[Person], skeleton: Skeleton, boxes_given: bool = False) -> list[str]:
    """Say what is to be doubted of each person, in sentences; who gave the boxes may have meant others."""
    sentences = []
    for number, person in enumerate(people, start=1):
        name = f"person {number}" if len(people) > 1 else "the person"
        sentences += [f"{name}{doubt}" for doubt in _doubts_of_one(person, skeleton, boxes_given)]
    return sentences


def _doubts_of_one(person: Person, skeleton: Skeleton, boxes_given: bool) -> Iterator[str]:
    """Say what is to be doubted of a person, without the name."""
    num_found = int(np.asarray(person["detected"], dtype=bool).sum())
    if not num_found:
        yield ": no joint is sure enough: nobody is there, or the threshold is too high"
    advice = "is the box x, y, width, height?" if boxes_given else "draw a box"
    if doubt := doubt_of_error(expected_error_mm(person), advice):
        yield f": {doubt}"
    distance_m = root_distance_m(person, skeleton)
    if distance_m is not None and not NEAREST_M <= distance_m <= FARTHEST_M:
        yield f" would stand {distance_m:.1f} m from the camera: {_camera_advice(person)}"
    num_points = int(np.isfinite(np.asarray(person["joints_2d"], dtype=np.float64)).all(axis=-1).sum())
    if distance_m is None and "joints_camera" in person and num_points >= MIN_JOINTS_FOR_TRANSLATION:
        yield f" has no place before this camera: {_camera_advice(person)}"


def _camera_advice(person: Person) -> str:
    """What may be wrong with the camera."""
    if np.asarray(person["intrinsics_guessed"]):
        return "the guessed field of view does not fit this picture"
    return "is the focal length right, and in pixels of this picture?"


def root_distance_m(person: Person, skeleton: Skeleton) -> float | None:
    """How far before the camera a person's root joint is, in metres; None if that is not known."""
    if "joints_camera" not in person:
        return None
    depth_mm = float(np.asarray(person["joints_camera"], dtype=np.float64)[skeleton.root, 2])
    return depth_mm / 1000 if math.isfinite(depth_mm) else None
