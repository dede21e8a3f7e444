"""The pipeline "pose-estimation-3d": pictures in, people as plain lists and numbers out.

Shape vocabulary: crops (one for each person of each picture), joints.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Pipeline
from transformers.image_processing_utils import BatchFeature


class JointDetrPipeline(Pipeline):
    """3D human poses of the people in a picture.

    `pipeline("pose-estimation-3d", model=...)` makes one; see `__call__`. `batch_size` counts pictures: all people of
    a batch of pictures go through the network at once.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any):
        """Make the pipeline as transformers does, and turn off the model's training behaviour."""
        super().__init__(*args, **kwargs)
        self.model.eval()

    def __call__(self, images: Any, boxes: Any = None, intrinsics: Any = None, **kwargs: Any) -> Any:
        """Estimate the poses in one picture, a list of pictures, or a data set or generator of them.

        Args:
            images: Path, URL, PIL image, array or tensor, or a list of such. Items may also be dictionaries with the
                keys `image`, `boxes` and `intrinsics`, which is how a data set or generator gives boxes.
            boxes: Person boxes `(people, 4)`: x, y, width, height in px; for a list of pictures, a list of them.
                Without boxes the whole picture is taken to show one person; with an empty list, nobody.
            intrinsics: Camera matrix `(3, 3)` in px; for a list of pictures, a list of them.
            kwargs: `threshold` (`float`, defaults to 0.5), `batch_size`, `num_workers`.

        Returns:
            A list of people for each picture (the one list for one picture). A person is a dictionary of plain lists:
            `joints` (root-relative mm), `joints_camera` (mm, where intrinsics are given), `joints_2d` (px), `scores`
            and `detected`, in the order of `labels`, the joints' names. The coordinates of a missing joint are `None`.

        Raises:
            ValueError: Not one entry in `boxes` or `intrinsics` for each picture, or what the processor refuses.
        """
        if isinstance(images, (list, tuple)):
            all_boxes = _for_each(boxes, len(images), "boxes")
            all_intrinsics = _for_each(intrinsics, len(images), "intrinsics")
            items = [_item(*item) for item in zip(images, all_boxes, all_intrinsics, strict=True)]
            return super().__call__(items, **kwargs) if items else []
        if boxes is None and intrinsics is None:
            return super().__call__(images, **kwargs)
        return super().__call__(_item(images, boxes, intrinsics), **kwargs)

    def _sanitize_parameters(self, threshold: float | None = None) -> tuple[dict, dict, dict]:
        return {}, {} if threshold is None else {"threshold": threshold}, {}

    def preprocess(self, item: Any) -> dict[str, BatchFeature]:
        """Crop the people of one picture."""
        item = item if isinstance(item, Mapping) else {"image": item}
        if "image" not in item:
            raise ValueError(f"an item of the pipeline must have the key `image`, got {sorted(item)}")
        inputs = self.image_processor(
            item["image"], boxes=item.get("boxes"), intrinsics=item.get("intrinsics"), return_tensors="pt"
        )
        if len(inputs["image_sizes"]) != 1:
            raise ValueError(f"an item of the pipeline must be one picture, got {len(inputs['image_sizes'])}")
        return {"inputs": inputs.to(self.dtype)}

    def _forward(self, model_inputs: dict[str, Mapping | list[Mapping]], threshold: float = 0.5) -> dict[str, list]:
        """Find the people of one picture, or of a list of pictures in one pass of the network."""
        batch = model_inputs["inputs"]
        inputs = _concatenate(batch if isinstance(batch, list) else [batch])
        outputs = self.model(pixel_values=inputs["pixel_values"]) if len(inputs["pixel_values"]) else None
        people = self.image_processor.post_process_pose_estimation(
            outputs, inputs, threshold=threshold, refiner=self.model.refiner
        )
        return {"people": people if isinstance(batch, list) else people[0]}

    def postprocess(self, model_outputs: dict[str, list[dict[str, torch.Tensor]]]) -> list[dict[str, list]]:
        """Turn the tensors of one picture's people into plain lists."""
        labels = [name for _, name in sorted(self.model.config.id2label.items())]
        return [
            {"labels": labels, **{name: _to_plain(values.tolist()) for name, values in person.items()}}
            for person in model_outputs["people"]
        ]


def _item(image: Any, boxes: Any, intrinsics: Any) -> dict[str, Any]:
    """Make the item of one picture, which may be one already."""
    item = dict(image) if isinstance(image, Mapping) else {"image": image}
    given = {"boxes": boxes, "intrinsics": intrinsics}
    return item | {name: value for name, value in given.items() if value is not None}


def _for_each(values: Sequence | None, num_images: int, name: str) -> Sequence:
    """Return one value for each picture."""
    if values is None:
        return [None] * num_images
    if len(values) != num_images:
        raise ValueError(f"`{name}` must have one entry for each of the {num_images} pictures, got {len(values)}")
    return values


def _concatenate(batch: list[Mapping]) -> dict[str, torch.Tensor]:
    """Join the inputs of pictures that were processed one by one."""
    if len({frozenset(item) for item in batch}) > 1:
        raise ValueError("`intrinsics` must be given for all pictures of a batch or for none, got some")
    inputs = {name: torch.cat([item[name] for item in batch]) for name in batch[0]}
    crops = torch.tensor([len(item["pixel_values"]) for item in batch])
    inputs["image_index"] = torch.arange(len(batch)).repeat_interleave(crops)
    return inputs


def _to_plain(values: Any) -> Any:
    """Replace NaN, which JSON cannot say, by None in nested lists."""
    if isinstance(values, list):
        return [_to_plain(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


__all__ = ["JointDetrPipeline"]
