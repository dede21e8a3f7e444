"""Evaluation protocols, each with its fine print, and how a data set's rows are chosen for one.

A protocol is data: which frames of which subjects and cameras, which joints, relative to which root, which metrics,
and what the means are over. `PLAIN` takes any rows of the model's own joints; the others are the papers'.

Shape vocabulary: `poses` (N), `joints` (J). Positions are millimetres in camera axes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import datasets
import numpy as np
import torch

from ..skeleton_jointdetr import HUMAN36M, SKELETONS, Skeleton
from .metrics import auc, mpjpe, pa_mpjpe, pck

if TYPE_CHECKING:
    import pandas

_RECORDING = ["subject", "action", "camera"]
LIMB_JOINTS = tuple(
    f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("right", "left")
)
"""The joints of arms and legs."""


@dataclass(frozen=True)
class Metric:
    """A number of a protocol: its label with the unit, how it is computed, and a factor on what is printed."""

    label: str
    function: Callable[..., torch.Tensor]
    rule: str
    factor: float = 1.0


METRICS = {
    "mpjpe": Metric("MPJPE mm", mpjpe, "no alignment but the root's"),
    "pa_mpjpe": Metric(
        "PA-MPJPE mm", pa_mpjpe, "aligned by rotation, translation and scale over the scored joints, no reflection"
    ),
    "pck_150": Metric("PCK@150 %", pck, "joints closer than 150 mm, strictly; no alignment but the root's", 100.0),
    "auc": Metric(
        "AUC %", auc, "mean PCK over the thresholds 0:5:150 mm, both ends included, strictly below each", 100.0
    ),
}
"""Metrics by name: functions of predicted and true joints `(poses, joints, 3)` and `valid` `(poses, joints)`."""


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol."""

    name: str  # on the command line
    title: str  # of the report
    metrics: tuple[str, ...]  # names in `METRICS`, the headline first
    skeletons: tuple[str, ...] = ()  # names of the skeletons that the data may have; empty for the model's own joints
    joints: tuple[str, ...] = ()  # names of the joints that are scored; empty for all of the data's
    # Joints in whose middle the positions' origin is, in prediction and truth; they need not be scored. Empty leaves
    # predictions as they are, so that an error of the root counts.
    root: tuple[str, ...] = ()
    headline_mean: str = "frames"  # what papers quote: the mean over `frames`, or over `groups` of the groups' means
    grouped_by: str | None = None  # column that the groups' means are over; None for no groups
    fine_print: dict[str, str] = field(default_factory=dict)  # what else the papers fix, by topic
    group_pattern: str = r"(.*)"  # regular expression for the part of the column that names the group
    subjects: tuple[str, ...] = ()  # that have to be there, others' rows are left out; empty takes all
    cameras: tuple[str, ...] = ()  # likewise
    frame_step: int = 1  # of each recording every so many frames count, from its first number on
    poses: int | None = None  # how many there are officially; None where papers differ

    def scored_joints(self, skeleton: Skeleton) -> list[str]:
        """Those of the protocol's joints that the data have."""
        return [name for name in self.joints or skeleton.joints if name in skeleton.joints]

    def skeleton_of(self, rows: datasets.Dataset, own: Skeleton) -> Skeleton:
        """Return the skeleton of rows by the first of them; a model's `own` joints may have another name there."""
        if not len(rows):
            raise ValueError(f"protocol {self.name} needs at least one row, got an empty split")
        name = rows["skeleton"][0]
        if self.skeletons:
            others = set(rows["skeleton"]) - set(self.skeletons)
            if others:
                names = " or ".join(map(repr, self.skeletons))
                raise ValueError(f"protocol {self.name} needs rows of skeleton {names}, got {min(others)!r}")
            return SKELETONS[name]
        if name in SKELETONS and SKELETONS[name].joints != own.joints:
            raise ValueError(f"the rows must be of the model's skeleton {own.name!r}, got {name!r}, of other joints")
        return replace(own, name=name)


_HUMAN36M = {
    "skeletons": ("human36m",),
    "joints": HUMAN36M.joints,
    "root": ("pelvis",),
    "headline_mean": "groups",
    "grouped_by": "action",
    "group_pattern": r"(.*?)(?:[ _]\d+)?",  # both takes of an action are one action
    "subjects": ("S9", "S11"),
    "cameras": ("54138969", "55011271", "58860488", "60457274"),
    "frame_step": 64,
    "fine_print": {
        "training data": "S1, S5, S6, S7, S8 by the protocol",
        "traps": "17 joints with the zero root, not 16; S9's Greeting, SittingDown 1 and Waiting 1 are shifted by "
        "about 200 mm, which relative errors do not see; the mesh papers' 'P2' is another test (one camera, 14 "
        "joints)",
    },
}

