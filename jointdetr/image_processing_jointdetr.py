"""Pictures, person boxes and annotations -> the network's input and labels; the network's output -> people.

Boxes are `(x, y, width, height)` in px of the upright picture.

Shape vocabulary: images (pictures), crops (one for each person of each picture), joints.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
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
from transformers.utils import is_torchvision_available

from .camera_jointdetr import Camera, crop_intrinsics, to_array, validate_intrinsics
from .picture_jointdetr import (
    CROP_SETTINGS,
    Cropper,
    crop_labels,
    iterate_pictures,
    load_picture,
    misses_picture,
    turn_about,
)
from .postprocessing_jointdetr import assemble_poses, people_of_crops

if TYPE_CHECKING:
    from transformers.image_processing_backends import TorchvisionBackend
    from transformers.image_processing_utils import BaseImageProcessor

    from .modeling_jointdetr import JointDetrPoseEstimationOutput
    from .refinement_jointdetr import JointRefiner
else:
    BaseImageProcessor = object  # the backends' base, which stands behind the mixin in its classes

SWITCHES = ("do_rescale", "do_normalize")
ANNOTATED = {"joints_3d": (3,), "joints_2d": (2,), "joints_3d_valid": (), "joints_2d_valid": (), "visible": ()}
"""What an annotation may say of the joints, and the shape of it for each joint."""


class PeopleOfPicture(NamedTuple):
    """What is said of one picture's people, in the order of their boxes."""

    boxes: np.ndarray | None  # (people, 4); None shows the whole picture as one person
    turns: Sequence[float] | None  # radians; None turns none
    annotations: Sequence[Mapping[str, Any]] | None


class Crop(NamedTuple):
    """One person, cropped."""

    box: Sequence[float]  # x, y, width, height in px of the picture
    affine: torch.Tensor  # (2, 3) px of the picture -> px of the crop
    picture: Image.Image
    labels: dict[str, np.ndarray] | None


class PoseBatchFeature(BatchFeature):
    """The processor's result, whose geometry keeps its precision when the pixels are cast to half precision."""

    def to(self, *args: Any, **kwargs: Any) -> "PoseBatchFeature":
        """Move everything; cast `pixel_values` alone.

        Raises:
            ValueError: The batch is of arrays.
        """
        if not isinstance(self["pixel_values"], torch.Tensor):
            kind = type(self["pixel_values"]).__name__
            raise ValueError(f'only tensors can be moved or cast, got {kind}: ask for `return_tensors="pt"`')
        geometry = {name: value for name, value in self.items() if name not in ("pixel_values", "labels")}
        super().to(*args, **kwargs)
        device = self["pixel_values"].device
        for name, value in geometry.items():
            self[name] = value.to(device)
        for label in self.get("labels", []):
            label.to(device)
        return self


class JointDetrImageProcessorKwargs(ImagesKwargs, total=False):
    r"""box_padding (`float`, *optional*, defaults to 1.25): Factor on the person boxes before they are cropped.

    root_joint (`int`, *optional*, defaults to 0): Number of the joint that 3D labels are relative to.
    """

    box_padding: float | None
    root_joint: int | None


