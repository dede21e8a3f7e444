"""COCO key points: pictures with 2D labels only, for training together with data that have 3D labels.

The annotations of COCO are under CC BY 4.0, the pictures under their owners' licences on Flickr. The layout:

    SOURCE/annotations/person_keypoints_*.json
    SOURCE/{train2017,val2017}/000000000139.jpg        or below SOURCE/images, or in SOURCE itself

SOURCE may also be one such file, of any name. Other people's files are read by what they say of themselves, as
docs/data.md says. COCO counts pixels by their corner, rows by their centre at .5, so half a pixel is added to the key
points. `subject` is the annotation's number.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from ..skeleton_jointdetr import COCO, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .joint_names import package_names, read_names
from .reading import Fields, read_json

PREFIX = "person_keypoints_"
SPLITS = {"train": "train", "val": "validation", "test": "test"}
PICTURES_PER_RECORDING = 2000
PIXEL_CENTRE = 0.5
NOT_LABELLED, VISIBLE = 0, 2  # COCO's flags; 1 is labelled, but hidden
PEOPLE = {"person", "persons", "people", "human", "humans"}
LIMBS = {joint for joint in COCO.joints if not joint.endswith(("nose", "eye", "ear"))}


@dataclass(frozen=True)
class CocoKeypoints(Converter):
    """People of COCO, or of a file in its format, with key points."""

    source: Path  # the folder with `annotations`, or an annotation file
    images: Path | None = None  # the folder of the pictures, or of their folders; beside the annotations if None
    fewest_joints: int = 6  # labelled joints a person must have
    names: Path | None = None  # `read_names`: COCO's name of joints that the file calls something else
    skeleton: ClassVar[Skeleton] = COCO

    def recordings(self) -> list[Recording]:
        """Pictures of each file by the thousand; `data` are the file's place among all, and the pictures."""
        found, counts = [], Counter()
        for place, file in enumerate(self._files):
            split, pictures = _split(file.path), list(file.people)
            for start in range(0, len(pictures), PICTURES_PER_RECORDING):
                part = pictures[start:][:PICTURES_PER_RECORDING]
                found.append(Recording(f"{counts[split]:03d}", split, file.path, (place, part)))
                counts[split] += 1
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person."""
        place, pictures = recording.data
        file = self._files[place]
        folder = self._picture_folder(recording.source, file.pictures[pictures[0]][0])
        for key in pictures:
            name, frame = file.pictures[key]
            for person in file.people[key]:
                if isinstance(person, Skipped):
                    yield person._replace(frame=frame)
                else:
                    yield {**person, "frame": frame, "image": folder / name}

    def remarks(self, recording: Recording) -> list[str]:
        """Joints that the file has and COCO does not, and the other way round."""
        return [f"{recording.source}: {said}" for said in self._files[recording.data[0]].remarks]

    @cached_property
    def _files(self) -> "list[_File]":
        """What the annotation files hold, without what is not needed."""
        files, names = [self.source], read_names(self.names)
        if not self.source.is_file():
            folder = self.source / "annotations"
            files = sorted(folder.glob(f"{PREFIX}*.json")) or sorted(self.source.glob(f"{PREFIX}*.json"))
            if not files:
                raise ValueError(f"COCO must have annotations as {folder / PREFIX}*.json, got none")
        return [_read_file(path, names, self.fewest_joints) for path in files]

    def _picture_folder(self, path: Path, first: str) -> Path:
        """Folder of a file's pictures, of which `first` is one."""
        base = path.parent.parent if path.parent.name == "annotations" else path.parent
        roots = (base, base / "images") if self.images is None else (self.images,)
        subset = path.stem.removeprefix(PREFIX)
        folders = [root / subset for root in roots] + [*roots[::-1]]
        found = [folder for folder in folders if (folder / first).is_file()] or [f for f in folders[:-1] if f.is_dir()]
        if not found:
            raise ValueError(f"the pictures of {subset} must lie in {folders[0]}, which does not exist")
        return found[0]


class _File(NamedTuple):
    path: Path
    pictures: dict[str, tuple[str, int]]  # name of the file, and number, or place in the file if numbers are texts
    people: dict[str, list[RowLabels | Skipped]]  # of each picture, rows without it
    remarks: list[str]


class _Category(NamedTuple):
    name: str
    count: int = 0  # of key points
    order: np.ndarray | None = None  # where each of COCO's joints is among them, -1 for none; None if no person


