"""Rows of a small synthetic pose dataset, and training under a launcher, for the tests of this folder."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import yaml
from PIL import Image

from jointdetr.data.schema import pose_features
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.augmentation import PROBABILITIES, Augmentation

INTRINSICS = np.array([[150.0, 0, 50], [0, 150, 46], [0, 0, 1]])
SIDE_PX = 96
STILL = Augmentation(**dict.fromkeys(PROBABILITIES, 0.0), scale=1.0, shift=0.0, colour=0.0)
"""Views that are plain crops."""
CPU_PROCESSES = Path(__file__).parents[2] / "examples" / "accelerate" / "cpu.yaml"


def encode(pixels: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def make_row(seed: int, pixels: np.ndarray | None = None) -> dict:
    """A row whose 2D joints are the projections of its 3D joints; `pixels` is the picture, noise by default."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-700, 700, (17, 3)) + [60, 40, 4000]  # mm
    homogeneous = joints @ INTRINSICS.T
    if pixels is None:
        pixels = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return {
        "image": encode(pixels),
        "joints_3d": joints,
        "joints_3d_valid": np.ones(17, bool),
        "joints_2d": homogeneous[:, :2] / homogeneous[:, 2:],
        "joints_2d_valid": np.ones(17, bool),
        "visible": rng.random(17) < 0.7,
        "intrinsics": INTRINSICS,
        "box": [12.0, 8.0, 72.0, 76.0],
        "skeleton": HUMAN36M.name,
        "subject": "",
        "action": "",
        "camera": "",
        "frame": seed,
    }


def make_rows(rows: list[dict]) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows, features=pose_features())


def train_in_two_processes(recipe: dict, folder: Path) -> str:
    """Train as a user would launch it; returns what was printed."""
    return launch_training(recipe, folder, ["--config_file", str(CPU_PROCESSES), "--main_process_port", "0"])


def launch_training(recipe: dict, folder: Path, options: Sequence[str] = ()) -> str:
    """Train under `accelerate launch` with these options; returns what was printed."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    launch = [sys.executable, "-m", "accelerate.commands.launch", *options]
    command = [*launch, "-m", "jointdetr.training.train", "--config", str(folder / "recipe.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
