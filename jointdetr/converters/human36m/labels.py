"""Human3.6M: which files a user has, and what all of them agree on.

Human3.6M may be used for research only and may not be passed on; the converters read a copy that the user has. There
are three kinds: the official files (`human36m_official`), the npz of mmpose and SPIN with pictures (`human36m_npz`),
and VideoPose3D's npz of poses alone (`human36m_skeletons`). Subjects 9 and 11 are the test split, all others train.
"""

from pathlib import Path

import numpy as np

from ..conversion import Converter
from ..sources import Source

JOINTS_OF_32 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
"""Where the 17 joints of the skeleton `human36m` stand among the 32 of the motion capture."""

TEST_SUBJECTS = ("S9", "S11")
ACTION_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}


def human36m_converter(source: Source) -> Converter:
    """Make the converter of the files that are there.

    Raises:
        ValueError: They are none of the three kinds.
    """
    if source.path.is_dir() and any(source.path.glob("S[0-9]*/**/*.cdf")):
        from .official import Human36mOfficial

        return Human36mOfficial(source.path, source.step)
    path = source.path if source.path.is_file() else _only_npz(source.path)
    names = _array_names(path)
    if "positions_3d" in names:
        from .skeletons import Human36mSkeletons

        return Human36mSkeletons(path, source.step)
    if "imgname" in names:
        from .npz import Human36mNpz

        return Human36mNpz(path, source.images or path.parent, source.step)
    raise ValueError(f"{path} must have the array `imgname` (mmpose) or `positions_3d` (VideoPose3D), got {names}")


def split_of(subject: str) -> str:
    """The split of a subject such as "S9"."""
    return "test" if subject in TEST_SUBJECTS else "train"


def action_of(name: str) -> str:
    """Name of an action as the test protocols have it: "WalkingDog 1" and "WalkDog_1" are both "WalkDog_1"."""
    action, _, take = name.replace(" ", "_").partition("_")
    return ACTION_NAMES.get(action, action) + (f"_{take}" if take else "")


def _only_npz(folder: Path) -> Path:
    """The npz file of a folder."""
    found = sorted(folder.glob("*.npz"))
    if len(found) != 1:
        names = [path.name for path in found]
        raise ValueError(
            f"{folder} must hold subjects such as S1 with D3_Positions_mono/*.cdf, or one npz file; got {names}"
        )
    return found[0]


def _array_names(path: Path) -> list[str]:
    """Names of the arrays of an npz file, none of which is read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    except (ValueError, OSError, AttributeError) as error:  # numpy takes what is no npz for a pickle
        raise ValueError(f"{path}: expected an npz file, got none: {error}") from error
