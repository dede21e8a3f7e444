"""Beside MediaPipe Pose: both on the same pictures, by the same measures, each as its users call it.

`python -m benchmarks.accuracy.peer_mediapipe --rows DATASET [--split test] [--limit N] [--model FOLDER]
[--variants full heavy] [--output table.json]`

It wants an environment that has both, which MediaPipe's old numpy makes one of its own:
`pip install mediapipe==0.10.14 "numpy<2" -e .`; `lite` and `heavy` besides want the files of the npm package
`@mediapipe/pose` in `mediapipe/modules/pose_landmark`.

DATASET is a pose dataset as `jointdetr convert` writes it. JointDETR gets each picture with the row's box; MediaPipe
gets the picture cut to twice the box, as its detector looks for people who fill a good part of a picture. The measures
are over the twelve joints of arms and legs:

- PCK: share of labelled joints within 0.2 of the torso's length in the picture, where nobody found counts as missed
- 2D: mean distance in the picture in percent of the box's longer side, of people who were found by all
- MPJPE and PA-MPJPE in mm, from the middle of the hips, of rows with 3D labels

Milliseconds are for a whole picture and one thread for torch; MediaPipe chooses its own.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from jointdetr import JointDetrPipeline
from jointdetr.data.loading import load_pose_dataset
from jointdetr.evaluation.metrics import mpjpe, pa_mpjpe, pck_torso, torso_length
from jointdetr.skeleton_jointdetr import SKELETONS

PARTS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
LIMBS = [
    f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
]
BLAZEPOSE = [23, 24, 25, 26, 27, 28, 11, 12, 13, 14, 15, 16]  # MediaPipe's landmarks of the same joints
HIPS, SHOULDERS = [0, 1], [6, 7]
VARIANTS = ("lite", "full", "heavy")


@dataclass(frozen=True)
class Person:
    """A labelled person: `points` (12, 2) px and `joints` (12, 3) mm from the middle of the hips, NaN if unknown."""

    image: Image.Image
    box: list[float]
    points: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True)
class Answer:
    """What a contestant says of a person; all NaN where it finds nobody."""

    points: np.ndarray = field(default_factory=lambda: np.full((12, 2), np.nan))
    joints: np.ndarray = field(default_factory=lambda: np.full((12, 3), np.nan))


Contestant = Callable[[Person], Answer]


def people(dataset: str, split: str, limit: int | None) -> Iterator[Person]:
    """Read the labelled people of a dataset."""
    rows = load_pose_dataset(dataset, split)
    for row in rows if limit is None else rows.take(limit):
        names = SKELETONS[row["skeleton"]].joints
        chosen = [names.index(name) for name in LIMBS]
        points, joints = (
            np.where(np.array(row[f"{name}_valid"])[:, None], row[name], np.nan)[chosen].astype(np.float64)
            for name in ("joints_2d", "joints_3d")
        )
        yield Person(row["image"].convert("RGB"), row["box"], points, joints - joints[HIPS].mean(0))


def jointdetr(model: str) -> Contestant:
    """Make JointDETR's pipeline a contestant; missing joints are at their guessed places."""
    from transformers import pipeline

    estimate: JointDetrPipeline = pipeline("pose-estimation-3d", model=model)

    def answer(person: Person) -> Answer:
        (found,) = estimate(person.image, boxes=[person.box], return_tensors=True)
        chosen = [found["labels"].index(name) for name in LIMBS]
        points, joints = (found[name].numpy()[chosen].astype(np.float64) for name in ("joints_2d", "joints"))
        return Answer(points, joints - joints[HIPS].mean(0))

    return answer


