"""COCO key points: pictures with 2D labels only, for training together with data that have 3D labels.

The annotations are under CC BY 4.0, the pictures under their owners' licences on Flickr. The official layout:

    SOURCE/annotations/person_keypoints_{train,val}2017.json
    SOURCE/{train2017,val2017}/000000000139.jpg        or below SOURCE/images

Rows have no 3D label, and their camera is not known (`intrinsics` is NaN). COCO counts pixels by their corner, rows by
their centre at .5, so half a pixel is added to the key points. `frame` is the picture's number in COCO and `subject`
the annotation's. Crowds, and people with less than `fewest_joints` labelled joints, are left out.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..skeleton_jointdetr import COCO, Skeleton
from .conversion import Converter, Labels, Recording, Skipped

SPLITS = {"train": "train2017", "validation": "val2017"}
PICTURES_PER_RECORDING = 2000
PIXEL_CENTRE = 0.5
NOT_LABELLED, VISIBLE = 0, 2  # COCO's flags; 1 is labelled, but hidden


@dataclass(frozen=True)
class CocoKeypoints(Converter):
    """People of COCO with key points.

    Args:
        source: the folder with `annotations`.
        images: the folder with `train2017` and `val2017`; `source` or its `images` if None.
        fewest_joints: labelled joints a person must have.
    """

    source: Path
    images: Path | None = None
    fewest_joints: int = 6
    skeleton: ClassVar[Skeleton] = COCO

    def recordings(self) -> list[Recording]:
        """Pictures of each split by the thousand; `data` are their numbers."""
        present = [split for split in SPLITS if self._annotation_file(split).is_file()]
        if not present:
            raise ValueError(f"COCO must have annotations as {self._annotation_file('train')}, got none")
        return [recording for split in present for recording in self._recordings(split)]

    def rows(self, recording: Recording) -> Iterator[Labels | Skipped]:
        """One row for each person."""
        people = self._people[recording.split]
        names = self._pictures[recording.split]
        folder = self._picture_folder(recording.split)
        for picture in recording.data:
            for annotation in people[picture]:
                yield self._row(annotation, folder / names[picture])

    def _row(self, annotation: dict[str, Any], picture: Path) -> Labels | Skipped:
        """Make the row of an annotation."""
        number, frame = annotation["id"], annotation["image_id"]
        keypoints = np.array(annotation["keypoints"], dtype=np.float64)
        if keypoints.shape != (51,):
            return Skipped("not 17 key points", f"annotation {number} has {keypoints.size} numbers", frame)
        keypoints = keypoints.reshape(17, 3)
        labelled = keypoints[:, 2] > NOT_LABELLED
        if annotation.get("iscrowd"):
            return Skipped("a crowd", f"annotation {number}", frame)
        if labelled.sum() < self.fewest_joints:
            return Skipped("too few joints are labelled", f"annotation {number} has {labelled.sum()}", frame)
        return {
            "image": picture,
            "joints_2d": np.where(labelled[:, None], keypoints[:, :2] + PIXEL_CENTRE, np.nan),
            "visible": keypoints[:, 2] == VISIBLE,
            "box": annotation["bbox"],
            "subject": str(number),
            "frame": frame,
        }

    def _recordings(self, split: str) -> list[Recording]:
        """Split the pictures that have people."""
        pictures = sorted(self._people[split])
        if missing := sorted(set(pictures) - set(self._pictures[split])):
            raise ValueError(
                f"{self._annotation_file(split)}: annotations name pictures that are not there: {missing}"
            )
        parts = [
            pictures[start:][:PICTURES_PER_RECORDING] for start in range(0, len(pictures), PICTURES_PER_RECORDING)
        ]
        file = self._annotation_file(split)
        return [Recording(f"{number:03d}", split, file, part) for number, part in enumerate(parts)]

    @cached_property
    def _contents(self) -> dict[str, dict[str, list[dict]]]:
        """What the annotation files of the splits hold, without what is not needed."""
        return {
            split: _read(self._annotation_file(split)) for split in SPLITS if self._annotation_file(split).is_file()
        }

    @cached_property
    def _people(self) -> dict[str, dict[int, list[dict]]]:
        """Annotations by split and number of the picture."""
        people: dict[str, dict[int, list[dict]]] = {}
        for split, content in self._contents.items():
            people[split] = defaultdict(list)
            for annotation in content["annotations"]:
                if annotation["num_keypoints"] > 0:
                    people[split][annotation["image_id"]].append(annotation)
        return people

    @cached_property
    def _pictures(self) -> dict[str, dict[int, str]]:
        """File names by split and number of the picture."""
        return {
            split: {picture["id"]: picture["file_name"] for picture in content["images"]}
            for split, content in self._contents.items()
        }

    def _annotation_file(self, split: str) -> Path:
        """File with the labels of a split."""
        return self.source / "annotations" / f"person_keypoints_{SPLITS[split]}.json"

    def _picture_folder(self, split: str) -> Path:
        """Folder with the pictures of a split.

        Raises:
            ValueError: There is none.
        """
        roots = (self.source, self.source / "images") if self.images is None else (self.images,)
        for root in roots:
            if (root / SPLITS[split]).is_dir():
                return root / SPLITS[split]
        raise ValueError(
            f"the pictures of {SPLITS[split]} must lie in {roots[0] / SPLITS[split]}, which does not exist"
        )


def _read(path: Path) -> dict[str, list[dict]]:
    """Read an annotation file, and check that every entry has what is needed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON file of COCO, got a broken one: {error}") from error
    needed = {
        "images": {"id", "file_name"},
        "annotations": {"id", "image_id", "keypoints", "num_keypoints", "bbox"},
    }
    for name, keys in needed.items():
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{path} must have a list {name!r}, as COCO's key point annotations do")
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not keys <= set(entry):
                raise ValueError(f"{path}: entry {number} of {name!r} must have {sorted(keys)}, got {str(entry)[:80]}")
    return {
        name: [{key: entry.get(key) for key in keys | {"iscrowd"}} for entry in content[name]]
        for name, keys in needed.items()
    }
