"""Are people recognised of whom a picture shows head and shoulders, or no more than the hips? And by MediaPipe Pose?

`python -m benchmarks.accuracy.portraits --rows DATASET [--split test] [--limit N] [--model FOLDER]
[--variants full heavy] [--output table.json]`

DATASET is a pose dataset as `jointdetr convert` writes it; the environment is that of `peer_mediapipe.py`, or any if
no variant is named. Upright people whose shoulders and hips are labelled are cut out of their pictures a little below
the shoulders, the elbows or the hips, and made 256 px large; both get the whole of it. The measures are

- PCK: share of the limbs' labelled joints in the picture that are found within 0.2 of the torso's length
- invented: share of knees and ankles that are beyond the picture and put into it, of those who were found
- nobody found
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.accuracy.peer_mediapipe import HIPS, SHOULDERS, VARIANTS, Answer, Person, jointdetr, mediapipe, people

ELBOWS, LEGS = [8, 9], [2, 3, 4, 5]  # of the twelve limb joints
CUTS = {"shoulders": SHOULDERS, "elbows": [*SHOULDERS, *ELBOWS], "hips": [*SHOULDERS, *ELBOWS, *HIPS]}
MARGINS = (0.6, 0.7, 0.15)  # at the sides, above and below, in lengths of the torso
SIZE = 256


def portrait(person: Person, shown: Sequence[int]) -> Person | None:
    """Cut a person's picture below the joints that are to be shown; None for who is not upright, or hardly in it."""
    shoulders, hips = person.points[SHOULDERS].mean(0), person.points[HIPS].mean(0)
    right, down = hips - shoulders
    if not (np.isfinite(person.points[shown]).all() and down > 2 * abs(right)):
        return None
    torso, low, high = np.hypot(right, down), person.points[shown].min(0), person.points[shown].max(0)
    sides, above, below = np.array(MARGINS) * torso
    left, top = np.floor(np.clip(low - [sides, above], 0, None)).astype(int).tolist()
    end = np.ceil(np.clip(high + [sides, below], None, person.image.size)).astype(int).tolist()
    if min(end[0] - left, end[1] - top) < SIZE // 10:
        return None
    cut = person.image.crop((left, top, *end))
    scale = SIZE / max(cut.size)
    cut = cut.resize((round(cut.width * scale), round(cut.height * scale)), Image.Resampling.BICUBIC)
    return Person(cut, [0.0, 0.0, *map(float, cut.size)], (person.points - [left, top]) * scale, person.joints)


def measure(cut: Sequence[Person], answers: Sequence[Answer]) -> dict[str, float]:
    """Measure a contestant in percent."""
    hits, invented, found = [], [], []
    for person, answer in zip(cut, answers, strict=True):
        torso = np.linalg.norm(person.points[SHOULDERS].mean(0) - person.points[HIPS].mean(0))
        inside = ((person.points >= 0) & (person.points <= person.image.size)).all(-1)
        distances = np.linalg.norm(answer.points - person.points, axis=-1)
        hits += (distances[inside] < 0.2 * torso).tolist()
        found.append(np.isfinite(answer.points).all())
        beyond = [joint for joint in LEGS if person.points[joint, 1] > person.image.height]
        invented += (answer.points[beyond, 1] < person.image.height).tolist() if found[-1] else []
    shares = {"PCK": hits, "invented": invented, "nobody found": [not one for one in found]}
    return {name: 100.0 * float(np.mean(values)) for name, values in shares.items()}


def portraits(dataset: str, split: str, limit: int | None, shown: Sequence[int]) -> Iterator[Person]:
    """Yield the portraits of a dataset's people."""
    for person in people(dataset, split, limit):
        if (cut := portrait(person, shown)) is not None:
            yield cut


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", required=True, help="pose dataset")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, help="first people alone")
    parser.add_argument("--model", default="jointdetr/pretrained")
    parser.add_argument("--variants", nargs="*", default=[], choices=VARIANTS)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    contestants = {"jointdetr": jointdetr(options.model)} | {name: mediapipe(name) for name in options.variants}
    result = {}
    for name, shown in CUTS.items():
        cut = list(portraits(options.rows, options.split, options.limit, shown))
        result[name] = {each: measure(cut, [ask(one) for one in cut]) for each, ask in contestants.items()}
        for each, numbers in result[name].items():
            print(f"{name}, {len(cut)} people, {each}: " + ", ".join(f"{n} {v:.1f}%" for n, v in numbers.items()))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
