"""A small figure as Acclaim's files, and skeletons of what was recorded."""

from pathlib import Path

import torch

from jointdetr.synthesis.body import Body
from jointdetr.synthesis.posing import MotionLibrary

# Bone: parent, direction at rest, channels. A figure with its arms out, in axes y up, facing +z.
FIGURE = {
    "lowerback": ("root", (0, 1, 0), "rx ry rz"),
    "upperback": ("lowerback", (0, 1, 0), ""),
    "thorax": ("upperback", (0, 1, 0), ""),
    "lowerneck": ("thorax", (0, 1, 0), ""),
    "upperneck": ("lowerneck", (0, 1, 0), ""),
    "head": ("upperneck", (0, 1, 0), ""),
}
for side, x in (("l", 1), ("r", -1)):
    FIGURE |= {
        f"{side}clavicle": ("thorax", (x, 0, 0), ""),
        f"{side}humerus": (f"{side}clavicle", (x, 0, 0), "rx ry rz"),
        f"{side}radius": (f"{side}humerus", (x, 0, 0), "ry"),
        f"{side}femur": ("root", (0, -1, 0), "rx ry rz"),
        f"{side}tibia": (f"{side}femur", (0, -1, 0), "rx"),
        f"{side}foot": (f"{side}tibia", (0, 0, 1), ""),
    }
MOTION = """:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
ltibia 0
lradius 0
2
root 1 2 3 0 0 0
ltibia 90
lradius -90
"""


def asf_text() -> str:
    """The figure as an ASF file."""
    bones = "".join(
        f"  begin\n  id {number}\n  name {name}\n  direction {x} {y} {z}\n  length 5\n  axis 0 0 0 XYZ\n"
        + (f"  dof {channels}\n" if channels else "")
        + "  end\n"
        for number, (name, (_, (x, y, z), channels)) in enumerate(FIGURE.items(), start=1)
    )
    hierarchy = "".join(f"    {parent} {name}\n" for name, (parent, _, _) in FIGURE.items())
    return (
        "# a figure\n:version 1.10\n:root\n  order TX TY TZ RX RY RZ\n  axis XYZ\n:bonedata\n"
        f"{bones}:hierarchy\n  begin\n{hierarchy}  end\n"
    )


def write_recording(folder: Path) -> Path:
    """Write one skeleton and one motion of two frames into a folder."""
    (folder / "figure.asf").write_text(asf_text())
    (folder / "bend.amc").write_text(MOTION)
    return folder


def recorded_skeletons(body: Body, motions: MotionLibrary) -> torch.Tensor:
    """Human3.6M skeletons of all frames of a library, relative to the pelvis: (frames, 17, 3), mm, z up."""
    joints = body.joints(torch.zeros(len(motions), body.shape_samples.shape[1]), motions.rotations)
    return (joints - joints[:, :1]) * 1000.0