def mediapipe(variant: str) -> Contestant:
    """Make MediaPipe Pose a contestant."""
    from mediapipe.python.solutions.pose import Pose

    pose = Pose(static_image_mode=True, model_complexity=VARIANTS.index(variant))

    def answer(person: Person) -> Answer:
        x, y, width, height = person.box
        side = 2 * max(width, height)
        left, top = max(x + width / 2 - side / 2, 0), max(y + height / 2 - side / 2, 0)
        region = [
            round(edge)
            for edge in (left, top, min(left + side, person.image.width), min(top + side, person.image.height))
        ]
        cut = person.image.crop(region)
        found = pose.process(np.ascontiguousarray(cut))
        if found.pose_landmarks is None:
            return Answer()
        landmarks = [found.pose_landmarks.landmark[index] for index in BLAZEPOSE]
        world = [found.pose_world_landmarks.landmark[index] for index in BLAZEPOSE]
        points = np.array([[mark.x * cut.width, mark.y * cut.height] for mark in landmarks]) + region[:2]
        joints = 1000.0 * np.array([[mark.x, mark.y, mark.z] for mark in world])
        return Answer(points, joints - joints[HIPS].mean(0))

    return answer


def measure(labelled: list[Person], answers: dict[str, list[Answer]]) -> dict[str, dict[str, float]]:
    """Measure every contestant on the same people."""
    found = [
        all(np.isfinite(answers[name][number].points).all() for name in answers) for number in range(len(labelled))
    ]
    return {name: _measures(labelled, given, found) for name, given in answers.items()}


def _measures(labelled: list[Person], answers: list[Answer], found_by_all: list[bool]) -> dict[str, float]:
    shares, errors, aligned = [], [], []
    for person, answer, by_all in zip(labelled, answers, found_by_all, strict=True):
        known = np.isfinite(person.points).all(-1)
        distances = np.linalg.norm(answer.points - person.points, axis=-1)[known]
        if by_all:
            shares += (100.0 * distances / max(person.box[2:])).tolist()
        if np.isfinite(person.joints).all() and np.isfinite(answer.joints).all():
            pair = [torch.from_numpy(joints)[None] for joints in (answer.joints, person.joints)]
            errors.append(mpjpe(*pair).item())
            aligned.append(pa_mpjpe(*pair).item())
    target, predicted = (torch.from_numpy(np.stack([one.points for one in many])) for many in (labelled, answers))
    hits = 100.0 * pck_torso(predicted, target, torso_length(target, HIPS, SHOULDERS)).item()
    means = {"PCK %": [hits], "2D %": shares, "MPJPE mm": errors, "PA-MPJPE mm": aligned}
    nobody = 100.0 * np.mean([np.isnan(answer.points).all() for answer in answers])
    return {name: float(np.mean(values)) for name, values in means.items() if values} | {
        "nobody found %": float(nobody)
    }


def run(contestant: Contestant, labelled: list[Person]) -> tuple[list[Answer], float]:
    """Ask a contestant about everybody: its answers, and the median of its milliseconds."""
    answers, milliseconds = [], []
    for person in labelled:
        start = time.perf_counter()
        answers.append(contestant(person))
        milliseconds.append(1000.0 * (time.perf_counter() - start))
    return answers, float(np.median(milliseconds))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="JointDETR beside MediaPipe Pose, on the same pictures.")
    parser.add_argument("--rows", required=True, help="pose dataset with labelled people")
    parser.add_argument("--split", default="train")
    parser.add_argument("--limit", type=int, help="only the first so many people")
    parser.add_argument("--model", default=str(Path(__file__).parents[2] / "jointdetr" / "pretrained"))
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=["full", "heavy"])
    parser.add_argument("--output", type=Path, help="JSON file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    labelled = list(people(options.rows, options.split, options.limit))
    contestants = {"JointDETR": jointdetr(options.model)}
    contestants |= {f"MediaPipe {variant}": mediapipe(variant) for variant in options.variants}
    answers, milliseconds = {}, {}
    for name, contestant in contestants.items():
        answers[name], milliseconds[name] = run(contestant, labelled)
    table = measure(labelled, answers)
    for name, measures in table.items():
        measures["ms a picture"] = milliseconds[name]
        print(f"{name:16}" + "  ".join(f"{label} {value:.1f}" for label, value in measures.items()))
    if options.output is not None:
        options.output.write_text(json.dumps({"people": len(labelled), **table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
