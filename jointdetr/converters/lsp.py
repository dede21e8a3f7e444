"""Leeds Sports Pose and its extension: photographs of sports people with 2D labels only.

The official layout of both archives, which state no licence; the pictures are their owners' on Flickr:

    SOURCE/joints.mat             `joints` (3, 14, 2000) of LSP, or (14, 3, 10000) of LSPET
    SOURCE/images/im0001.jpg      the first person's; im00001.jpg in LSPET

Rows have no 3D label, and their camera is not known. In LSP every joint is labelled, and the third number says that
it is hidden; in LSPET it says that the joint is labelled, and hidden joints mostly are not. Both count pixels by their
corner, so half a pixel is added. `frame` is the person's number, from 1.

The labels of LSPET are crowd workers' and noisy. `opinion` names what another model says of the same people, by which
they are mended, see [`mend`]; people that are held out keep their labels as they are.

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

from ..camera_jointdetr import flip_permutation
from ..skeleton_jointdetr import LSP, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped

PICTURES_PER_RECORDING = 500
HELD_OUT_RUNS = 10
PIXEL_CENTRE = 0.5
LIMBS = 12  # joints before neck and head, which another model may place elsewhere
BLAZEPOSE_JOINTS = (28, 26, 24, 23, 25, 27, 16, 14, 12, 11, 13, 15)  # MediaPipe's landmarks of the twelve limb joints

# distances in lengths of the torso
AGREE, SWAPPED, DISAGREE = 0.3, 0.5, 0.75


@dataclass(frozen=True)
class LeedsSportsPose(Converter):
    """People of LSP or LSPET.

    Args:
        source: the folder with `joints.mat` and `images`.
        images: the folder with the pictures; `source / "images"` if None.
        fewest_joints: labelled joints a person must have.
        held_out: so many people become the split `test`: ten runs of neighbours, as pictures of one event follow one
            another.
        opinion: npz file with `points` (people, 33, 2 or more) in px, what MediaPipe Pose says of each person, NaN
            where it finds nobody; empty for none.
    """

    source: Path
    images: Path | None = None
    fewest_joints: int = 6
    held_out: int = 0
    opinion: str = ""
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
        for person in recording.data:
            joints, labelled, visible = (values[person] for values in self._people[:3])
            if self._opinion is not None and recording.split == "train":
                joints, labelled = mend(joints, labelled, self._opinion[person])
                visible = visible & labelled
            if labelled.sum() < self.fewest_joints:
                detail = f"person {person + 1} has {labelled.sum()}"
                yield Skipped("too few joints are labelled", detail, person + 1)
                continue
            yield {
                "image": self._picture(person),
                "joints_2d": np.where(labelled[:, None], joints + PIXEL_CENTRE, np.nan),
                "visible": visible,
                "subject": str(person + 1),
                "frame": person + 1,
            }

    def _picture(self, person: int) -> Path:
        """File of a person's picture."""
        folder = self.source / "images" if self.images is None else self.images
        return folder / f"im{person + 1:0{self._people.digits}d}.jpg"

    @cached_property
    def _people(self) -> "_People":
        return _read_people(self.source / "joints.mat")

    @cached_property
    def _opinion(self) -> np.ndarray | None:
        """What the other model says of the limb joints (people, 12, 2), px; None without one."""
        if not self.opinion:
            return None
        with np.load(self.opinion, allow_pickle=False) as stored:
            points = stored["points"] if "points" in stored else np.empty(0)
        if points.ndim != 3 or points.shape[:2] != (len(self._people.joints), 33) or points.shape[2] < 2:
            expected = f"({len(self._people.joints)}, 33, 2 or more)"
            raise ValueError(f"{self.opinion} must hold `points` of {expected}, got {points.shape}")
        return points[:, BLAZEPOSE_JOINTS, :2].astype(np.float64)


class _People(NamedTuple):
    """Joints `(people, 14, 2)` px, which are labelled and which visible `(people, 14)`; digits of pictures' names."""

    joints: np.ndarray
    labelled: np.ndarray
    visible: np.ndarray
    digits: int


def _read_people(path: Path) -> _People:
    """Read the labels of LSP or LSPET.

    Raises:
        ValueError: The file is missing or holds something else.
    """
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


def torso_length(joints: np.ndarray, labelled: np.ndarray) -> float:
    """Distance of the middle of the labelled shoulders (or the neck) from that of the labelled hips; NaN without.

    Args:
        joints: (14, 2) px.
        labelled: (14,) bool.
    """
    shoulders, hips, neck = [8, 9], [2, 3], [12]
    upper = shoulders if labelled[shoulders].any() else neck
    if not (labelled[upper].any() and labelled[hips].any()):
        return float("nan")
    ends = [joints[part][labelled[part]].mean(axis=0) for part in (upper, hips)]
    return float(np.linalg.norm(ends[0] - ends[1]))


def mend(joints: np.ndarray, labelled: np.ndarray, opinion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mend a person's labels by what another model says of the limb joints.

    Left and right are traded where the opinion is within half a torso of the traded labels on average, and less than
    half as far from them as from those given. Where most limb joints agree to 0.3 of the torso, a joint that is
    more than 0.75 off loses its label, one of the two being wrong.

    Args:
        joints: (14, 2) px.
        labelled: (14,) bool.
        opinion: (12, 2) px of the joints before neck and head, NaN where unknown.

    Returns:
        Joints and which of them are labelled, in the same shapes.
    """
    torso = torso_length(joints, labelled)
    if not (np.isfinite(torso) and torso > 0):
        return joints, labelled
    traded = np.array(flip_permutation(LSP.flip_pairs, len(LSP.joints)))
    given, other = (_distances(joints[order], labelled[order], opinion) / torso for order in (slice(None), traded))
    both = np.isfinite(given) & np.isfinite(other)
    if both.any() and other[both].mean() < min(SWAPPED, SWAPPED * given[both].mean()):
        joints, labelled, given = joints[traded], labelled[traded], other
    known = np.isfinite(given)
    if known.any() and (given[known] < AGREE).mean() > 0.5:
        labelled = labelled.copy()
        labelled[:LIMBS] &= ~(given > DISAGREE)
    return joints, labelled


def _distances(joints: np.ndarray, labelled: np.ndarray, opinion: np.ndarray) -> np.ndarray:
    """Distance of each labelled limb joint from the opinion (12,) px, NaN where either is unknown."""
    return np.where(labelled[:LIMBS], np.linalg.norm(joints[:LIMBS] - opinion, axis=-1), np.nan)
