"""Synthetic people as rows of a pose dataset: for training that draws as it goes, and written to Parquet files.

Each person depends on the settings' seed and the person's number alone, so the files are the same for any number of
workers and after any interruption. Several processes may fill one folder (`jointdetr.formats.shards`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from ..data.rows import encode_picture
from ..data.schema import pose_features
from ..formats.shards import fill, open_folder, parquet_aside, write_aside
from ..skeleton_jointdetr import HUMAN36M
from .body import load_body
from .poses import sample_people
from .posing import MotionLibrary
from .renderer import PersonRenderer, RenderSettings

PEOPLE_AT_ONCE = 32
SETTINGS_FILE = "synthesis.json"
CARD = """---
license: cc0-1.0
pretty_name: Synthetic people with exact 3D joints
tags: [3d-human-pose-estimation, synthetic]
configs:
- config_name: default
  data_files: data/train-*.parquet
---
# Synthetic people with exact 3D joints

{count} pictures of {size} x {size} px, one person each, made by `jointdetr` ({preset} preset, seed {seed}).
No photograph and no real person is in it: body shapes come from MakeHuman's data (CC0); poses, clothes, rooms and
light are drawn at random.

Each row has the picture, the 17 joints of the Human3.6M skeleton in camera space (millimetres; x right, y down,
z forward) and in pixels, which of them are visible, the camera's intrinsics and the person's box.
Joints follow the body model, so they agree with markers on real people to a few centimetres only.

```python
from datasets import load_dataset

row = load_dataset("PATH_OF_THIS_FOLDER", split="train")[0]
print(row["image"].size, row["joints_3d"][0])
```

`synthesis.json` holds the settings; the same settings give the same files.
"""


@dataclass(frozen=True, kw_only=True)
class RowSettings(RenderSettings):
    """Who is drawn, and how they are pictured."""

    seed: int = 0  # another one gives other people
    quality: int = 90  # of the JPEG pictures, 1 to 95
    motions: str | Path | None = None  # folder of motion capture (ASF/AMC files) to take half of the poses from
    device: str = "cpu"  # where to pose and render; "cuda" is untested

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise ValueError(f"`seed` must not be negative, got {self.seed}")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"`quality` must be from 1 to 95, got {self.quality}")


class PersonRows:
    """Draws, renders and encodes people; keeps the body and the renderer between them.

    A row depends on the settings and the person's number, and to the last bits on how many are rendered in one go.
    """

    def __init__(self, settings: RowSettings) -> None:
        self.settings = settings
        self.body = load_body(settings.device)
        self.motions = None if settings.motions is None else MotionLibrary(self.body, settings.motions)
        self.renderer = PersonRenderer(self.body, settings)

    def render(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of the people with these numbers, with the columns of `jointdetr.data.schema.pose_features`."""
        seeds = [person_seed(self.settings.seed, number) for number in numbers]
        people = sample_people(self.body, seeds, self.settings.preset, self.motions)
        rendering = self.renderer.render(people, seeds)
        arrays = {name: tensor.cpu().numpy() for name, tensor in vars(rendering).items()}
        is_there = self.settings.preset != "nobody"
        known = [is_there] * len(HUMAN36M.joints)
        return [
            {
                "image": encode_picture(Image.fromarray(arrays["images"][index]), self.settings.quality),
                "joints_3d": arrays["joints_camera"][index].tolist(),
                "joints_3d_valid": known,
                "joints_2d": arrays["joints_2d"][index].tolist(),
                "joints_2d_valid": known,
                "visible": (arrays["visible"][index] & known).tolist(),
                "intrinsics": arrays["intrinsics"][index].tolist(),
                "box": arrays["box"][index].tolist(),
                "skeleton": HUMAN36M.name,
                "subject": f"synthetic-{self.settings.seed}-{number:07d}",
                "action": people.activity[index],
                "camera": "synthetic",
                "frame": number,
                "nobody": not is_there,
            }
            for index, number in enumerate(numbers)
        ]


def person_seed(seed: int, number: int) -> int:
    """Seed of one person, from the settings' seed and the person's number alone."""
    state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings(RowSettings):
    """What dataset to write, and how."""

    output: str | Path  # folder; it may hold a part of the same dataset
    count: int = 1000  # people, one picture each
    shard_size: int = 500  # people in one Parquet file
    workers: int = 1  # processes to start; 1 works in the calling process

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("count", "shard_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")

    def identity(self) -> dict[str, Any]:
        """The settings that decide what the files hold, unlike where and by how many workers they are written."""
        kept = {name: value for name, value in asdict(self).items() if name not in ("output", "workers", "device")}
        return kept | {"motions": None if self.motions is None else Path(self.motions).name}

    def shards(self) -> dict[Path, range]:
        """The Parquet files, and the numbers of the people in each."""
        people = range(self.count)
        starts = people[:: self.shard_size]
        names = [f"train-{shard:05d}-of-{len(starts):05d}.parquet" for shard in range(len(starts))]
        parts = [people[start : start + self.shard_size] for start in starts]
        return {Path(self.output) / "data" / name: part for name, part in zip(names, parts, strict=True)}


def synthesize(settings: SynthesisSettings) -> Path:
    """Write the dataset, or what is missing of it; returns the folder, complete.

    Raises:
        ValueError: The folder holds a dataset of other settings or data of unknown origin, or there are no motions.
        RuntimeError: A worker died.
    """
    folder = Path(settings.output)
    open_folder(folder, SETTINGS_FILE, settings.identity())
    write_aside(folder / "README.md", CARD.format(**settings.identity()).encode())
    files = {path: (path, numbers) for path, numbers in settings.shards().items()}
    fill(files, partial(_write_shard, settings), settings.workers, "files of synthetic people")
    return folder


def _write_shard(settings: SynthesisSettings, shard: tuple[Path, range]) -> None:
    path, numbers = shard
    schema = pose_features(len(HUMAN36M.joints), nobody=settings.preset == "nobody").arrow_schema
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits of a sum depend on it
    try:
        people = _person_rows(settings)
        with parquet_aside(path, schema) as file:
            for first in range(0, len(numbers), PEOPLE_AT_ONCE):
                rows = people.render(numbers[first : first + PEOPLE_AT_ONCE])
                file.write_table(pa.Table.from_pylist(rows, schema=schema))
    finally:
        torch.set_num_threads(threads)


_person_rows = lru_cache(maxsize=1)(PersonRows)  # a process loads body and motions once
