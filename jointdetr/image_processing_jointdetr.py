"""Pictures and person boxes -> the network's input; the network's output -> joints in millimetres and pixels.

Image points are continuous pixel coordinates: pixel `i` covers `[i, i + 1)` and its centre is `i + 0.5`. Boxes are
`(x, y, width, height)` in px of the upright picture, `affine` maps px of the picture to px of the network's input.

Shape vocabulary: images (pictures), crops (one for each person of each picture), joints.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import ModelOutput, is_torchvision_available

from .assembly_jointdetr import AssembledPoses, assemble_poses
from .camera_jointdetr import Camera, to_array, validate_intrinsics
from .geometry_jointdetr import apply_affine, crop_intrinsics, invert_affine
from .picture_jointdetr import iterate_pictures, load_picture
from .placement_jointdetr import place_poses, single_precision
from .upright_jointdetr import turn_about, turned_back

SWITCHES = ("do_rescale", "do_normalize")


def person_crop_affine(
    box: Sequence[float] | torch.Tensor, size: tuple[int, int], padding: float = 1.25
) -> torch.Tensor:
    """Return the map from the picture to a crop that shows a padded box in its middle.

    The crop keeps the picture's proportions: it is the smallest region of the aspect of `size` around the padded box.

    Args:
        box: `(x, y, width, height)` in px.
        size: `(height, width)` of the crop in px.
        padding: Factor on the box's width and height.

    Returns:
        `(2, 3)` float64, px of the picture -> px of the crop.

    Raises:
        ValueError: The box is no finite box of positive size, or the padding is not positive.
    """
    x, y, width, height = (float(value) for value in box)
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"`box` must be a finite (x, y, width, height) of positive size, got {[x, y, width, height]}")
    if not 0 < padding < math.inf:
        raise ValueError(f"`padding` must be a positive factor, got {padding}")
    crop_height, crop_width = size
    scale = min(crop_width / width, crop_height / height) / padding
    offset_x = crop_width / 2 - scale * (x + width / 2)
    offset_y = crop_height / 2 - scale * (y + height / 2)
    return torch.tensor([[scale, 0.0, offset_x], [0.0, scale, offset_y]], dtype=torch.float64)


def warp_image(
    image: Image.Image,
    affine: torch.Tensor,
    size: tuple[int, int],
    resample: PILImageResampling = PILImageResampling.BILINEAR,
) -> Image.Image:
    """Draw a picture through an affine map, anti-aliased; what lies outside the picture is black.

    A picture that shrinks is first averaged over blocks of whole pixels (unless `resample` is `NEAREST`, as label maps
    need it), so that the one interpolation that follows hardly shrinks it any more.

    Args:
        image: The picture, of any mode that Pillow can interpolate.
        affine: `(2, 3)`, px of the picture -> px of the result; any invertible map, rotations and mirrorings included.
        size: `(height, width)` of the result in px.
        resample: Pillow's filter: `NEAREST`, `BILINEAR` or `BICUBIC`.

    Returns:
        The warped picture.

    Raises:
        ValueError: The affine map is singular.
    """
    height, width = size
    inverse = invert_affine(affine.double())  # (2, 3), px of the result -> px of the picture
    shrinkage = torch.linalg.det(inverse[:, :2]).abs().sqrt().item()
    factor = 1 if resample == PILImageResampling.NEAREST else min(max(round(shrinkage), 1), max(image.size))
    if factor > 1:
        corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
        region = _region_in_image(apply_affine(corners, inverse), image.size, margin=factor)
        image = image.reduce(factor, box=region)
        inverse[:, 2] -= torch.tensor(region[:2], dtype=torch.float64)
        inverse /= factor
    coefficients = inverse.flatten().tolist()
    return image.transform((width, height), Image.Transform.AFFINE, coefficients, resample=resample)


def _region_in_image(points: torch.Tensor, image_size: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
    """Return the pixels (left, top, right, bottom) around image points `(points, 2)`; never an empty region."""
    width, height = image_size
    left, top = (points.amin(dim=0).floor() - margin).tolist()
    right, bottom = (points.amax(dim=0).ceil() + margin).tolist()
    left, top = min(max(int(left), 0), width - 1), min(max(int(top), 0), height - 1)
    return left, top, min(max(int(right), left + 1), width), min(max(int(bottom), top + 1), height)


class PoseBatchFeature(BatchFeature):
    """The processor's result, whose geometry keeps its precision when the pixels are cast to half precision."""

    def to(self, *args: Any, **kwargs: Any) -> "PoseBatchFeature":
        """Move everything; cast `pixel_values` alone."""
        geometry = {name: value for name, value in self.items() if name != "pixel_values"}
        super().to(*args, **kwargs)
        for name, value in geometry.items():
            self[name] = value.to(self["pixel_values"].device)
        return self