def _read_file(path: Path, names: Mapping[str, str], fewest_joints: int) -> _File:
    """Read a file, and check every field that is needed."""
    content = Fields(str(path), read_json(path))
    images = content.objects("images")
    identities = [image.identity("id") for image in images]
    are_numbers = all(isinstance(identity, int) for identity in identities)
    pictures = {}
    for number, (image, identity) in enumerate(zip(images, identities, strict=True)):
        name = image.text("file_name").replace("\\", "/")
        pictures[str(identity)] = (name, identity if are_numbers else number)
    remarks: list[str] = []
    categories = _read_categories(content, names, remarks)
    people: dict[str, list[RowLabels | Skipped]] = {}
    for entry in content.objects("annotations"):
        picture = str(entry.identity("image_id"))
        if picture not in pictures:
            raise entry.error("image_id", "an `id` of `images`")
        if (person := _read_person(entry, categories, fewest_joints)) is not None:
            people.setdefault(picture, []).append(person)
    return _File(path, pictures, {picture: people[picture] for picture in pictures if picture in people}, remarks)


def _read_categories(content: Fields, names: Mapping[str, str], remarks: list[str]) -> dict[str, _Category]:
    """Find the people among the categories, and COCO's joints among theirs; without any, all are COCO's people."""
    described = {}
    for entry in content.objects("categories") if content.values.get("categories") else []:
        joints = entry.values.get("keypoints") or []
        if not isinstance(joints, list) or not all(isinstance(joint, str) and joint for joint in joints):
            raise entry.error("keypoints", "a list of names")
        described[str(entry.identity("id"))] = (entry.text("name"), joints)
    people = {key for key, (name, _) in described.items() if name.strip().lower() in PEOPLE}
    people = people or {
        key
        for key, (_, joints) in described.items()
        if len(set(joints)) == len(joints) and set(package_names(joints)) >= LIMBS
    }
    categories = {
        key: _people(content, name, joints, names, remarks) if key in people else _Category(name)
        for key, (name, joints) in described.items()
    }
    return categories or {"": _people(content, "person", [], names, remarks)}


def _people(content: Fields, name: str, joints: list[str], names: Mapping[str, str], remarks: list[str]) -> _Category:
    """Describe a category of people; without names its key points are COCO's."""
    if not joints:
        return _Category(name, len(COCO.joints), np.arange(len(COCO.joints)))
    where = f"{content.where}: `keypoints` of category {name!r}"
    try:
        renamed = package_names(joints, names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    unknown = [own for own, new in zip(joints, renamed, strict=True) if new not in COCO.joints]
    if len(unknown) == len(joints):
        raise ValueError(f"{where} must be joints of COCO, got {str(joints)[:80]}; `--set names=FILE` maps them")
    lacking = [joint for joint in COCO.joints if joint not in renamed]
    said = {"joints that COCO does not have": unknown, "joints of COCO that lack": lacking}
    remarks += [f"{what}: {', '.join(those)}" for what, those in said.items() if those]
    order = [renamed.index(joint) if joint in renamed else -1 for joint in COCO.joints]
    return _Category(name, len(joints), np.array(order))


def _read_person(entry: Fields, categories: Mapping[str, _Category], fewest_joints: int) -> RowLabels | Skipped | None:
    """Make the row of an annotation; None for people of whom nothing is labelled, who are of no use.

    Without a category it is of the only one.
    """
    number = str(entry.identity("id"))
    is_of_only = len(categories) == 1 and (entry.values.get("category_id") is None or "" in categories)
    category = categories.get(next(iter(categories)) if is_of_only else str(entry.identity("category_id")))
    numbers = entry.array("keypoints", (None,))  # three for each joint of the category
    box = {} if entry.values.get("bbox") is None else {"box": entry.array("bbox", (4,))}
    name = f"annotation {number}"
    if category is None or category.order is None:
        return Skipped("another category than people", f"{name} is a {category.name if category else 'thing'}")
    if entry.values.get("num_keypoints") == 0 or not numbers[2::3].any():
        return None
    if len(numbers) != 3 * category.count:
        return Skipped(f"not {category.count} key points", f"{name} has {len(numbers)} numbers")
    if entry.values.get("iscrowd"):
        return Skipped("a crowd", name)
    keypoints = np.zeros((len(COCO.joints), 3))
    known = category.order >= 0
    keypoints[known] = numbers.reshape(-1, 3)[category.order[known]]
    points, flags = keypoints[:, :2], keypoints[:, 2]
    if not np.isin(flags, (NOT_LABELLED, 1, VISIBLE)).all():
        return Skipped("flags other than 0, 1 and 2", f"{name} has {np.unique(flags).tolist()}")
    labelled = flags > NOT_LABELLED
    if labelled.sum() < fewest_joints:
        return Skipped("too few joints are labelled", f"{name} has {labelled.sum()}")
    points = np.where(labelled[:, None], points + PIXEL_CENTRE, np.nan)
    return {"joints_2d": points, "joints_2d_valid": labelled, "visible": flags == VISIBLE, "subject": number} | box


def _split(path: Path) -> str:
    """Split that the name of a file tells, or of the folder it lies in."""
    found = re.search(r"(?:^|[^a-z])(train|val|test)", path.stem.lower())
    found = found or re.fullmatch(r"(train|val|test)(?:id|idation)?\d*", path.parent.name.lower())
    return SPLITS[found[1]] if found else "train"
