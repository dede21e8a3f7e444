"""Any converter with the joints of another skeleton, so that data sets of different skeletons are trained on together.

Shape vocabulary: `source` and `target` joints.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...data.skeleton_mapping import map_skeleton, mapping_weights
from ...skeleton_jointdetr import Skeleton
from ..conversion import Converter, Labels, Recording, Skipped


@dataclass(frozen=True)
class MappedConverter(Converter):
    """Rows of a converter, mapped by `map_skeleton`; joints that cannot be had are not valid.

    Args:
        original: the converter.
        target: the skeleton that is asked for.

    Raises:
        ValueError: The root of the target cannot be had.
    """

    original: Converter
    target: Skeleton

    def __post_init__(self) -> None:
        """Refuse a skeleton to which nothing could be relative."""
        _, possible = mapping_weights(self.original.skeleton, self.target)
        if not possible[self.target.root]:
            root = self.target.joints[self.target.root]
            raise ValueError(
                f"skeleton {self.original.skeleton.name!r} cannot be mapped to {self.target.name!r}: nothing gives "
                f"its root {root!r}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Send the original to another process without what it has cached."""
        return {"original": replace(self.original), "target": self.target}

    @property
    def skeleton(self) -> Skeleton:
        """The target."""
        return self.target

    @property
    def skeletons_only(self) -> bool:
        """As the original."""
        return self.original.skeletons_only

    @property
    def shows_nobody(self) -> bool:
        """As the original."""
        return self.original.shows_nobody

    def recordings(self) -> list[Recording]:
        """As the original."""
        return self.original.recordings()

    def rows(self, recording: Recording) -> Iterator[Labels | Skipped]:
        """Rows of the original with other joints."""
        for labels in self.original.rows(recording):
            yield labels if isinstance(labels, Skipped) else self._mapped(labels)

    def remarks(self, recording: Recording) -> list[str]:
        """As the original."""
        return self.original.remarks(recording)

    def _mapped(self, labels: Labels) -> Labels:
        """Map everything that there is of each joint."""
        source, target = self.original.skeleton, self.target
        mapped = dict(labels)
        for name in ("joints_3d", "joints_2d"):
            if name in labels:
                valid = labels.get(f"{name}_valid")
                joints = np.asarray(labels[name], dtype=np.float64)
                mapped[name], mapped[f"{name}_valid"] = map_skeleton(
                    joints, source, target, None if valid is None else np.asarray(valid, dtype=bool)
                )
        if "visible" in labels:
            weights, possible = mapping_weights(source, target)
            hidden = (weights != 0) & ~np.asarray(labels["visible"], dtype=bool)  # (target, source)
            mapped["visible"] = possible & ~hidden.any(axis=1)
        return mapped
