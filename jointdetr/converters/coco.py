"""COCO key points: pictures with 2D labels only, for training together with data that have 3D labels.

The annotations of COCO are under CC BY 4.0, the pictures under their owners' licences on Flickr. The layout:

    SOURCE/annotations/person_keypoints_*.json
    SOURCE/{train2017,val2017}/000000000139.jpg        or below SOURCE/images, or in SOURCE itself

SOURCE may also be one such file, of any name. The name of a file tells its split: one with `val` is "validation", one
with `test` is "test", all others are "train".

Other people's files are read by what they say of themselves: key points by their names in the category, in any order.
Categories other than people are left out and counted, joints that COCO does not have are said.

Rows have no 3D label, and their camera is not known (`intrinsics` is NaN). COCO counts pixels by their corner, rows by
their centre at .5, so half a pixel is added to the key points. `frame` is the picture's number in COCO, or its place
in the file where numbers are texts, and `subject` is the annotation's. Crowds, and people with less than
`fewest_joints` labelled joints, are left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..skeleton_jointdetr import COCO, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .joint_names import package_names
from .reading import numbers, read_json, shown, whole_number

PREFIX = "person_keypoints_"
SPLITS = {"train": "train", "val": "validation", "test": "test"}
PICTURES_PER_RECORDING = 2000
PIXEL_CENTRE = 0.5
NOT_LABELLED, VISIBLE = 0, 2  # COCO's flags; 1 is labelled, but hidden
PEOPLE = {"person", "persons", "people", "human", "humans"}
LIMBS = {joint for joint in COCO.joints if not joint.endswith(("nose", "eye", "ear"))}


@dataclass(frozen=True)
class CocoKeypoints(Converter):
    """People of COCO, or of a file in its format, with key points.

    Args:
        source: the folder with `annotations`, or an annotation file.
        images: the folder of the pictures, or of their folders; beside the annotations if None.
        fewest_joints: labelled joints a person must have.
        names: COCO's name of joints that the file calls something else.
    """

    source: Path
    images: Path | None = None
    fewest_joints: int = 6
    names: dict[str, str] | None = None
    skeleton: ClassVar[Skeleton] = COCO

    def recordings(self) -> list[Recording]:
        """Pictures of each file by the thousand; `data` are the file's place among all, and the pictures."""
        found, counts = [], Counter()
        for place, path in enumerate(_annotation_files(self.source)):
            split, pictures = _split(path), list(self._files[place].people)
            for start in range(0, len(pictures), PICTURES_PER_RECORDING):
                part = pictures[start:][:PICTURES_PER_RECORDING]
                found.append(Recording(f"{counts[split]:03d}", split, path, (place, part)))
                counts[split] += 1
        if not found:
            raise ValueError(f"{path} must have people with key points in its 'annotations', got none")
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person."""
        place, pictures = recording.data
        file = self._files[place]
        folder = self._picture_folder(recording.source, file.pictures[pictures[0]].name)
        for key in pictures:
            picture = file.pictures[key]
            for annotation in file.people[key]:
                row = self._row(annotation, file.categories)
                if isinstance(row, Skipped):
                    yield row._replace(frame=picture.frame)
                else:
                    yield row | {"frame": picture.frame, "image": folder / picture.name}

    def remarks(self, recording: Recording) -> list[str]:
        """Joints that the file has and COCO does not, and the other way round."""
        return [f"{recording.source}: {said}" for said in self._files[recording.data[0]].remarks]

    def _row(self, annotation: "_Annotation", categories: Mapping[str, "_Category"]) -> dict[str, Any] | Skipped:
        """Make the row of an annotation, without its picture."""
        category = categories.get(annotation.category)
        name = f"annotation {annotation.number}"
        if category is None:
            return Skipped("a category that the file does not describe", f"{name} has {annotation.category}")
        if category.order is None:
            return Skipped("another category than people", f"{name} is a {category.name}")
        if len(annotation.keypoints) != 3 * category.count:
            return Skipped(f"not {category.count} key points", f"{name} has {len(annotation.keypoints)} numbers")
        if annotation.is_crowd:
            return Skipped("a crowd", name)
        keypoints = np.zeros((len(COCO.joints), 3))
        known = category.order >= 0
        keypoints[known] = annotation.keypoints.reshape(-1, 3)[category.order[known]]
        if not np.isin(keypoints[:, 2], (NOT_LABELLED, 1, VISIBLE)).all():
            return Skipped("flags other than 0, 1 and 2", f"{name} has {np.unique(keypoints[:, 2]).tolist()}")
        labelled = keypoints[:, 2] > NOT_LABELLED
        if labelled.sum() < self.fewest_joints:
            return Skipped("too few joints are labelled", f"{name} has {labelled.sum()}")
        row = {
            "joints_2d": np.where(labelled[:, None], keypoints[:, :2] + PIXEL_CENTRE, np.nan),
            "joints_2d_valid": labelled,
            "visible": keypoints[:, 2] == VISIBLE,
            "subject": annotation.number,
        }
        return row if annotation.box is None else row | {"box": annotation.box}

    @cached_property
    def _files(self) -> "list[_File]":
        """What the annotation files hold, without what is not needed."""
        return [_File.read(path, self.names) for path in _annotation_files(self.source)]

    def _picture_folder(self, path: Path, first: str) -> Path:
        """Folder of a file's pictures, of which `first` is one.

        Raises:
            ValueError: There is none.
        """
        base = path.parent.parent if path.parent.name == "annotations" else path.parent
        roots = (base, base / "images") if self.images is None else (self.images,)
        subset = path.stem.removeprefix(PREFIX)
        folders = [root / subset for root in roots] + [*roots[::-1]]
        found = [folder for folder in folders if (folder / first).is_file()] or [f for f in folders[:-1] if f.is_dir()]
        if not found:
            raise ValueError(f"the pictures of {subset} must lie in {folders[0]}, which does not exist")
        return found[0]


class _Picture(NamedTuple):
    """A picture: its file's name, and its number."""

    name: str
    frame: int


