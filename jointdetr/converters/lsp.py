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
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from ..skeleton_jointdetr import LSP, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped

PICTURES_PER_RECORDING = 500
HELD_OUT_RUNS = 10
PIXEL_CENTRE = 0.5


@dataclass(frozen=True)
class LeedsSportsPose(Converter):
    """People of LSP or LSPET."""

    source: Path  # the folder with `joints.mat` and `images`
    images: Path | None = None  # the folder with the pictures; `source / "images"` if None
    fewest_joints: int = 6  # labelled joints a person must have
    held_out: int = (
        0  # people for the split `test`: ten runs of neighbours, as pictures of one event follow one another
    )
    skeleton: ClassVar[Skeleton] = LSP

    def recordings(self) -> list[Recording]:
        """People of each split by the hundred; `data` are their indices."""
        test = held_out_people(len(self._people.joints), self.held_out)
        train = np.setdiff1d(np.arange(len(self._people.joints)), test)
        parts = []
        for split, people in (("train", train), ("test", test)):
            for number, start in enumerate(range(0, len(people), PICTURES_PER_RECORDING)):
                chosen = people[start : start + PICTURES_PER_RECORDING].tolist()
                parts.append(Recording(f"{number:03d}", split, self.source / "joints.mat", chosen))
        return parts

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person."""
        folder = self.images or self.source / "images"
        for person in recording.data:
            joints, labelled, visible = (values[person] for values in self._people[:3])
            if labelled.sum() < self.fewest_joints:
                detail = f"person {person + 1} has {labelled.sum()}"
                yield Skipped("too few joints are labelled", detail, person + 1)
                continue
            yield {
                "image": folder / f"im{person + 1:0{self._people.digits}d}.jpg",
                "joints_2d": np.where(labelled[:, None], joints + PIXEL_CENTRE, np.nan),
                "visible": visible,
                "subject": str(person + 1),
                "frame": person + 1,
            }

    @cached_property
    def _people(self) -> "_People":
        return _read_people(self.source / "joints.mat")


class _People(NamedTuple):
    """Joints `(people, 14, 2)` px, which are labelled and which visible `(people, 14)`; digits of pictures' names."""

    joints: np.ndarray
    labelled: np.ndarray
    visible: np.ndarray
    digits: int


def _read_people(path: Path) -> _People:
    """Read the labels of LSP or LSPET."""
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
    joints, flags = people[..., :2], people[..., 2] > 0
    labelled = np.isfinite(joints).all(axis=-1) & (is_lsp | flags)
    return _People(joints, labelled, labelled & (flags != is_lsp), 4 if is_lsp else 5)


def held_out_people(people: int, count: int) -> np.ndarray:
    """Indices of so many people, in ten runs of neighbours that are spread evenly."""
    if not 0 <= count <= people:
        raise ValueError(f"`held_out` must be from 0 to {people}, the number of people, got {count}")
    starts = np.linspace(0, people, HELD_OUT_RUNS + 1)[:-1].astype(int)
    lengths = [count // HELD_OUT_RUNS + (run < count % HELD_OUT_RUNS) for run in range(HELD_OUT_RUNS)]
    return np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
