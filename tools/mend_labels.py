"""Mend the labels of Leeds Sports Pose Extended by what another model says of the same people.

Labels of LSPET are crowd workers' and noisy. This reads its `joints.mat` and an npz file with `points` (people, 33, 2
or more) in px, what MediaPipe Pose says of each person, NaN where it finds nobody, and writes another `joints.mat`.
People that `jointdetr convert lsp` holds out keep their labels, so that numbers compare.

    python tools/mend_labels.py lspet/joints.mat opinion.npz mended/joints.mat --held-out 500
    jointdetr convert lsp mended data/lspet --skeleton human36m --images lspet/images --set held_out=500
"""

import argparse
from pathlib import Path

import numpy as np
import scipy.io

from jointdetr.camera_jointdetr import flip_permutation
from jointdetr.converters.lsp import held_out_people
from jointdetr.skeleton_jointdetr import LSP

LIMBS = 12  # joints before neck and head, which another model may place elsewhere
BLAZEPOSE_JOINTS = (28, 26, 24, 23, 25, 27, 16, 14, 12, 11, 13, 15)  # MediaPipe's landmarks of the twelve limb joints

# distances in lengths of the torso
AGREE, SWAPPED, DISAGREE = 0.3, 0.5, 0.75


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


def mend_all(stored: np.ndarray, points: np.ndarray, held_out: int) -> np.ndarray:
    """Mend LSPET's matrix `(14, 3, people)` by MediaPipe's points `(people, 33, 2 or more)` px."""
    mended = stored.astype(np.float64)
    opinion = points[:, BLAZEPOSE_JOINTS, :2].astype(np.float64)
    people = stored.shape[2]
    for person in np.setdiff1d(np.arange(people), held_out_people(people, held_out)):
        joints, flags = mended[:, :2, person], mended[:, 2, person]
        labelled = (flags > 0) & np.isfinite(joints).all(axis=-1)
        new_joints, new_labelled = mend(joints, labelled, opinion[person])
        mended[:, :2, person], mended[:, 2, person] = new_joints.copy(), new_labelled
    return mended


def main() -> None:
    """Read, mend and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="joints.mat of LSPET")
    parser.add_argument("opinion", type=Path, help="npz file with MediaPipe's points of each person")
    parser.add_argument("output", type=Path, help="the joints.mat to write")
    parser.add_argument("--held-out", type=int, default=0, help="people who keep their labels")
    options = parser.parse_args()
    with np.load(options.opinion, allow_pickle=False) as file:
        mended = mend_all(scipy.io.loadmat(options.labels)["joints"], file["points"], options.held_out)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(options.output, {"joints": mended})


if __name__ == "__main__":
    main()