PLAIN = Protocol(name="plain", title="Evaluation", metrics=("mpjpe", "pa_mpjpe", "pck_150", "auc"))
"""Every row, every labelled joint of the model's own skeleton, predictions as they are."""

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PLAIN,
        Protocol(name="human36m-p1", title="Human3.6M, protocol 1", metrics=("mpjpe", "pck_150", "auc"), **_HUMAN36M),
        Protocol(name="human36m-p2", title="Human3.6M, protocol 2", metrics=("pa_mpjpe",), **_HUMAN36M),
        Protocol(
            name="3dhp",
            title="MPI-INF-3DHP, test set",
            skeletons=("mpi_inf_3dhp",),
            joints=("head_top", "neck", *LIMB_JOINTS),
            root=("pelvis",),
            metrics=("pck_150", "auc", "mpjpe"),
            grouped_by="subject",
            subjects=tuple(f"TS{number}" for number in range(1, 7)),
            poses=2929,
            fine_print={
                "ground truth": "the data's own: the official script takes univ_annot3 (one universal skeleton size); "
                "annot3 gives other numbers, so say which one was converted",
                "joints left out": "pelvis, spine, head",
            },
        ),
        Protocol(
            name="3dpw",
            title="3DPW, test split",
            skeletons=("lsp", "smpl"),
            joints=("neck", "head_top", *LIMB_JOINTS),
            root=("right_hip", "left_hip"),
            metrics=("pa_mpjpe", "mpjpe"),
            grouped_by="action",
            fine_print={
                "ground truth": "papers regress 14 joints from the SMPL mesh by the Human3.6M regressor, as "
                "rows of skeleton lsp should hold; SMPL's own joints (skeleton smpl) give other numbers",
            },
        ),
        Protocol(
            name="panoptic",
            title="CMU Panoptic, HD cameras 16 and 30",
            skeletons=("panoptic", "panoptic_body"),
            joints=("neck", "nose", "pelvis", *LIMB_JOINTS),
            root=("pelvis",),
            metrics=("mpjpe", "pa_mpjpe"),
            headline_mean="groups",
            grouped_by="action",
            group_pattern=r"\d*_?([a-zA-Z]+).*",  # 160906_pizza1 is pizza
            cameras=("00_16", "00_30"),
            fine_print={"official size": "9,600 frames of haggling, mafia, ultimatum and pizza"},
        ),
    )
}
"""Protocols by name."""


def choose_rows(rows: datasets.Dataset, protocol: Protocol) -> tuple[datasets.Dataset, list[str] | None, list[str]]:
    """Take the rows of a protocol's subjects, cameras and frames, in the order of the data set.

    Returns them, the group of each or None, and what is missing for numbers that can be compared with papers.
    """
    chosen = rows.select_columns([*_RECORDING, "frame"]).to_pandas()
    wanted = {"subject": protocol.subjects, "camera": protocol.cameras}
    for kind, names in wanted.items():
        kept = chosen[chosen[kind].isin(names)] if names else chosen
        if kept.empty:
            found = ", ".join(map(repr, sorted(set(chosen[kind]))[:8]))
            raise ValueError(f"protocol {protocol.name} needs rows of {kind} {', '.join(names)}, got only {found}")
        chosen = kept
    if protocol.frame_step > 1:
        chosen = _every_nth_frame(chosen, protocol)
    groups = None
    if protocol.grouped_by is not None:
        pattern = re.compile(rf"\A(?:{protocol.group_pattern})\Z")
        groups = [pattern.sub(r"\1", value) for value in chosen[protocol.grouped_by]]
    lacking = [f"{kind} {name}" for kind, names in wanted.items() for name in names if name not in set(chosen[kind])]
    if protocol.poses not in (None, len(chosen)):
        lacking.append(f"{len(chosen)} of the official {protocol.poses} poses")
    return rows.select(chosen.index), groups, lacking


def _every_nth_frame(rows: "pandas.DataFrame", protocol: Protocol) -> "pandas.DataFrame":
    """Keep every so many frames, counted from 0 or 1 as the lowest number is; data converted so are kept whole."""
    step = protocol.frame_step
    for recording, frames in rows.groupby(_RECORDING, sort=False)["frame"]:
        spacing = np.gcd.reduce(np.diff(np.sort(frames)))
        if spacing and step % spacing:
            raise ValueError(
                f"protocol {protocol.name} needs every {step}th frame, got every {spacing}th in "
                f"{' '.join(recording)}: convert with a step that divides {step}"
            )
    return rows[rows["frame"] % step == rows["frame"].min() % step]
