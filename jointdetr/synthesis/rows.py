"""Synthetic people as rows of a pose dataset, pictures encoded: for files, and for training that draws as it goes.

Shape vocabulary: `batch` people rendered in one go, `joints` of the skeleton.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..skeleton_jointdetr import HUMAN36M
from .body import load_body
from .mocap import MotionLibrary
from .poses import sample_people
from .renderer import PersonRenderer, Rendering, RenderSettings
from .scene import Preset


@dataclass(frozen=True)
class RowSettings:
    """Who is drawn, and how they are pictured.

    Attributes:
        seed: non-negative; another seed gives other people.
        size: width and height of the pictures in px.
        preset: "everyday" (mostly upright, level views), "everything" (all poses, steep views, cut-off people) or
            "nobody" (rooms where nobody is; the box is where a person would fill the picture).
        supersampling: rays along each edge of a pixel.
        quality: of the JPEG pictures, 1 to 95.
        motions: folder of motion capture (ASF/AMC files) to take half of the poses from.
        device: where to pose and render, such as "cpu" or "cuda" (untested).

    Raises:
        ValueError: a value out of its range.
    """

    seed: int = 0
    size: int = 256
    preset: Preset = "everyday"
    supersampling: int = 1
    quality: int = 90
    motions: str | Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if self.seed < 0:
            raise ValueError(f"`seed` must not be negative, got {self.seed}")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"`quality` must be from 1 to 95, got {self.quality}")
        self.render_settings()

    def render_settings(self) -> RenderSettings:
        """The part of the settings that the renderer needs."""
        return RenderSettings(self.size, self.supersampling, self.preset)


class PersonRows:
    """Draws, renders and encodes people; keeps the body and the renderer between them.

    A row depends on the settings and the person's number, and to the last bits on how many are rendered in one go.

    Args:
        settings: who is drawn, and how they are pictured.

    Raises:
        ValueError: there are no motions in the folder for them.
    """

    def __init__(self, settings: RowSettings) -> None:
        """Load the body and the motions."""
        self.settings = settings
        self.body = load_body(settings.device)
        self.motions = None if settings.motions is None else MotionLibrary(self.body, settings.motions)
        self.renderer = PersonRenderer(self.body, settings.render_settings())

    def render(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of the people with these numbers, with the columns of `jointdetr.data.schema.pose_features`."""
        seeds = [person_seed(self.settings.seed, number) for number in numbers]
        people = sample_people(self.body, seeds, self.settings.preset, self.motions)
        rendering = self.renderer.render(people, seeds)
        return list(self._rows(rendering, numbers, people.activity))

    def _rows(self, rendering: Rendering, numbers: Sequence[int], activities: list[str]) -> Iterator[dict[str, Any]]:
        """Dataset rows of a batch."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in vars(rendering).items()}
        nobody = self.settings.preset == "nobody"
        known = [not nobody] * len(HUMAN36M.joints)
        for index, (number, activity) in enumerate(zip(numbers, activities, strict=True)):
            yield {
                "image": _encode(arrays["images"][index], self.settings.quality),
                "joints_3d": arrays["joints_camera"][index].tolist(),
                "joints_3d_valid": known,
                "joints_2d": arrays["joints_2d"][index].tolist(),
                "joints_2d_valid": known,
                "visible": (arrays["visible"][index] & known).tolist(),
                "intrinsics": arrays["intrinsics"][index].tolist(),
                "box": arrays["box"][index].tolist(),
                "skeleton": HUMAN36M.name,
                "subject": f"synthetic-{self.settings.seed}-{number:07d}",
                "action": activity,
                "camera": "synthetic",
                "frame": number,
                "nobody": nobody,
            }


def person_seed(seed: int, number: int) -> int:
    """Seed of one person, from the settings' seed and the person's number alone."""
    state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def _encode(pixels: np.ndarray, quality: int) -> dict[str, bytes | None]:
    """A picture as `datasets.Image` stores it, as a JPEG of a quality from 1 to 95."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return {"bytes": stream.getvalue(), "path": None}