class JointDetrImageProcessorKwargs(ImagesKwargs, total=False):
    r"""box_padding (`float`, *optional*, defaults to 1.25): Factor on the person boxes before they are cropped."""

    box_padding: float | None


class JointDetrImageProcessorMixin:
    r"""What the processors of both backends share, which is everything: crops are made by Pillow in either.

    Args:
        size (`dict[str, int]`, *optional*, defaults to 256 x 256): `height` and `width` of a crop in px.
        box_padding (`float`, *optional*, defaults to 1.25): Factor on the person boxes before they are cropped.
        resample (`PILImageResampling`, *optional*, defaults to `BILINEAR`): Filter of the crop.
        do_rescale, rescale_factor, do_normalize, image_mean, image_std: As everywhere in transformers.
    """

    valid_kwargs = JointDetrImageProcessorKwargs
    model_input_names = ["pixel_values"]
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 256, "width": 256}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    box_padding = 1.25

    def __init__(self, **kwargs: Any):
        """Refuse settings that could only fail later: the `ValueError` names the field."""
        known = {name: getattr(type(self), name) for name in ("do_rescale", "do_normalize")}
        _validate_settings(known | kwargs, kwargs.keys())
        super().__init__(**kwargs)

    def preprocess(
        self,
        images: ImageInput,
        boxes: Sequence | np.ndarray | torch.Tensor | None = None,
        intrinsics: Sequence | np.ndarray | torch.Tensor | None = None,
        turns: Sequence[Sequence[float]] | None = None,
        **kwargs: Unpack[JointDetrImageProcessorKwargs],
    ) -> BatchFeature:
        """Crop every person out of every picture.

        Args:
            images: One picture or a list: paths, URLs, PIL images, arrays, tensors. EXIF orientation is applied,
                transparency is laid over white, 16-bit pictures are scaled.
            boxes: For each picture its person boxes `(people, 4)`, or one box `(4,)`: x, y, width, height in px of the
                upright picture. An empty list means that nobody is in the picture; `None`, for all or for one,
                that the whole picture is shown as one person, unpadded. A single picture may have its boxes as they
                are, without the list around them.
            intrinsics: For each picture its camera matrix `(3, 3)` in px of the upright picture. A single picture may
                have its matrix as it is.
            turns: For each picture the angle in radians by which each of its people leans, see `body_tilt`; crops are
                turned until they are upright, and `post_process_pose_estimation` turns poses back. None turns none.
            kwargs: Settings of the processor to override.

        Returns:
            `pixel_values` `(crops, 3, height, width)`, `boxes` `(crops, 4)` px of the picture, `crop_affine`
            `(crops, 2, 3)` px of the picture -> px of the crop, `image_index` `(crops,)`, `image_sizes` `(images, 2)`
            height and width in px, and, where intrinsics are given, `crop_intrinsics` `(crops, 3, 3)` in px of the
            crop.

        Raises:
            ValueError: A picture, box or matrix that cannot be right.
        """
        return super().preprocess(images, boxes, intrinsics, turns, **kwargs)

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:
        _validate_settings(kwargs, kwargs.keys())
        super()._validate_preprocess_kwargs(**kwargs)
        if not kwargs["do_resize"]:
            raise ValueError("`do_resize` must be True, got False: crops of different sizes make no batch")

    def _preprocess_image_like_inputs(
        self, images: ImageInput, boxes: Any, intrinsics: Any, turns: Any, **settings: Any
    ) -> BatchFeature:
        """Load, crop and normalise: called by `preprocess` with all settings filled in."""
        sources = list(iterate_pictures(images))
        if not sources:
            raise ValueError("`images` must hold at least one picture, got none")
        is_single = not isinstance(images, (list, tuple))
        per_image_boxes = _boxes_of_images(boxes, len(sources), is_single)
        per_image_turns = [None] * len(sources) if turns is None else turns
        if len(per_image_turns) != len(sources):
            raise ValueError(
                f"`turns` must have one entry for each of the {len(sources)} pictures, got {len(per_image_turns)}"
            )
        matrices = None if intrinsics is None else _validate_intrinsics(intrinsics, len(sources), is_single)

        crops, crop_boxes, affines, image_index, image_sizes = [], [], [], [], []
        size = (settings["size"].height, settings["size"].width)
        for index, (source, image_boxes) in enumerate(zip(sources, per_image_boxes, strict=True)):
            image = load_picture(source, f"images[{index}]", settings["input_data_format"])
            image_sizes.append((image.height, image.width))
            found = _boxes_and_affines(image_boxes, image.size, size, settings["box_padding"])
            for (box, affine), turn in zip(found, _validate_turns(per_image_turns[index], len(found)), strict=True):
                affine = turn_about(affine, turn, size) if turn else affine
                crop_boxes.append(box)
                crops.append(warp_image(image, affine, size, PILImageResampling(settings["resample"])))
                affines.append(affine)
                image_index.append(index)

        affine = torch.stack(affines) if affines else torch.zeros(0, 2, 3, dtype=torch.float64)
        data = {
            "pixel_values": _to_pixel_values(crops, size, settings),
            "boxes": np.array(crop_boxes, dtype=np.float32).reshape(-1, 4),
            "crop_affine": affine.float().numpy(),
            "image_index": np.array(image_index, dtype=np.int64),
            "image_sizes": np.array(image_sizes, dtype=np.int64),
        }
        if matrices is not None:
            data["crop_intrinsics"] = crop_intrinsics(matrices[image_index], affine).float().numpy()
        batch = PoseBatchFeature(data, tensor_type=settings["return_tensors"])
        return batch if settings["device"] is None else batch.to(settings["device"])

    def to_dict(self) -> dict[str, Any]:
        """Return the settings; remote code names the classes of both backends, whichever of them was saved."""
        output = super().to_dict()
        if "AutoImageProcessor" in output.get("auto_map", {}):
            module = type(self).__module__.split(".")[-1]
            output["auto_map"]["AutoImageProcessor"] = {
                "torchvision": f"{module}.JointDetrImageProcessor",
                "pil": f"{module}.JointDetrImageProcessorPil",
            }
        return output

    def post_process_pose_estimation(
        self,
        outputs: ModelOutput,
        inputs: BatchFeature,
        threshold: float = 0.5,
        refiner: PreTrainedModel | None = None,
        cameras: Sequence[Camera | None] | None = None,
    ) -> list[list[dict[str, torch.Tensor]]]:
        """Turn the network's output into people.

        Args:
            outputs: What [`JointDetrForPoseEstimation`] returned.
            inputs: What this processor returned, the network's input.
            threshold: Joints less probable than this are missing.
            refiner: Fills missing joints and refines the others; usually `model.refiner`.
            cameras: The camera of each picture, as far as it is known, in place of `intrinsics` in `inputs`.

        Returns:
            For each picture a list of people, in the order of its boxes; each is a dictionary of float32 tensors on
            the CPU: `joints` `(joints, 3)` root-relative mm, `joints_2d` `(joints, 2)` px of the picture, `scores`
            `(joints,)`, `detected` `(joints,)` bool, `inside` `(joints,)` bool, `box` `(4,)` px of the picture.
            Missing joints are NaN where no refiner fills them; where one does, `joints_2d` has them where the filled
            skeleton would be seen. `inside` says whether a joint lies in the picture.

            Models with a confidence head add `sigmas` `(joints,)`, the expected error in mm, and `visible`
            `(joints,)`, the probability of being inside the picture and not occluded.

            Where the camera is known, there are `joints_camera` `(joints, 3)` mm in camera space, `residual_px`
            (root mean square distance of the detected joints from `joints_camera` seen by the camera),
            `intrinsics_guessed` (bool) and, with extrinsics, `joints_world` `(joints, 3)` mm. They are NaN for a
            person of whom fewer than three joints are detected, or whose joints no place in front of the camera
            explains.

        Raises:
            ValueError: Outputs and inputs belong to different batches, the threshold is outside [0, 1], or there is
                not one entry in `cameras` for each picture.
        """
        image_index = inputs["image_index"].tolist()
        people: list[list[dict[str, torch.Tensor]]] = [[] for _ in inputs["image_sizes"]]
        if cameras is not None and len(cameras) != len(people):
            raise ValueError(
                f"`cameras` must have one entry for each of the {len(people)} pictures, got {len(cameras)}"
            )
        if not image_index:
            return people
        if len(outputs.pred_joints) != len(image_index):
            raise ValueError(
                f"`outputs` must be of the {len(image_index)} crops in `inputs`, got {len(outputs.pred_joints)}"
            )
        poses = _on_cpu(assemble_poses(outputs, threshold, refiner))
        poses.joints = turned_back(poses.joints, single_precision(inputs, "crop_affine"))
        for index, person in zip(image_index, _people_of_crops(poses, inputs, cameras), strict=True):
            people[index].append(person)
        return people