class _Category(NamedTuple):
    """A category: where each of COCO's joints is among its `count` key points, -1 for none; None if no person."""

    name: str
    count: int = 0
    order: np.ndarray | None = None


class _Annotation(NamedTuple):
    """An annotation; `keypoints` are three numbers for each joint of its category, `box` may be unknown."""

    number: str
    category: str
    keypoints: np.ndarray
    box: np.ndarray | None
    is_crowd: bool


@dataclass
class _File:
    """An annotation file: its pictures by number, the annotations of each, categories, and what is to be said."""

    path: Path
    pictures: dict[str, _Picture] = field(default_factory=dict)
    people: dict[str, list[_Annotation]] = field(default_factory=dict)
    categories: dict[str, _Category] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, names: Mapping[str, str] | None = None) -> "_File":
        """Read a file, and check every field that is needed.

        Raises:
            ValueError: A field is missing, of a wrong type, or contradicts another; file, entry and field are named.
        """
        content = read_json(path, "a JSON file of COCO")
        file = cls(path)
        file._read_pictures(_Entries(path, content, "images"))
        file._read_categories(_Entries(path, content, "categories", optional=True), names)
        file._read_annotations(_Entries(path, content, "annotations"))
        return file

    def _read_pictures(self, entries: "_Entries") -> None:
        identities = [entries.identity(number, "id") for number in range(len(entries.all))]
        are_numbers = all(isinstance(identity, int) for identity in identities)
        for number, identity in enumerate(identities):
            if str(identity) in self.pictures:
                raise ValueError(
                    f"{self.path}: entry {number} of 'images' must have an `id` of its own, got {identity}"
                )
            name = entries.text(number, "file_name").replace("\\", "/")
            self.pictures[str(identity)] = _Picture(name, identity if are_numbers else number)

    def _read_categories(self, entries: "_Entries", names: Mapping[str, str] | None) -> None:
        """Find the people among the categories, and COCO's joints among theirs."""
        if not entries.all:
            self.categories[""] = _Category("person", len(COCO.joints), np.arange(len(COCO.joints)))
        described = {}
        for number, entry in enumerate(entries.all):
            name = entries.text(number, "name")
            joints = entry.get("keypoints")
            if joints is not None and not (isinstance(joints, list) and all(isinstance(j, str) and j for j in joints)):
                raise ValueError(entries.message(number, "keypoints", "a list of names"))
            described[str(entries.identity(number, "id"))] = (name, joints, entry.get("supercategory"))
        people = {key for key, (name, _, _) in described.items() if name.strip().lower() in PEOPLE}
        people = people or {key for key, values in described.items() if _has_limbs(*values[1:])}
        for key, (name, joints, _) in described.items():
            self.categories[key] = self._person(name, joints, names) if key in people else _Category(name)

    def _person(self, name: str, joints: list[str] | None, names: Mapping[str, str] | None) -> _Category:
        """Describe a category of people; without names its key points are COCO's."""
        if not joints:
            return _Category(name, len(COCO.joints), np.arange(len(COCO.joints)))
        try:
            renamed = package_names(joints, names)
        except ValueError as error:
            raise ValueError(f"{self.path}: `keypoints` of category {name!r}: {error}") from error
        unknown = [own for own, new in zip(joints, renamed, strict=True) if new not in COCO.joints]
        if len(unknown) == len(joints):
            raise ValueError(
                f"{self.path}: `keypoints` of category {name!r} must be joints of COCO, got {shown(joints)}; "
                "`--names FILE` maps them"
            )
        lacking = [joint for joint in COCO.joints if joint not in renamed]
        for said, joints_said in (("joints that COCO does not have", unknown), ("joints of COCO that lack", lacking)):
            if joints_said:
                self.remarks.append(f"{said}: {', '.join(joints_said)}")
        order = [renamed.index(joint) if joint in renamed else -1 for joint in COCO.joints]
        return _Category(name, len(joints), np.array(order))

    def _read_annotations(self, entries: "_Entries") -> None:
        """Gather annotations by picture; people of whom nothing is labelled are of no use."""
        unknown = []
        for number in range(len(entries.all)):
            picture = str(entries.identity(number, "image_id"))
            annotation = entries.annotation(number, self.categories)
            category = self.categories.get(annotation.category)
            is_empty = entries.count(number, "num_keypoints") == 0 or not annotation.keypoints[2::3].any()
            if category is not None and category.order is not None and is_empty:
                continue
            if picture not in self.pictures:
                unknown.append(picture)
            self.people.setdefault(picture, []).append(annotation)
        if unknown:
            raise ValueError(
                f"{self.path}: `image_id` of 'annotations' must be an `id` of 'images', "
                f"got {', '.join(sorted(set(unknown))[:5])}"
            )
        self.people = {picture: self.people[picture] for picture in self.pictures if picture in self.people}


