"""How fast are pictures cropped, beside transformers' VitPose processor, loaded for training, and synthesised?

    OMP_NUM_THREADS=1 python benchmarks/data_path.py --threads 1

Both processors cut the same boxes out of the same picture; that the crops show the same is checked first. Loading and
synthesis are counted on one process: `images/s` is what one core does.
"""

import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import compare, parse_arguments, report, take_turns
from torch.utils.data import DataLoader
from transformers import VitPoseImageProcessor

from jointdetr import JointDetrImageProcessor
from jointdetr.data.examples import PoseDataset, collate_poses
from jointdetr.data.loading import load_pose_dataset
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis.rows import SynthesisSettings, synthesize
from jointdetr.training.augmentation import Augmentation, AugmentedExamples

SIZE = {"height": 256, "width": 192}
PICTURE = files("jointdetr") / "demo" / "examples" / "waving.jpg"
PEOPLE = 64


def draw_boxes(people: int, picture: Image.Image) -> list[list[float]]:
    """Draw boxes of the crops' proportions inside a picture."""
    numbers = np.random.default_rng(0)
    heights = numbers.uniform(0.3, 0.7, people) * picture.height
    widths = heights * SIZE["width"] / SIZE["height"]
    left, top = numbers.uniform(0, 1, (2, people)) * [picture.width - widths, picture.height - heights]
    return np.stack([left, top, widths, heights], -1).tolist()


def processors(picture: Image.Image, boxes: list[list[float]]) -> dict:
    """Both processors on the same crops."""
    other, ours = VitPoseImageProcessor(size=SIZE), JointDetrImageProcessor(size=SIZE)
    return {
        "VitPose": lambda: other(picture, boxes=[boxes], return_tensors="pt")["pixel_values"],
        "jointdetr": lambda: ours(picture, boxes=[boxes], return_tensors="pt")["pixel_values"],
    }


def check(wanted: torch.Tensor, got: torch.Tensor) -> None:
    """Raise unless crops show the same; VitPose's are not anti-aliased."""
    correlation = torch.corrcoef(torch.stack([wanted.flatten(), got.flatten()]))[0, 1].item()
    if wanted.shape != got.shape or not correlation > 0.95:
        raise RuntimeError(f"the crops differ: {wanted.shape}, {got.shape}, correlation {correlation:.3f}")


def time_synthesis(folder: Path, people: int) -> float:
    """Return people a second of one process that draws, renders and writes them, once it is warm."""
    for part, count in (("warm-up", 4), ("people", people)):
        settings = SynthesisSettings(output=folder / part, count=count)
        start = time.process_time()
        synthesize(settings)
        seconds = time.process_time() - start
    return people / seconds


def time_loading(folder: Path, batch: int, rounds: int) -> float:
    """Return images a second of one process that loads, crops and augments."""
    rows = load_pose_dataset(folder / "people", "train")
    processor = JointDetrImageProcessor(size={"height": 128, "width": 128})
    dataset = PoseDataset(rows, AugmentedExamples(processor, HUMAN36M, Augmentation()))
    loader = DataLoader(dataset, batch, shuffle=True, collate_fn=collate_poses)
    times = take_turns({"epoch": lambda: sum(1 for _ in loader)}, rounds)["epoch"]
    return 1000 * len(dataset) / min(times)


def main() -> None:
    """Time all three and write the table."""
    parser = parse_arguments(__doc__, rounds=5)
    parser.add_argument("--people", type=int, default=PEOPLE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    picture = Image.open(PICTURE).convert("RGB")
    contestants = processors(picture, draw_boxes(options.people, picture))
    check(*(contestant() for contestant in contestants.values()))
    rows = []
    for row in compare(contestants, "VitPose", options.rounds):
        rate = 1000 * options.people / row["ms"]
        rows.append({"what": f"crops of {row['contestant']}", "images/s": rate, "ratio": row["ratio"]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        rows.append({"what": "synthetic people", "images/s": time_synthesis(path, options.people), "ratio": 1.0})
        rows.append({"what": "training data", "images/s": time_loading(path, 16, options.rounds), "ratio": 1.0})
    report(rows, options.output)


if __name__ == "__main__":
    main()