class JointDetrImageProcessorPil(JointDetrImageProcessorMixin, PilBackend):
    """Image processor of JointDETR where torchvision is absent; see [`JointDetrImageProcessorMixin`]."""


if is_torchvision_available():
    from transformers.image_processing_backends import TorchvisionBackend

    class JointDetrImageProcessor(JointDetrImageProcessorMixin, TorchvisionBackend):
        """Image processor of JointDETR where torchvision is present; see [`JointDetrImageProcessorMixin`]."""

else:
    JointDetrImageProcessor = JointDetrImageProcessorPil


def _validate_settings(settings: Mapping[str, Any], given: Collection[str]) -> None:
    """Raise `ValueError` for the first of the `given` settings that cannot be right."""
    checks = {
        "size": (_is_size, "have a positive `height` and `width`"),
        "box_padding": (lambda value: _is_number(value) and value > 0, "be a positive factor"),
        "resample": (lambda value: value in list(PILImageResampling), "be one of Pillow's filters, 0 to 5"),
    }
    checks |= {name: (lambda value: isinstance(value, bool), "be true or false") for name in ("do_resize", *SWITCHES)}
    if settings["do_rescale"]:
        checks["rescale_factor"] = (lambda value: _is_number(value) and value > 0, "be a positive factor")
    if settings["do_normalize"]:
        checks["image_mean"] = (_are_of_channels, "be a number, or one for each of the three channels")
        checks["image_std"] = (
            lambda value: _are_of_channels(value) and np.min(value) > 0,
            "be a positive number, or one for each of the three channels",
        )
    for name, (is_right, expected) in checks.items():
        if name in given and not is_right(settings[name]):
            raise ValueError(f"`{name}` must {expected}, got {settings[name]!r}")


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no switch."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _are_of_channels(values: Any) -> bool:
    """Whether a value is a number, or three of them."""
    if isinstance(values, (list, tuple, np.ndarray)):
        return len(values) == 3 and all(_is_number(value) for value in values)
    return _is_number(values)