class _Entries:
    """The entries of one of a file's lists, each field checked as it is asked for."""

    def __init__(self, path: Path, content: Any, name: str, optional: bool = False):
        found = content.get(name) if isinstance(content, dict) else None
        if found is None and optional and isinstance(content, dict):
            found = []
        if not isinstance(found, list):
            raise ValueError(f"{path} must have a list {name!r}, as COCO's key point annotations do")
        self.path, self.name, self.all = path, name, found
        needed = {"images": {"id", "file_name"}, "annotations": {"id", "image_id", "keypoints"}, "categories": {"id"}}
        for number, entry in enumerate(found):
            if not isinstance(entry, dict) or not needed[name] <= set(entry):
                wanted = sorted(needed[name])
                raise ValueError(f"{path}: entry {number} of {name!r} must have {wanted}, got {shown(entry)}")

    def message(self, number: int, key: str, expected: str) -> str:
        """Say what is wrong with a field."""
        got = shown(self.all[number].get(key))
        return f"{self.path}: `{key}` of entry {number} of {self.name!r} must be {expected}, got {got}"

    def identity(self, number: int, key: str) -> int | str:
        """Return a number or a text that names something."""
        value = self.all[number].get(key)
        if isinstance(value, str) and value:
            return value
        whole = whole_number(value)
        if whole is None:
            raise ValueError(self.message(number, key, "a whole number or a text"))
        return whole

    def text(self, number: int, key: str) -> str:
        """Return a text."""
        value = self.all[number].get(key)
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(self.message(number, key, "a text"))
        return value

    def count(self, number: int, key: str) -> int | None:
        """Return a number that may be left out."""
        value = self.all[number].get(key)
        whole = whole_number(value)
        if value is not None and (whole is None or whole < 0):
            raise ValueError(self.message(number, key, "a whole number that is not negative"))
        return whole

    def annotation(self, number: int, categories: Mapping[str, _Category]) -> _Annotation:
        """Return an annotation; without a category it is of the only one."""
        entry = self.all[number]
        keypoints, box = numbers(entry["keypoints"]), entry.get("bbox")
        if keypoints is None or keypoints.ndim != 1:
            raise ValueError(self.message(number, "keypoints", "a list of numbers"))
        if box is not None:
            box = numbers(box)
            if box is None or box.shape != (4,):
                raise ValueError(self.message(number, "bbox", "x, y, width and height"))
        crowd = entry.get("iscrowd")
        if crowd not in (None, 0, 1):
            raise ValueError(self.message(number, "iscrowd", "0 or 1"))
        is_of_only = len(categories) == 1 and (entry.get("category_id") is None or "" in categories)
        category = next(iter(categories)) if is_of_only else str(self.identity(number, "category_id"))
        return _Annotation(str(self.identity(number, "id")), category, keypoints, box, bool(crowd))


def _has_limbs(joints: list[str] | None, supercategory: Any) -> bool:
    """Whether a category that is not called a person has a person's joints."""
    is_animal = isinstance(supercategory, str) and supercategory.lower() == "animal"
    return bool(joints) and not is_animal and len(set(joints)) == len(joints) and set(package_names(joints)) >= LIMBS


def _annotation_files(source: Path) -> list[Path]:
    """Return the file itself, or those of a folder in their order."""
    if source.is_file():
        return [source]
    files = sorted((source / "annotations").glob(f"{PREFIX}*.json")) or sorted(source.glob(f"{PREFIX}*.json"))
    if not files:
        raise ValueError(f"COCO must have annotations as {source / 'annotations' / PREFIX}*.json, got none")
    return files


def _split(path: Path) -> str:
    """Split that the name of a file tells, or of the folder it lies in."""
    found = re.search(r"(?:^|[^a-z])(train|val|test)", path.stem.lower())
    found = found or re.fullmatch(r"(train|val|test)(?:id|idation)?\d*", path.parent.name.lower())
    return SPLITS[found[1]] if found else "train"
