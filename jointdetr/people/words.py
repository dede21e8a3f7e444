"""What people are told of the people who were found: how many joints, how far off, how far away, and what to doubt.

A person is what the pipeline returns for one, as tensors or as arrays.

Shape vocabulary: joints.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..camera_jointdetr import GUESSED_FIELD_OF_VIEW
from ..search_jointdetr import TRUSTED_ERROR_MM
from ..skeleton_jointdetr import Skeleton

NOBODY = "nobody found"
ROUNDING_MM = 5
# Nearer or farther than this nobody is seen whole and large enough; a focal length that says so is likely to be wrong.
NEAREST_M, FARTHEST_M = 0.8, 60.0
Person = Mapping[str, Any]


def expected_error_mm(person: Person) -> float:
    """How far off a person's joints are expected to be, the mean over those that were found; NaN if nobody can say."""
    sigmas = person.get("sigmas")
    if sigmas is None:
        return math.nan
    found = np.asarray(sigmas, dtype=np.float64)[np.asarray(person["detected"], dtype=bool)]
    return float(found.mean()) if len(found) else math.nan


def count_people(number: int) -> str:
    """How many people there are, as "1 person" or "3 people"."""
    return "1 person" if number == 1 else f"{number} people"


def count_found(person: Person) -> str:
    """How many joints were found, as "16 of 17 joints found"."""
    detected = np.asarray(person["detected"], dtype=bool)
    return f"{int(detected.sum())} of {len(detected)} joints found"


def describe_person(person: Person) -> str:
    """What was found of a person, and how far off it is expected to be."""
    error = expected_error_mm(person)
    return f"{count_found(person)}{'' if math.isnan(error) else f', expected error about {_about(error)}'}"


def doubts(people: Sequence[Person], skeleton: Skeleton) -> list[str]:
    """Say what is to be doubted of each person, in sentences; an empty list if nothing is."""
    sentences = []
    for number, person in enumerate(people, start=1):
        name = f"person {number}" if len(people) > 1 else "the person"
        error, distance_m = expected_error_mm(person), root_distance_m(person, skeleton)
        if error > TRUSTED_ERROR_MM:
            sentences.append(
                f"{name}: expected error about {_about(error)}: probably not a person, or too small; draw a box"
            )
        if distance_m is not None and not NEAREST_M <= distance_m <= FARTHEST_M:
            advice = (
                f"a guess of {GUESSED_FIELD_OF_VIEW:g} degrees does not fit this picture"
                if np.asarray(person["intrinsics_guessed"])
                else "is the focal length right, and in pixels of this picture?"
            )
            sentences.append(f"{name} would stand {distance_m:.1f} m from the camera: {advice}")
    return sentences


def root_distance_m(person: Person, skeleton: Skeleton) -> float | None:
    """How far before the camera a person's root joint is, in metres; None if that is not known."""
    if "joints_camera" not in person:
        return None
    depth_mm = float(np.asarray(person["joints_camera"], dtype=np.float64)[skeleton.root, 2])
    return depth_mm / 1000 if math.isfinite(depth_mm) else None


def _about(error_mm: float) -> str:
    """An error in round numbers, as "45 mm"."""
    return f"{ROUNDING_MM * round(error_mm / ROUNDING_MM)} mm"
