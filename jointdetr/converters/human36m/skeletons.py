"""Human3.6M's poses alone, from VideoPose3D's `data_3d_h36m.npz`, for the refinement network.

Its one array `positions_3d` is a pickled dictionary `{subject: {action: (frames, 32, 3)}}` in metres in the room's
axes, z up; it is read by `safe_pickle`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...formats.safe_pickle import load_npz_objects
from ...skeleton_jointdetr import HUMAN36M
from ..conversion import Converter, Labels, Recording, Skipped
from .labels import JOINTS_OF_32, action_of, split_of

METRES_TO_MM = 1000.0
USUAL_STEP = 5


@dataclass(frozen=True)
class Human36mSkeletons(Converter):
    """VideoPose3D's npz.

    Args:
        source: the file.
        step: take every `step`-th frame; None takes every fifth, a tenth of a second apart.
    """

    source: Path
    step: int | None = None
    skeleton = HUMAN36M
    skeletons_only = True

    def recordings(self) -> list[Recording]:
        """One for each take of a subject."""
        return [
            Recording(f"{subject}_{action.replace(' ', '_')}", split_of(subject), self.source, (subject, action))
            for subject, actions in self._positions.items()
            for action in actions
        ]

    def rows(self, recording: Recording) -> Iterator[Labels | Skipped]:
        """Poses of a take."""
        subject, action = recording.data
        positions = np.asarray(self._positions[subject][action])  # (frames, 32, 3) m
        if positions.ndim != 3 or positions.shape[1] not in (32, 17) or positions.shape[2] != 3:
            raise ValueError(
                f"`positions_3d` of {subject}, {action} must have the shape (frames, 32, 3), got {positions.shape}"
            )
        chosen = JOINTS_OF_32 if positions.shape[1] == 32 else slice(None)
        for frame in range(0, len(positions), self.step or USUAL_STEP):
            x, y, z = positions[frame, chosen].T * METRES_TO_MM
            level = np.stack([x, -z, y], axis=-1)  # (joints, 3), y down
            yield {"joints_3d": level, "subject": subject, "action": action_of(action), "frame": frame}

    @cached_property
    def _positions(self) -> dict[str, dict[str, np.ndarray]]:
        positions = load_npz_objects(self.source)["positions_3d"]
        if not isinstance(positions, dict) or not all(isinstance(takes, dict) for takes in positions.values()):
            got = type(positions).__name__
            raise ValueError(f"`positions_3d` of {self.source} must be a dictionary of takes by subject, got {got}")
        return positions
