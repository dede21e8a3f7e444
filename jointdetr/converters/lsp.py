"""Leeds Sports Pose and its extension: photographs of sports people with 2D labels only.

The official layout of both archives, which state no licence; the pictures are their owners' on Flickr:

    SOURCE/joints.mat             `joints` (3, 14, 2000) of LSP, or (14, 3, 10000) of LSPET
    SOURCE/images/im0001.jpg      the first person's; im00001.jpg in LSPET

Rows have no 3D label, and their camera is not known. In LSP every joint is labelled, and the third number says that
it is hidden; in LSPET it says that the joint is labelled, and hidden joints mostly are not. Both count pixels by their
corner, so half a pixel is added. `frame` is the person's number, from 1.

Sources: Johnson and Everingham, "Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation", BMVC 2010,
and "Learning Effective Human Pose Estimation from Inaccurate Annotation", CVPR 2011.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from ..skeleton_jointdetr import LSP, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped

PICTURES_PER_RECORDING = 500
HELD_OUT_RUNS = 10  # pictures of one event follow one another
PIXEL_CENTRE = 0.5


@dataclass(frozen=True)
class LeedsSportsPose(Converter):
    """People of LSP or LSPET."""

    source: Path  # the folder with `joints.mat` and `images`
    images: Path | None = None  # the folder with the pictures; `source / "images"` if None
    fewest_joints: int = 6  # labelled joints a person must have
    held_out: int = 0  # people for the split `test`, in ten runs of neighbours
    skeleton: ClassVar[Skeleton] = LSP

    def recordings(self) -> list[Recording]:
        """People of each split by the hundred; `data` are their indices."""
        everybody = np.arange(len(self._people[0]))
        test = held_out_people(len(everybody), self.held_out)
        found = []
        for split, people in (("train", np.setdiff1d(everybody, test)), ("test", test)):
            for number, start in enumerate(range(0, len(people), PICTURES_PER_RECORDING)):
                part = people[start:][:PICTURES_PER_RECORDING].tolist()
                found.append(Recording(f"{number:03d}", split, self.source / "joints.mat", part))
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person."""
        folder = self.images or self.source / "images"
        points, visible, digits = self._people
        for person in recording.data:
            labelled = np.isfinite(points[person]).all(axis=-1).sum()
            if labelled < self.fewest_joints:
                yield Skipped("too few joints are labelled", f"person {person + 1} has {labelled}", person + 1)
                continue
            yield {
                "image": folder / f"im{person + 1:0{digits}d}.jpg",
                "joints_2d": points[person],
                "visible": visible[person],
                "subject": str(person + 1),
                "frame": person + 1,
            }

    @cached_property
    def _people(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Joints `(people, 14, 2)` px, which are visible `(people, 14)`, and digits of pictures' names."""
        path = self.source / "joints.mat"
        if not path.is_file():
            raise ValueError(f"LSP must have its labels as {path}, which does not exist")
        try:
            stored = scipy.io.loadmat(path, variable_names=["joints"]).get("joints")
        except (MatReadError, ValueError, NotImplementedError, TypeError) as error:
            raise ValueError(f"{path} must be a MATLAB file, got a broken one: {error}") from error
        shape = None if stored is None else stored.shape
        if shape is None or len(shape) != 3 or shape[:2] not in ((3, 14), (14, 3)) or stored.dtype.kind not in "fiu":
            raise ValueError(f"{path} must hold numbers `joints` of (3, 14, people) or (14, 3, people), got {shape}")
        is_lsp = shape[0] == 3
        people = stored.transpose((2, 1, 0) if is_lsp else (2, 0, 1)).astype(np.float64)  # (people, 14, 3)
        points, flags = people[..., :2] + PIXEL_CENTRE, people[..., 2] > 0
        labelled = np.isfinite(points).all(axis=-1) & (is_lsp | flags)
        points = np.where(labelled[..., None], points, np.nan)
        return points, labelled & (flags != is_lsp), 4 if is_lsp else 5


def held_out_people(people: int, count: int) -> np.ndarray:
    """Indices of so many people, in ten runs of neighbours that are spread evenly."""
    if not 0 <= count <= people:
        raise ValueError(f"`held_out` must be from 0 to {people}, the number of people, got {count}")
    starts = np.linspace(0, people, HELD_OUT_RUNS + 1)[:-1].astype(int)
    lengths = [count // HELD_OUT_RUNS + (run < count % HELD_OUT_RUNS) for run in range(HELD_OUT_RUNS)]
    return np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