class JointDetrImageProcessorMixin(BaseImageProcessor):
    r"""What the processors of both backends share, which is everything: crops are made by Pillow in either.

    Args:
        size (`dict[str, int]`, *optional*, defaults to 256 x 256): `height` and `width` of a crop in px.
        box_padding (`float`, *optional*, defaults to 1.25): Factor on the person boxes before they are cropped.
        root_joint (`int`, *optional*, defaults to 0): Number of the joint that 3D labels are relative to.
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
    root_joint = 0

    def __init__(self, **kwargs: Any):
        """Refuse settings that could only fail later: the `ValueError` names the field."""
        known = {name: getattr(type(self), name) for name in SWITCHES}
        _validate_settings(known | kwargs, kwargs.keys())
        super().__init__(**kwargs)

    def preprocess(
        self,
        images: ImageInput,
        boxes: Sequence | np.ndarray | torch.Tensor | None = None,
        intrinsics: Sequence | np.ndarray | torch.Tensor | None = None,
        turns: Sequence[Sequence[float]] | None = None,
        annotations: Mapping[str, Any] | Sequence | None = None,
        **kwargs: Unpack[JointDetrImageProcessorKwargs],
    ) -> BatchFeature:
        """Crop every person out of every picture, with labels for the loss where people are annotated.

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
            annotations: For each picture one dictionary for each of its people, in the order of the boxes: any of
                `joints_3d` `(joints, 3)` mm in camera axes (root-relative, or absolute as rows of a data set have
                them), `joints_2d` `(joints, 2)` px of the upright picture, `joints_3d_valid`, `joints_2d_valid`
                `(joints,)` (left out: what is finite), `visible` `(joints,)` and `nobody`, true where the box shows no
                person; other keys are of no meaning. A single picture may have its list, or its one dictionary, as is.
            kwargs: Settings of the processor to override.

        Returns:
            `pixel_values` `(crops, 3, height, width)`, `boxes` `(crops, 4)` px of the picture, `crop_affine`
            `(crops, 2, 3)` px of the picture -> px of the crop, `image_index` `(crops,)`, `image_sizes` `(images, 2)`
            height and width in px, and, where intrinsics are given, `crop_intrinsics` `(crops, 3, 3)` in px of the
            crop. With annotations `labels`, for each crop the dictionary that the model's `labels` want: joints
            relative to `root_joint` in mm, points in [0, 1] of the crop.

        Raises:
            ValueError: A picture, box, matrix or annotation that cannot be right.
        """
        return super().preprocess(images, boxes, intrinsics, turns, annotations, **kwargs)

    if TYPE_CHECKING:  # the backends' says nothing of boxes

        def __call__(
            self,
            images: ImageInput,
            boxes: Sequence | np.ndarray | torch.Tensor | None = None,
            intrinsics: Sequence | np.ndarray | torch.Tensor | None = None,
            turns: Sequence[Sequence[float]] | None = None,
            annotations: Mapping[str, Any] | Sequence | None = None,
            **kwargs: Unpack[JointDetrImageProcessorKwargs],
        ) -> BatchFeature: ...

    def cropper(self) -> Cropper:
        """Return how this processor crops and normalises, as it is set now."""
        return Cropper.from_settings({name: getattr(self, name) for name in CROP_SETTINGS})

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:
        _validate_settings(kwargs, kwargs.keys())
        super()._validate_preprocess_kwargs(**kwargs)
        if not kwargs["do_resize"]:
            raise ValueError("`do_resize` must be True, got False: crops of different sizes make no batch")

    def _preprocess_image_like_inputs(
        self, images: ImageInput, boxes: Any, intrinsics: Any, turns: Any, annotations: Any, **settings: Any
    ) -> BatchFeature:
        """Load, crop and normalise: called by `preprocess` with all settings filled in."""
        sources = list(iterate_pictures(images))
        if not sources:
            raise ValueError("`images` must hold at least one picture, got none")
        is_single = not isinstance(images, (list, tuple))
        people = _people_of_pictures(boxes, turns, annotations, len(sources), is_single)
        matrices = None if intrinsics is None else _validate_intrinsics(intrinsics, len(sources), is_single)
        cropper = Cropper.from_settings(settings)
        crops: list[Crop] = []
        image_index, image_sizes = [], []
        for index, (source, given) in enumerate(zip(sources, people, strict=True)):
            image = load_picture(source, f"images[{index}]", settings["input_data_format"])
            image_sizes.append((image.height, image.width))
            found = _crops_of_picture(image, index, given, cropper, settings["root_joint"])
            crops += found
            image_index += [index] * len(found)

        affine = torch.stack([crop.affine for crop in crops]) if crops else torch.zeros(0, 2, 3, dtype=torch.float64)
        data = {
            "pixel_values": cropper.pixel_values([crop.picture for crop in crops]),
            "boxes": np.array([crop.box for crop in crops], dtype=np.float32).reshape(-1, 4),
            "crop_affine": affine.float().numpy(),
            "image_index": np.array(image_index, dtype=np.int64),
            "image_sizes": np.array(image_sizes, dtype=np.int64),
        }
        if matrices is not None:
            data["crop_intrinsics"] = crop_intrinsics(matrices[image_index], affine).float().numpy()
        batch = PoseBatchFeature(data, tensor_type=settings["return_tensors"])
        if annotations is not None:
            batch["labels"] = [BatchFeature(crop.labels, tensor_type=settings["return_tensors"]) for crop in crops]
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
        outputs: "JointDetrPoseEstimationOutput | None",
        inputs: Mapping[str, Any],
        threshold: float = 0.5,
        refiner: "JointRefiner | None" = None,
        cameras: Sequence[Camera | None] | None = None,
    ) -> list[list[dict[str, torch.Tensor]]]:
        """Turn the network's output into people.

        Args:
            outputs: What [`JointDetrForPoseEstimation`] returned; None where there are no crops.
            inputs: What this processor returned, the network's input.
            threshold: Joints with a smaller score are guesses, or missing; see [`AssembledPoses`].
            refiner: Fills missing joints and refines the others; usually `model.refiner`.
            cameras: The camera of each picture, as far as it is known, in place of `intrinsics` in `inputs`.

        Returns:
            For each picture a list of people, in the order of its boxes; each is a dictionary of float32 tensors on
            the CPU: `joints` `(joints, 3)` root-relative mm, `joints_2d` `(joints, 2)` px of the picture, `scores`
            `(joints,)`, `detected` `(joints,)` bool, `inside` `(joints,)` bool, `box` `(4,)` px of the picture.
            What scores are and which joints are guesses or missing is said by [`AssembledPoses`]. Missing ones are NaN
            where no refiner fills them; where one does, `joints_2d` has them where the filled skeleton would be seen.
            `inside` says whether a joint lies in the picture.

            Models with a confidence head add `sigmas` `(joints,)`, the expected error in mm, and `visible`
            `(joints,)`, the probability of being inside the picture and not occluded.

            Where the camera is known, there are `joints_camera` `(joints, 3)` mm in camera space, `residual_px`
            (root mean square distance of `joints_2d` from `joints_camera` seen by the camera),
            `intrinsics_guessed` (bool) and, with extrinsics, `joints_world` `(joints, 3)` mm. They are NaN for a
            person of whom fewer than three joints are found, or whose joints no place in front of the camera
            explains.

        Raises:
            ValueError: Outputs and inputs belong to different batches, the threshold is outside [0, 1], or there is
                not one entry in `cameras` for each picture.
        """
        tensors = {name: _as_tensor(values) for name, values in inputs.items() if name != "labels"}
        image_index = tensors["image_index"].tolist()
        people: list[list[dict[str, torch.Tensor]]] = [[] for _ in tensors["image_sizes"]]
        if cameras is not None and len(cameras) != len(people):
            raise ValueError(
                f"`cameras` must have one entry for each of the {len(people)} pictures, got {len(cameras)}"
            )
        if not image_index:
            return people
        num_outputs = 0 if outputs is None else outputs.pred_joints.shape[0]
        if outputs is None or num_outputs != len(image_index):
            raise ValueError(f"`outputs` must be of the {len(image_index)} crops in `inputs`, got {num_outputs}")
        poses = assemble_poses(outputs, threshold, refiner).cpu()
        for index, person in zip(image_index, people_of_crops(poses, tensors, cameras), strict=True):
            people[index].append(person)
        return people


class JointDetrImageProcessorPil(JointDetrImageProcessorMixin, PilBackend):
    """Image processor of JointDETR where torchvision is absent; see [`JointDetrImageProcessorMixin`]."""


if TYPE_CHECKING or is_torchvision_available():
    from transformers.image_processing_backends import TorchvisionBackend

    class JointDetrImageProcessor(JointDetrImageProcessorMixin, TorchvisionBackend):
        """Image processor of JointDETR where torchvision is present; see [`JointDetrImageProcessorMixin`]."""

else:
    JointDetrImageProcessor = JointDetrImageProcessorPil


def _validate_settings(settings: Mapping[str, Any], given: Collection[str]) -> None:
    """Raise `ValueError` for the first of the `given` settings that cannot be right."""
    checks = {
        "size": (_is_size, "have a positive `height` and `width`"),
        "box_padding": (_is_positive, "be a positive factor"),
        "root_joint": (lambda value: _is_whole(value) and value >= 0, "be the number of a joint"),
        "resample": (lambda value: value in list(PILImageResampling), "be one of Pillow's filters, 0 to 5"),
    }
    checks |= {name: (lambda value: isinstance(value, bool), "be true or false") for name in ("do_resize", *SWITCHES)}
    if settings["do_rescale"]:
        checks["rescale_factor"] = (_is_positive, "be a positive factor")
    if settings["do_normalize"]:
        checks["image_mean"] = (_are_of_channels, "be a number, or one for each of the three channels")
        checks["image_std"] = (
            lambda value: _are_of_channels(value) and np.min(value) > 0,
            "be a positive number, or one for each of the three channels",
        )
    for name, (is_right, expected) in checks.items():
        if name in given and not is_right(settings[name]):
            raise ValueError(f"`{name}` must {expected}, got {settings[name]!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(0 < value < math.inf)


def _are_of_channels(values: Any) -> bool:
    """Whether a value is a finite number, or three of them."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape in ((), (3,)) and bool(np.isfinite(array).all())


