"""The pipeline "pose-estimation-3d": pictures in, people as plain lists and numbers out.

Shape vocabulary: crops (one for each person of each picture), joints.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from io import IOBase
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from transformers import Pipeline

from .camera_jointdetr import CAMERA_ARGUMENTS, apply_affine, camera_of_picture, invert_affine
from .people_jointdetr import SEARCH, Box, PeopleRequest, Sightings, find_people, load_detector
from .picture_jointdetr import crop_rolls, iterate_pictures, load_picture, turns_upright
from .postprocessing_jointdetr import ASSEMBLY_INPUTS, AssembledPoses, assemble_poses

if TYPE_CHECKING:
    from .image_processing_jointdetr import JointDetrImageProcessorMixin
    from .modeling_jointdetr import JointDetrForPoseEstimation, JointDetrPoseEstimationOutput

CROPS_PER_PASS = 16
MORE_LOOKS = 2  # at most, at people who lean
UNSURE_MM = 200.0  # expected error beyond which people are looked at from all sides
IMPROBABLE_MM = 800.0  # stands for the expected error of an improbable joint, where a model knows none
PEOPLE_ARGUMENTS = ("detector", "detector_threshold", "people")
PREPROCESS_ARGUMENTS = (*PEOPLE_ARGUMENTS, *CAMERA_ARGUMENTS)
FORWARD_ARGUMENTS = ("threshold", "crops_per_pass", "second_look")
POSTPROCESS_ARGUMENTS = ("return_tensors",)

_Fields = TypeVar("_Fields", bound=Mapping[str, torch.Tensor])


@dataclass(frozen=True)
class _Views:
    """Crops as the processor gives them, and what the network says of them."""

    inputs: dict[str, torch.Tensor]
    outputs: "JointDetrPoseEstimationOutput"

    @cached_property
    def poses(self) -> AssembledPoses:
        """Their poses, however improbable."""
        return assemble_poses(self.outputs, threshold=0.0, assignment="argmax")

    @property
    def doubts(self) -> torch.Tensor:
        """How far off the joints of every crop are expected to be `(crops,)`, mm."""
        return self._errors_mm.mean(-1).cpu()

    @property
    def are_unsure(self) -> torch.Tensor:
        """Whether the joints of every crop are expected to be far off `(crops,)`; what is beyond it may be."""
        beyond = ((self.poses.points < 0) | (self.poses.points > 1)).any(-1)  # (crops, joints)
        errors = torch.where(beyond, self._errors_mm.clamp(max=UNSURE_MM), self._errors_mm)
        return errors.mean(-1).cpu() > UNSURE_MM

    @property
    def _errors_mm(self) -> torch.Tensor:
        """Expected errors `(crops, joints)`; what stands for them where a model knows none."""
        return IMPROBABLE_MM * (1 - self.poses.scores) if self.poses.sigmas is None else self.poses.sigmas

    @property
    def rolls(self) -> torch.Tensor:
        """How far every crop is turned `(crops,)`, radians."""
        return crop_rolls(self.inputs["crop_affine"]).cpu()


class JointDetrPipeline(Pipeline):
    """3D human poses of the people in a picture.

    `pipeline("pose-estimation-3d", model=...)` makes one; see `__call__`. `batch_size` counts pictures: all people of
    a batch of pictures go through the network together, `crops_per_pass` at once.
    """

    model: "JointDetrForPoseEstimation"
    image_processor: "JointDetrImageProcessorMixin"
    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any):
        """Make the pipeline as transformers does, and turn off the model's training behaviour."""
        self._detectors: dict[str, Pipeline] = {}  # the last one that was loaded by name
        super().__init__(*args, **kwargs)
        self.model.eval()

    def __call__(self, images: Any, boxes: Any = None, intrinsics: Any = None, **kwargs: Any) -> Any:
        """Estimate the poses in one picture, a list of pictures, or a data set or generator of them.

        Args:
            images: Path, URL, PIL image, array or tensor, or a list of such. Items may also be dictionaries with the
                key `image` and any of `boxes`, `camera`, `intrinsics`, `distortion`, `extrinsics` and `field_of_view`,
                which is how a data set or generator gives what differs from picture to picture.
            boxes: Person boxes `(people, 4)`: x, y, width, height in px; for a list of pictures, a list of them.
                With an empty list, nobody is in the picture. Without boxes, `detector` finds the people; without a
                detector the pose network itself looks for those who can be seen well and stand apart.
            intrinsics: Camera matrix `(3, 3)` in px; for a list of pictures, a list of them.
            kwargs: `detector` (an object-detection pipeline, or the name of a checkpoint of one) and
                `detector_threshold` (`float`, defaults to 0.5); `people` ("search", or "whole" to take the whole
                picture to show one person who fills it); `camera` ([`Camera`], or the path of its JSON file),
                or else `distortion`, `extrinsics` and `field_of_view` (degrees across the picture's longer side, a
                guess in place of intrinsics; 60 where nothing is known), see [`Camera`]; `threshold` (`float`,
                defaults to 0.5); `second_look` (`bool`, defaults to `True`: who leans by more than 10 degrees is
                looked at again, turned upright, and who is seen unsurely from all sides); `return_tensors` (`bool`,
                defaults to `False`); `crops_per_pass` (`int`, defaults to 16); `batch_size`, `num_workers` (0 unless
                boxes are given). All of these apply to every picture, and may be given once and for all when the
                pipeline is made.

        Returns:
            A list of people for each picture (the one list for one picture), in the order of the boxes, or from left
            to right if they were looked for; empty where there is nobody. A person is a dictionary of plain lists,
            numbers and, for what is missing, `None`: what [`JointDetrImageProcessor.post_process_pose_estimation`]
            describes, and `labels`, the joints' names. With `return_tensors` they are tensors, with NaN for what is
            missing.

        Raises:
            ValueError: Not one entry in `boxes` or `intrinsics` for each picture, or a picture, box, camera or
                detector that cannot be right.
        """
        if isinstance(images, (list, tuple)):
            all_boxes = _for_each(boxes, len(images), "boxes")
            all_intrinsics = _for_each(intrinsics, len(images), "intrinsics")
            items = [_item(*item) for item in zip(images, all_boxes, all_intrinsics, strict=True)]
            return super().__call__(items, **kwargs) if items else []
        if _are_many(images):
            if boxes is not None or intrinsics is not None:
                raise ValueError(
                    "`boxes` and `intrinsics` are for a picture or a list of pictures; a data set or generator gives "
                    'them with each, as {"image": ..., "boxes": ...}'
                )
            return super().__call__(_as_transformers_takes_them(images), **kwargs)
        if boxes is None and intrinsics is None:
            return super().__call__(images, **kwargs)
        return super().__call__(_item(images, boxes, intrinsics), **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        given = {name: value for name, value in kwargs.items() if value is not None}
        unknown = given.keys() - {*PREPROCESS_ARGUMENTS, *FORWARD_ARGUMENTS, *POSTPROCESS_ARGUMENTS}
        if unknown:
            raise TypeError(f"the pipeline knows no argument {', '.join(sorted(unknown))}")
        if "detector" in given:
            given["detector"] = self._load_detector(given["detector"])
        return (
            _chosen(given, PREPROCESS_ARGUMENTS),
            _chosen(given, FORWARD_ARGUMENTS),
            _chosen(given, POSTPROCESS_ARGUMENTS),
        )

    def _load_detector(self, detector: Pipeline | str | os.PathLike) -> Pipeline:
        """Return the detector; one that is named is loaded once, not for every picture."""
        if not isinstance(detector, (str, os.PathLike)):
            return detector
        name = os.fspath(detector)
        if name not in self._detectors:
            self._detectors = {name: load_detector(name, device=self.device)}
        return self._detectors[name]

    def preprocess(self, item: Any, **arguments: Any) -> dict[str, Any]:
        """Find and crop the people of one picture."""
        item = item if isinstance(item, Mapping) else {"image": item}
        if "image" not in item:
            raise ValueError(f"an item of the pipeline must have the key `image`, got {sorted(item)}")
        sources = list(iterate_pictures(item["image"]))
        if len(sources) != 1:
            raise ValueError(f"an item of the pipeline must be one picture, got {len(sources)}")
        image = load_picture(sources[0], "image")
        boxes = self.find_people(image, item.get("boxes"), **_chosen(arguments, PEOPLE_ARGUMENTS))
        inputs = self.image_processor(image, boxes=boxes, return_tensors="pt")
        known = {name: item.get(name, arguments.get(name)) for name in CAMERA_ARGUMENTS}
        camera = camera_of_picture(image.size, known)
        return {"inputs": inputs.to(self.dtype), "image": image, "is_whole": boxes is None, "camera": camera}

    def find_people(self, image: Image.Image, boxes: Any = None, **arguments: Any) -> Any:
        """Find the people in an upright picture, see [`jointdetr.people_jointdetr.find_people`].

        `arguments` are `detector`, `detector_threshold` and `people`, in place of those the pipeline was made with.
        """
        arguments = _chosen(self._preprocess_params, PEOPLE_ARGUMENTS) | arguments
        given = {} if boxes is None else {"boxes": boxes, "detector": None, "people": SEARCH}  # boxes go first
        return find_people(image, PeopleRequest(**arguments | given), self.look)

    @torch.no_grad()
    def look(self, image: Image.Image, boxes: list[Box], second_look: bool = False) -> Sightings:
        """Say what the network sees in boxes of an upright picture, however improbable it finds it."""
        inputs = self.image_processor(image, boxes=[boxes], return_tensors="pt")
        height, width = inputs["pixel_values"].shape[-2:]
        outputs = self.run_model(inputs["pixel_values"].to(self.device, self.dtype))
        views = _Views(dict(inputs), cast("JointDetrPoseEstimationOutput", outputs))  # there are boxes
        if second_look:
            views = self._look_upright([image] * len(boxes), views, CROPS_PER_PASS)
        poses = assemble_poses(views.outputs, threshold=0.0)
        points = poses.points.cpu() * torch.tensor([width, height])  # (boxes, joints, 2) px of the crops
        points = apply_affine(points.double(), invert_affine(views.inputs["crop_affine"].double())).numpy()
        scores = poses.scores.cpu().numpy() * poses.detected.cpu().numpy()  # not detected: no finite numbers
        known = (None if values is None else values.cpu().numpy() for values in (poses.visible, poses.sigmas))
        return Sightings(points, scores, image.size, *known)

    def _forward(
        self,
        model_inputs: dict[str, Any],
        threshold: float = 0.5,
        crops_per_pass: int = CROPS_PER_PASS,
        second_look: bool = True,
    ) -> dict[str, list]:
        """Find the people of one picture, or of a list of pictures together."""
        is_batch = isinstance(model_inputs["inputs"], list)
        batch = {name: value if is_batch else [value] for name, value in model_inputs.items()}
        inputs = _concatenate(batch["inputs"])
        outputs = self.run_model(inputs["pixel_values"], crops_per_pass)
        if second_look and outputs is not None:
            images = [None if whole else image for image, whole in zip(batch["image"], batch["is_whole"], strict=True)]
            inputs, outputs = self.look_again(images, inputs, outputs, crops_per_pass)
        people = self.image_processor.post_process_pose_estimation(
            outputs, inputs, threshold=threshold, refiner=self.model.refiner, cameras=batch["camera"]
        )
        return {"people": people if is_batch else people[0]}

    def look_again(
        self,
        images: Sequence[Image.Image | None],
        inputs: Mapping[str, torch.Tensor],
        outputs: "JointDetrPoseEstimationOutput",
        crops_per_pass: int = CROPS_PER_PASS,
    ) -> tuple[dict[str, torch.Tensor], "JointDetrPoseEstimationOutput"]:
        """Look again at people who lean, and from all sides at those seen unsurely; the least doubtful look is kept.

        `images` are the upright pictures, `None` for one at which nobody looks again; `inputs` and `outputs` those of
        the people's boxes. Both come back for `post_process_pose_estimation`, which turns poses back.
        """
        pictures = [images[index] for index in inputs["image_index"].tolist()]
        views = self._look_upright(pictures, _Views(dict(inputs), outputs), crops_per_pass)
        unsure, rolls = views.are_unsure, views.rolls
        crops = [index for index, picture in enumerate(pictures) if picture is not None and unsure[index]]
        for quarter_turns in (1, 2, 3):
            turned = rolls + quarter_turns * math.pi / 2
            views, _ = self._look_turned(pictures, views, crops, turned, crops_per_pass)
        return views.inputs, views.outputs

    def _look_upright(self, pictures: Sequence[Image.Image | None], views: _Views, crops_per_pass: int) -> _Views:
        """Look again, at most `MORE_LOOKS` times, at people who lean, turned upright."""
        size = torch.tensor(views.inputs["pixel_values"].shape[:-3:-1])  # width, height
        crops = [index for index, picture in enumerate(pictures) if picture is not None]
        for _ in range(MORE_LOOKS):
            leans = turns_upright(views.poses.points.cpu() * size, self.model.config.skeleton)
            crops = [crop for crop in crops if leans[crop]]
            views, crops = self._look_turned(pictures, views, crops, views.rolls + leans, crops_per_pass)
        return views

    def _look_turned(
        self,
        pictures: Sequence[Image.Image | None],
        views: _Views,
        crops: list[int],
        rolls: torch.Tensor,
        crops_per_pass: int,
    ) -> tuple[_Views, list[int]]:
        """Look at some of the crops turned by their `rolls`; return the surer views, and which of them are new."""
        if not crops:
            return views, crops
        turned = self.image_processor(
            [picture for crop in crops if (picture := pictures[crop]) is not None],
            boxes=[[views.inputs["boxes"][crop].tolist()] for crop in crops],
            turns=[[rolls[crop].item()] for crop in crops],
            return_tensors="pt",
        ).to(views.inputs["pixel_values"].device, self.dtype)
        of_crops = {name: turned[name] for name in ("pixel_values", "crop_affine")}
        outputs = self.run_model(turned["pixel_values"], crops_per_pass)
        again = _Views(of_crops, cast("JointDetrPoseEstimationOutput", outputs))  # there are crops
        surer = again.doubts < views.doubts[crops]  # (crops again,)
        rows = torch.tensor(crops)[surer]
        inputs = _replaced(views.inputs, again.inputs, rows, surer)
        return _Views(inputs, _replaced(views.outputs, again.outputs, rows, surer)), rows.tolist()

    def run_model(
        self, pixel_values: torch.Tensor, crops_per_pass: int = CROPS_PER_PASS
    ) -> "JointDetrPoseEstimationOutput | None":
        """Run the network over crops `(crops, 3, height, width)`, a limited number at once; None if there are none.

        The output has what `post_process_pose_estimation` reads.
        """
        if crops_per_pass < 1:
            raise ValueError(f"`crops_per_pass` must be at least 1, got {crops_per_pass}")
        if not len(pixel_values):
            return None
        passes = [self.model(pixel_values=chunk) for chunk in pixel_values.split(crops_per_pass)]
        parts = [[getattr(outputs, name) for outputs in passes] for name in ASSEMBLY_INPUTS]
        joined = [None if values[0] is None else torch.cat(values) for values in parts]
        return type(passes[0])(**dict(zip(ASSEMBLY_INPUTS, joined, strict=True)))

    def postprocess(
        self, model_outputs: dict[str, list[dict[str, torch.Tensor]]], return_tensors: bool = False
    ) -> list[dict[str, Any]]:
        """Turn the tensors of one picture's people into plain lists and numbers."""
        labels = [name for _, name in sorted(self.model.config.id2label.items())]
        people = model_outputs["people"]
        if not return_tensors:
            people = [{name: _to_plain(values.tolist()) for name, values in person.items()} for person in people]
        return [{"labels": labels, **person} for person in people]


class _Rows(torch.utils.data.Dataset):
    """Rows of a `datasets.Dataset` or any other sequence, which transformers takes for one picture."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def _are_many(images: Any) -> bool:
    """Whether this is a data set or generator of pictures; a list of them is none."""
    single = isinstance(images, (str, bytes, os.PathLike, IOBase, Mapping, np.ndarray, torch.Tensor, Image.Image))
    return not single and isinstance(images, (Iterable, torch.utils.data.Dataset))


def _as_transformers_takes_them(images: Any) -> Any:
    """Wrap what transformers would take for a single picture."""
    if isinstance(images, (torch.utils.data.Dataset, GeneratorType)):
        return images
    return _Rows(images) if isinstance(images, Sized) else (image for image in images)


def _item(image: Any, boxes: Any, intrinsics: Any) -> dict[str, Any]:
    """Make the item of one picture, which may be one already."""
    item = dict(image) if isinstance(image, Mapping) else {"image": image}
    given = {"boxes": boxes, "intrinsics": intrinsics}
    return item | {name: value for name, value in given.items() if value is not None}


def _chosen(arguments: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of these names, as far as they are given."""
    return {name: arguments[name] for name in names if name in arguments}


def _for_each(values: Sequence | None, num_images: int, name: str) -> Sequence:
    """Return one value for each picture."""
    if values is None:
        return [None] * num_images
    if len(values) != num_images:
        raise ValueError(f"`{name}` must have one entry for each of the {num_images} pictures, got {len(values)}")
    return values


def _concatenate(batch: list[Mapping]) -> dict[str, torch.Tensor]:
    """Join the inputs of pictures that were processed one by one."""
    inputs = {name: torch.cat([item[name] for item in batch]) for name in batch[0]}
    crops = torch.tensor([len(item["pixel_values"]) for item in batch])
    inputs["image_index"] = torch.arange(len(batch)).repeat_interleave(crops)
    return inputs


def _replaced(values: _Fields, others: Mapping[str, torch.Tensor], rows: torch.Tensor, which: torch.Tensor) -> _Fields:
    """Put the rows of `others` that the mask `which` names into `values`, as its `rows`; what it has not is kept."""
    changed = {}
    for name in values.keys() & others.keys():
        if values[name] is not None:
            device = values[name].device
            chosen = others[name][which.to(device)].to(values[name].dtype)
            changed[name] = values[name].index_copy(0, rows.to(device), chosen)
    return type(values)(**{**values, **changed})


def _to_plain(values: Any) -> Any:
    """Replace NaN, which JSON cannot say, by None in nested lists."""
    if isinstance(values, list):
        return [_to_plain(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


__all__ = ["JointDetrPipeline"]