def _is_size(size: Any) -> bool:
    """Whether a value is a side, or a height and a width, in whole pixels."""
    if isinstance(size, Mapping | SizeDict):
        known = {name: side for name, side in dict(size).items() if side is not None}
        sides = list(known.values()) if set(known) == {"height", "width"} else [0]
    else:
        sides = list(size) if isinstance(size, (list, tuple)) and len(size) == 2 else [size]
    return all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0 for side in sides)


def _on_cpu(poses: AssembledPoses) -> AssembledPoses:
    """Return the poses on the CPU."""
    fields = vars(poses).items()
    return AssembledPoses(**{name: None if value is None else value.cpu() for name, value in fields})


def _people_of_crops(
    poses: AssembledPoses, inputs: BatchFeature, cameras: Sequence[Camera | None] | None
) -> list[dict[str, torch.Tensor]]:
    """Return the person of each crop."""
    crop_cameras = _cameras_of_crops(inputs, cameras)
    placed = place_poses(poses, inputs, crop_cameras)
    results = {
        "joints": poses.joints,
        "joints_2d": placed.joints_2d.float(),
        "scores": poses.scores,
        "detected": poses.detected,
        "inside": placed.inside,
        "box": single_precision(inputs, "boxes"),
        "sigmas": poses.sigmas,
        "visible": poses.visible,
        "joints_camera": placed.joints_camera.float(),
        "residual_px": placed.residual_px.float(),
        "joints_world": placed.joints_world.float(),
    }
    people = []
    for crop, camera in enumerate(crop_cameras):
        left_out = {name for name, values in results.items() if values is None}
        if camera is None:
            left_out |= {"joints_camera", "residual_px"}
        if camera is None or camera.extrinsics is None:
            left_out.add("joints_world")
        person = {name: values[crop] for name, values in results.items() if name not in left_out}
        if camera is not None:
            person["intrinsics_guessed"] = torch.tensor(camera.guessed)
        people.append(person)
    return people


def _cameras_of_crops(inputs: BatchFeature, cameras: Sequence[Camera | None] | None) -> list[Camera | None]:
    """Return the camera of each crop's picture: the one given, or that of the intrinsics the processor was given."""
    if cameras is not None:
        return [cameras[index] for index in inputs["image_index"].tolist()]
    if inputs.get("crop_intrinsics") is None:
        return [None] * len(inputs["image_index"])
    to_picture = invert_affine(single_precision(inputs, "crop_affine").double())
    matrices = crop_intrinsics(single_precision(inputs, "crop_intrinsics").double(), to_picture)
    return [Camera(matrix) for matrix in matrices]