def _is_size(size: Any) -> bool:
    """Whether a value is a side, or a height and a width, in whole pixels."""
    sides: list[Any]
    if isinstance(size, Mapping | SizeDict):
        known = {name: side for name, side in dict(size).items() if side is not None}
        sides = list(known.values()) if set(known) == {"height", "width"} else [0]
    else:
        sides = list(size) if isinstance(size, (list, tuple)) and len(size) == 2 else [size]
    return all(_is_whole(side) and side > 0 for side in sides)


def _as_tensor(values: Any) -> torch.Tensor:
    """Return what the processor gave as tensors, arrays or lists as a tensor."""
    return values if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))


def _people_of_pictures(
    boxes: Any, turns: Any, annotations: Any, num_images: int, is_single: bool
) -> list[PeopleOfPicture]:
    """Return what is said of the people of each picture."""
    if is_single and isinstance(annotations, Mapping):
        annotations = [annotations]
    if is_single and annotations is not None and all(isinstance(entry, Mapping) for entry in annotations):
        annotations = [annotations]
    per_image: list[Sequence] = [_boxes_of_images(boxes, num_images, is_single)]
    for name, values in (("turns", turns), ("annotations", annotations)):
        values = [None] * num_images if values is None else values
        if len(values) != num_images:
            raise ValueError(f"`{name}` must have one entry for each of the {num_images} pictures, got {len(values)}")
        per_image.append(values)
    return [PeopleOfPicture(*entries) for entries in zip(*per_image, strict=True)]


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


