"""What makers of motion and annotation files call joints, and what this package calls them.

A name is cut into words at punctuation, digits and changes of case: "Character1_LeftUpLeg", "Bip01 L UpLeg" and
"b_l_upleg" all have a word for the side, and end with "upleg" without it. What comes before is a maker's prefix.

Some words mean another joint in the company of others: a shoulder is the collar where arms begin with an arm.
"""

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from .reading import read_json

ARM_BEGINS = ("arm", "upperarm", "uparm", "uarm", "shldr", "shldrbend", "humerus")
# A limb's joint here, and what others call it, in lower case without side and punctuation.
LIMB_JOINTS = {
    "hip": ("upleg", "upperleg", "thigh", "thighbend", "hip", "femur"),
    "knee": ("leg", "lowerleg", "lowleg", "shin", "calf", "knee", "tibia"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toe", "toes", "ball"),
    "collar": ("collar", "clavicle", "clav"),
    "shoulder": (*ARM_BEGINS, "shoulder"),
    "elbow": ("forearm", "forearmbend", "lowerarm", "lowarm", "farm", "radius", "elbow"),
    "wrist": ("hand", "wrist", "forearmend", "lowerarmend", "lowarmend", "elbowend"),
    "eye": ("eye", "eyeball"),
    "ear": ("ear",),
}
LIMBS = {spelling: joint for joint, spellings in LIMB_JOINTS.items() for spelling in spellings}
# The root of a BVH lies anywhere about the hips and its lowest spine joint anywhere above, so neither is taken as the
# pelvis or the spine of other skeletons: `map_skeleton` has formulas for these.
TRUNK = {
    **{"neck": "neck", "head": "skull_base", "nose": "nose"},
    **dict.fromkeys(("headend", "headtopend", "headtop", "headnub"), "head_top"),
}
SIDES = {"left": ("left", "l", "lt", "lft"), "right": ("right", "r", "rt", "rgt")}
NOT_JOINTS = {"ik", "fk", "pole", "target", "twist", "roll", "weapon", "prop", "helper", "to", "forehead"}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")


def package_names(names: Sequence[str], given: Mapping[str, str] | None = None) -> list[str]:
    """Names of this package for joints of a file; what is unknown, or would be there twice, keeps its own.

    `given` are the user's own names for some of them, which come before all others.
    """
    given = given or {}
    if strangers := sorted(set(given) - set(names)):
        raise ValueError(f"`names` must map joints of the file, got {', '.join(strangers)} too")
    split = [split_name(name) for name in names]
    parts = {part for _, part in split}
    renamed: list[str] = []
    taken = set(given.values())
    for own, (side, part) in zip(names, split, strict=True):
        new = given.get(own) or _known_joint(side, part, parts)
        if own not in given and (new is None or new in taken or new in names):
            new = own
        if new in renamed:
            raise ValueError(f"joints must have different names, got {new!r} for two of them")
        renamed.append(new)
        taken.add(new)
    return renamed


def split_name(name: str) -> tuple[str, str]:
    """Side and part of a name: "mixamorig:LeftUpLeg" is ("left", "upleg"); an unknown part is all but the side."""
    side, rest = _take_side(name)
    while len(rest) > 1 and rest[-1].isdigit():
        rest = rest[:-1]  # "neck_01", "Toe0"
    whole = "".join(rest)
    if NOT_JOINTS & set(rest):
        return side, whole
    for start in range(len(rest)):
        part = "".join(rest[start:])
        if part in NOT_JOINTS:
            return side, whole
        if part in (LIMBS if side else TRUNK):
            return side, part
    return (side, whole) if side else _split_run_together(whole)


def read_names(path: Path | None) -> dict[str, str]:
    """Read a JSON object of a file's names to this package's, or to any other; none without a file."""
    names = {} if path is None else read_json(path)
    if not isinstance(names, dict) or not all(isinstance(new, str) and new for new in names.values()):
        raise ValueError(f'{path} must map names to names, as {{"Bone.012": "left_knee"}}, got {str(names)[:80]}')
    return names


def side_pairs(names: Sequence[str], renamed: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (left, right) of joints that differ in nothing but the side, by their new names or by their own."""
    found: dict[tuple[str, str], int] = {}
    for joint, (own, new) in enumerate(zip(names, renamed, strict=True)):
        if key := _without_side(new) or _without_side(own):
            found.setdefault(key, joint)
    lefts = {rest: joint for (side, rest), joint in found.items() if side == "left"}
    return [(joint, found["right", rest]) for rest, joint in lefts.items() if ("right", rest) in found]


def _take_side(name: str) -> tuple[str, list[str]]:
    """Find the word of the side among those of a name; return the others, too, in lower case."""
    words = [word.lower() for word in WORD.findall(re.split(r"[:|]", name)[-1])]
    for side, spellings in SIDES.items():
        for place, word in enumerate(words):
            if word in spellings:
                return side, words[:place] + words[place + 1 :]
    return "", words


def _without_side(name: str) -> tuple[str, str] | None:
    """Side and all that is left of a name, with its numbers; None without a side."""
    side, words = _take_side(name)
    rest = " ".join(words)
    if not side:
        side, rest = _split_run_together("".join(words))
    return (side, rest) if side and rest else None


def _split_run_together(whole: str) -> tuple[str, str]:
    """Side and part of a name without a change of case, such as "lfemur", "leftupleg" or "thighright"."""
    for side in SIDES:
        for word in (side, side[0]):
            if whole.startswith(word) and whole.removeprefix(word) in LIMBS:
                return side, whole.removeprefix(word)
        if whole.endswith(side) and whole.removesuffix(side) in LIMBS:
            return side, whole.removesuffix(side)
    return "", whole


def _known_joint(side: str, part: str, parts: Set[str]) -> str | None:
    """Name of a joint in this package among `parts` of the same file, None if it is not a well-known one."""
    if not side:
        return TRUNK.get(part)
    joint = LIMBS.get(part)
    if part == "shoulder" and not parts.isdisjoint(ARM_BEGINS):
        joint = "collar"
    elif part == "leg" and "knee" in parts and parts.isdisjoint(LIMB_JOINTS["hip"]):
        joint = "hip"
    elif (part == "foot" and "ankle" in parts) or (part == "hand" and "wrist" in parts):
        joint = part
    return joint and f"{side}_{joint}"
