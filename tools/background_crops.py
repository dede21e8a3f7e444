"""Cut crops that show nobody out of photographs of single people, for training the model to say so.

Reads a folder in the layout of LSP (`joints.mat`, `images`) and writes one in the plain format that `jointdetr convert
folder` takes. A crop is a square in a corner of the picture, clear of the labelled person. As the labels name one
person of a picture alone, the second step drops crops in which MediaPipe finds somebody; it wants an environment of
its own, with `pip install mediapipe`.

    python tools/background_crops.py cut data/lspet backgrounds
    python tools/background_crops.py sift backgrounds
    jointdetr convert folder backgrounds data/backgrounds
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

ANNOTATIONS = "annotations.jsonl"
SMALLEST_SIDE_PX = 48
MARGIN = 0.15  # around the labelled joints, in sides of their box


def corner_squares(size: tuple[int, int], joints: np.ndarray) -> list[tuple[int, int, int]]:
    """Left, top and side in px of the largest square in each corner of a picture that is clear of joints (n, 2)."""
    low, high = joints.min(0), joints.max(0)
    margin = MARGIN * (high - low).max()
    (left, top), (right, bottom) = low - margin, high + margin
    width, height = size
    squares = []
    for gap_x, at_right in ((left, False), (width - right, True)):
        for gap_y, at_bottom in ((top, False), (height - bottom, True)):
            side = int(min(max(gap_x, gap_y), width, height))
            if side >= SMALLEST_SIDE_PX:
                squares.append(((width - side) * at_right, (height - side) * at_bottom, side))
    return squares


def cut(source: Path, output: Path, held_out: int) -> None:
    """Write one crop of each picture that has room for it."""
    from jointdetr.converters.lsp import LeedsSportsPose

    people, rng = LeedsSportsPose(source, held_out=held_out), np.random.default_rng(0)
    (output / "images").mkdir(parents=True, exist_ok=True)
    with open(output / ANNOTATIONS, "w", encoding="utf-8") as file:
        for recording in people.recordings():
            for row in people.rows(recording):
                line = isinstance(row, dict) and _cut_one(row, output, rng)
                if line:
                    file.write(json.dumps(line | {"split": recording.split}) + "\n")


def _cut_one(row: dict, output: Path, rng: np.random.Generator) -> dict | None:
    """Cut a crop out of a person's picture; None where the person leaves no corner free."""
    picture = Image.open(row["image"]).convert("RGB")
    squares = corner_squares(picture.size, row["joints_2d"][np.isfinite(row["joints_2d"]).all(-1)])
    if not squares:
        return None
    left, top, side = squares[rng.integers(len(squares))]
    name = f"images/{row['subject']}.jpg"
    picture.crop((left, top, left + side, top + side)).save(output / name, quality=92)
    box = [0.1 * side, 0.1 * side, 0.8 * side, 0.8 * side]
    return {"image": name, "box": box, "nobody": True, "subject": row["subject"]}


def sift(output: Path) -> None:
    """Drop the crops in which MediaPipe finds somebody."""
    from mediapipe.python.solutions.pose import Pose

    pose = Pose(static_image_mode=True, model_complexity=1, min_detection_confidence=0.3)
    lines = (output / ANNOTATIONS).read_text(encoding="utf-8").splitlines()
    kept = []
    for line in lines:
        picture = Image.open(output / json.loads(line)["image"]).convert("RGB").resize((256, 256))
        if pose.process(np.asarray(picture)).pose_landmarks is None:
            kept.append(line)
    (output / ANNOTATIONS).write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(lines) - len(kept)} of {len(lines)} crops show somebody and were dropped")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Cut crops that show nobody out of photographs of single people.")
    steps = parser.add_subparsers(dest="step", required=True)
    cutting = steps.add_parser("cut", help="write crops of corners")
    cutting.add_argument("source", type=Path, help="folder with joints.mat and images")
    cutting.add_argument("output", type=Path, help="folder to write")
    cutting.add_argument("--held-out", type=int, default=0, help="people of the split test, as for `convert lsp`")
    sifting = steps.add_parser("sift", help="drop crops in which MediaPipe finds somebody")
    sifting.add_argument("output", type=Path, help="folder that `cut` wrote")
    options = parser.parse_args()
    if options.step == "cut":
        cut(options.source, options.output, options.held_out)
    else:
        sift(options.output)


if __name__ == "__main__":
    main()