def _boxes_of_images(boxes: Any, num_images: int, is_single: bool) -> list[np.ndarray | None]:
    """Return the boxes `(people, 4)` of each picture, or `None` where the whole picture is meant."""
    if boxes is None:
        return [None] * num_images
    if is_single and num_images == 1:
        array = to_array(boxes, "boxes")
        boxes = array if array.ndim == 3 else [array]
    if len(boxes) != num_images:
        raise ValueError(f"`boxes` must have one entry for each of the {num_images} pictures, got {len(boxes)}")
    return [None if entry is None else _validate_boxes(entry, f"boxes[{i}]") for i, entry in enumerate(boxes)]


def _validate_boxes(entry: Any, name: str) -> np.ndarray:
    """Return one picture's boxes `(people, 4)` if they are finite and of positive size."""
    array = to_array(entry, name)
    boxes = array.reshape(-1, 4) if array.shape == (4,) or array.size == 0 else array
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`{name}` must have shape (people, 4): x, y, width, height, got shape {array.shape}")
    for box in boxes:
        if not (np.isfinite(box).all() and (box[2:] > 0).all()):
            raise ValueError(f"`{name}` must be finite x, y, width, height of positive size, got {box.tolist()}")
    return boxes


def misses_picture(box: Sequence[float], image_size: tuple[int, int]) -> bool:
    """Return whether a box x, y, width, height has nothing in common with a picture of (width, height) px."""
    x, y, box_width, box_height = box
    width, height = image_size
    return x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0


def _boxes_and_affines(
    boxes: np.ndarray | None, image_size: tuple[int, int], size: tuple[int, int], padding: float
) -> list[tuple[Sequence[float], torch.Tensor]]:
    """Return box and affine map of each crop of one picture, `image_size` (width, height), `size` (height, width)."""
    width, height = image_size
    if boxes is None:
        whole = (0.0, 0.0, float(width), float(height))
        return [(whole, person_crop_affine(whole, size, padding=1.0))]
    for box in boxes.tolist():
        if misses_picture(box, image_size):
            raise ValueError(
                f"`boxes` must overlap their pictures, got {box} outside a picture of {width} x {height} px"
            )
    return [(box, person_crop_affine(box, size, padding)) for box in boxes.tolist()]


def _validate_turns(turns: Sequence[float] | None, num_people: int) -> list[float]:
    """Return one finite angle for each person of a picture."""
    angles = [0.0] * num_people if turns is None else [float(turn) for turn in turns]
    if len(angles) != num_people or not all(map(math.isfinite, angles)):
        raise ValueError(f"`turns` must have a finite angle for each of the {num_people} people, got {angles}")
    return angles


def _validate_intrinsics(intrinsics: Any, num_images: int, is_single: bool) -> torch.Tensor:
    """Return the camera matrices `(images, 3, 3)` if they are such."""
    matrices = to_array(intrinsics, "intrinsics")
    if is_single and matrices.shape == (3, 3):
        matrices = matrices[None]
    if matrices.shape != (num_images, 3, 3):
        raise ValueError(
            f"`intrinsics` must have one 3x3 matrix for each of the {num_images} pictures, got shape {matrices.shape}"
        )
    matrices = np.stack([validate_intrinsics(matrix) for matrix in matrices])
    return torch.from_numpy(matrices)


def _to_pixel_values(crops: list[Image.Image], size: tuple[int, int], settings: dict[str, Any]) -> np.ndarray:
    """Rescale and normalise: `(crops, 3, height, width)` float32."""
    if not crops:
        return np.zeros((0, 3, *size), dtype=np.float32)
    pixels = np.stack([np.asarray(crop) for crop in crops]).transpose(0, 3, 1, 2)
    scale = np.full(3, settings["rescale_factor"] if settings["do_rescale"] else 1.0)
    shift = np.zeros(3)
    if settings["do_normalize"]:
        scale = scale / settings["image_std"]
        shift = np.divide(settings["image_mean"], settings["image_std"])
    scale, shift = (np.broadcast_to(value, 3).astype(np.float32)[:, None, None] for value in (scale, shift))
    return np.ascontiguousarray(pixels, dtype=np.float32) * scale - shift


__all__ = ["JointDetrImageProcessor", "JointDetrImageProcessorPil"]