def _crops_of_picture(
    image: Image.Image, number: int, people: PeopleOfPicture, cropper: Cropper, root: int
) -> list[Crop]:
    """Crop the people of one picture."""
    if people.boxes is None:
        boxes, affines = [(0.0, 0.0, *map(float, image.size))], [cropper.whole(image.size)]
    else:
        boxes = _boxes_in_picture(people.boxes, image.size)
        affines = [cropper.affine(box) for box in boxes]
    turns = _validate_turns(people.turns, len(boxes))
    affines = [
        turn_about(affine, turn, cropper.size) if turn else affine for affine, turn in zip(affines, turns, strict=True)
    ]
    labels = [None] * len(boxes)
    if people.annotations is not None:
        annotations = _validate_annotations(people.annotations, len(boxes), f"annotations[{number}]", root)
        labels = [
            crop_labels(annotation, affine.numpy(), cropper.size, root)
            for annotation, affine in zip(annotations, affines, strict=True)
        ]
    pictures = [cropper.draw(image, affine) for affine in affines]
    return [Crop(*parts) for parts in zip(boxes, affines, pictures, labels, strict=True)]


def _boxes_in_picture(boxes: np.ndarray, image_size: tuple[int, int]) -> list[list[float]]:
    """Return the boxes of a picture of (width, height) px if all of them show some of it."""
    for box in boxes.tolist():
        if misses_picture(box, image_size):
            size = " x ".join(map(str, image_size))
            raise ValueError(f"`boxes` must overlap their pictures, got {box} outside a picture of {size} px")
    return boxes.tolist()


def _validate_turns(turns: Sequence[float] | None, num_people: int) -> list[float]:
    """Return one finite angle for each person of a picture."""
    angles = [0.0] * num_people if turns is None else [float(turn) for turn in turns]
    if len(angles) != num_people or not all(map(math.isfinite, angles)):
        raise ValueError(f"`turns` must have a finite angle for each of the {num_people} people, got {angles}")
    return angles


def _validate_annotations(entries: Any, num_people: int, name: str, root: int) -> Sequence[Mapping[str, Any]]:
    """Return the annotations of one picture if there is one for each person."""
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"`{name}` must be a list of one dictionary for each person, got {type(entries).__name__}")
    if len(entries) != num_people:
        raise ValueError(f"`{name}` must have one entry for each of the {num_people} people, got {len(entries)}")
    for number, entry in enumerate(entries):
        _validate_annotation(entry, f"{name}[{number}]", root)
    return entries


def _validate_annotation(entry: Mapping[str, Any], name: str, root: int) -> None:
    """Refuse an annotation that says nothing, or whose parts are not of the same joints."""
    said = {key: to_array(entry[key], f"{name}.{key}") for key in ANNOTATED if entry.get(key) is not None}
    if not {"joints_3d", "joints_2d"} & said.keys() and not entry.get("nobody"):
        raise ValueError(f"`{name}` must have `joints_3d`, `joints_2d` or `nobody`, got {sorted(entry)}")
    num_joints = next((len(values) for values in said.values() if values.ndim), 0)
    for key, values in said.items():
        shape = (num_joints, *ANNOTATED[key])
        if values.shape != shape:
            raise ValueError(f"`{name}.{key}` must have shape {shape}, got {values.shape}")
    if "joints_3d" in said and root >= num_joints:
        raise ValueError(f"`root_joint` must be one of the {num_joints} joints of `{name}`, got {root}")


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


__all__ = ["JointDetrImageProcessor", "JointDetrImageProcessorPil"]
