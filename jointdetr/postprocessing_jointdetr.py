"""The network's queries -> skeletons in crops -> people in the picture, before the camera and in the world.

Joints are matched by class alone, what is missing is filled by the refinement network, what is expected to be far off
is a guess, poses of turned crops are turned back. Where a camera is known, a person stands where it would see the
root-relative joints at their image points; these are as the lens shows them, and are undistorted before anything is
solved.

Shape vocabulary: batch (crops, one for each person of each picture), queries, joints (joint types J of the skeleton).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from scipy.optimize import linear_sum_assignment

from .camera_jointdetr import (
    GUESSED_FIELD_OF_VIEW,
    Camera,
    apply_affine,
    crop_intrinsics,
    invert_affine,
    outside_autocast,
    project,
    solve_root_translation,
)
from .picture_jointdetr import turned_back

if TYPE_CHECKING:
    from .modeling_jointdetr import JointDetrPoseEstimationOutput
    from .refinement_jointdetr import JointRefiner

# stands for a cost that is not finite; far above any real one, far below where float32 sums lose the real ones
WORST_COST = 1e6

Assignment = Literal["hungarian", "argmax"]

# What assembling reads of the network's output; the rest, such as the encoder's tokens, is large.
ASSEMBLY_INPUTS = ("logits", "pred_joints", "pred_points", "pred_sigmas", "pred_visibility")
GEOMETRY = ("boxes", "crop_affine", "crop_intrinsics")
"""What half precision would spoil by whole pixels."""
# A score promises that the joint is within 150 mm of the truth. Of synthetic people's joints with an expected error of
# 200 mm half are, and of all others the share that `chance_of_hit` says.
HIT_MM, EVEN_CHANCE_MM, STEEPNESS = 150.0, 200.0, 3
# Two joints would determine a translation, but put it metres away when either is a few pixels off.
MIN_JOINTS_FOR_TRANSLATION = 3

OF_EVERYBODY = ("joints", "joints_2d", "scores", "detected", "inside", "box", "sigmas", "visible")
BEFORE_A_CAMERA = ("joints_camera", "residual_px")

Inputs = Mapping[str, torch.Tensor]
Person = dict[str, torch.Tensor]


@dataclass
class AssembledPoses:
    """One skeleton per crop.

    Args:
        joints (`torch.Tensor` of shape `(batch, joints, 3)`): Root-relative millimetres in camera axes; missing joints
            are filled by the refinement network, or NaN without one. The root is as predicted, near 0 but not 0.
        points (`torch.Tensor` of shape `(batch, joints, 2)`): Places in `[0, 1]` of the network's input; NaN where
            missing.
        scores (`torch.Tensor` of shape `(batch, joints)`): Probability of the query being this joint and, of models
            with a confidence head, within 150 mm of the truth.
        detected (`torch.Tensor` of shape `(batch, joints)`): False where a joint is a guess: it is missing, or its
            score is below the threshold.
        sigmas (`torch.Tensor` of shape `(batch, joints)`, *optional*): Distance from the truth, in millimetres, that
            the model expects of its own prediction; NaN where missing. None for models without a confidence head.
        visible (`torch.Tensor` of shape `(batch, joints)`, *optional*): Probability that the joint is inside the
            picture and not occluded; NaN where missing. None for models without a confidence head.
    """

    joints: torch.Tensor
    points: torch.Tensor
    scores: torch.Tensor
    detected: torch.Tensor
    sigmas: torch.Tensor | None = None
    visible: torch.Tensor | None = None

    def cpu(self) -> "AssembledPoses":
        """Return the same on the CPU."""
        return AssembledPoses(**{name: value.cpu() for name, value in vars(self).items() if value is not None})


@torch.no_grad()
def assemble_poses(
    outputs: "JointDetrPoseEstimationOutput",
    threshold: float = 0.5,
    refiner: "JointRefiner | None" = None,
    assignment: Assignment = "hungarian",
) -> AssembledPoses:
    """Choose one query for every joint type by the class probabilities alone, and complete the skeleton.

    Args:
        outputs (`JointDetrPoseEstimationOutput`): `logits` (None with fixed alignment), `pred_joints` and
            `pred_points`, and `pred_sigmas` and `pred_visibility` if it has a confidence head.
        threshold (`float`, *optional*, defaults to 0.5): Joints that are less probable than this are missing, and
            those with a smaller score are guesses, too.
        refiner (`JointRefiner`, *optional*): Fills missing joints and refines the others.
        assignment (`str`, *optional*, defaults to `"hungarian"`): `"hungarian"` is optimal and never gives one query
            to two joints; `"argmax"` takes the best query of each joint by itself, for where scipy cannot go.

    Returns:
        [`AssembledPoses`] in float32.

    Raises:
        ValueError: If the threshold is outside `[0, 1]` or the assignment is unknown.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be in [0, 1], got {threshold}.")
    poses = _likeliest_poses(outputs, assignment)
    found = poses.detected & (poses.scores >= threshold)
    joints = poses.joints.masked_fill(~found[..., None], torch.nan)
    points = poses.points.masked_fill(~found[..., None], torch.nan)
    sigmas, visible = (
        None if each is None else each.where(found, torch.nan) for each in (poses.sigmas, poses.visible)
    )
    if refiner is not None and (refiner.config.refine_detected or not found.all()):
        joints = refiner(joints, missing=~found, sigmas=sigmas).joints
    scores = poses.scores if poses.sigmas is None else poses.scores * chance_of_hit(poses.sigmas)
    return AssembledPoses(joints, points, scores, found & (scores >= threshold), sigmas, visible)


def chance_of_hit(sigmas: torch.Tensor) -> torch.Tensor:
    """How probable it is that joints of these expected errors, in mm, are within `HIT_MM` of the truth; 0 for NaN."""
    return (1 / (1 + (sigmas.float() / EVEN_CHANCE_MM) ** STEEPNESS)).nan_to_num(0.0)


def _likeliest_poses(outputs: "JointDetrPoseEstimationOutput", assignment: Assignment) -> AssembledPoses:
    """Return the joints however improbable they are; `scores` are of the class, `detected` says what is finite.

    The chosen query says how probable, how exact and how visible a joint is. The position is the mean of all queries,
    weighted by the squares of their probabilities of being this joint: training leaves several queries that know it,
    and their mean is nearer to the truth than any one. Where one query alone is probable, it is that one's position.
    """
    joints, points = outputs.pred_joints.float(), outputs.pred_points.float()
    sigmas, visible = outputs.pred_sigmas, outputs.pred_visibility  # (batch, queries) or None
    finite = joints.isfinite().all(-1) & points.isfinite().all(-1)  # (batch, queries)
    if outputs.logits is None:  # query j is joint j
        scores = torch.ones(joints.shape[:2], device=joints.device)
        return AssembledPoses(joints, points, scores, finite, sigmas, visible)
    probabilities = outputs.logits.float().softmax(-1)[..., :-1]  # (batch, queries, joints)
    queries = choose_queries(probabilities, assignment)  # (batch, joints)
    weights = probabilities.square() * finite[..., None]
    joints, points = average_queries(weights, joints), average_queries(weights, points)
    scores = probabilities.gather(1, queries[:, None])[:, 0]
    sigmas, visible = (None if each is None else each.gather(1, queries) for each in (sigmas, visible))
    return AssembledPoses(joints, points, scores, finite.gather(1, queries), sigmas, visible)


def assign(costs: torch.Tensor) -> torch.Tensor:
    """Solve the assignment of queries to joints for any number of cost matrices, in one transfer to the CPU and back.

    Takes (..., queries, joints), of which what is not finite counts as the worst cost, and returns the query of every
    joint (..., joints) int64; no query serves two joints.
    """
    finite = torch.nan_to_num(costs.float(), nan=WORST_COST, posinf=WORST_COST, neginf=WORST_COST)
    matrices = finite.clamp(max=WORST_COST).flatten(0, -3).transpose(1, 2).cpu().numpy()  # (matrices, joints, queries)
    if not len(matrices):
        return torch.empty(*costs.shape[:-2], costs.shape[-1], dtype=torch.long, device=costs.device)
    queries = torch.stack([torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in matrices])
    return queries.reshape(*costs.shape[:-2], costs.shape[-1]).to(costs.device, non_blocking=True)


def choose_queries(probabilities: torch.Tensor, assignment: Assignment) -> torch.Tensor:
    """Return the query of every joint (batch, joints) from class probabilities (batch, queries, joints) alone.

    Raises:
        ValueError: If the assignment is unknown.
    """
    if assignment == "hungarian":
        return assign(-probabilities)
    if assignment == "argmax":
        return probabilities.argmax(dim=1)
    raise ValueError(f'`assignment` must be "hungarian" or "argmax", got {assignment!r}.')


@outside_autocast
def average_queries(weights: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return means (batch, joints, coordinates) of positions (batch, queries, coordinates).

    `weights` (batch, queries, joints) are 0 where a position is not finite, and need not add up to 1.
    """
    sums = weights.sum(1)[..., None].clamp(min=torch.finfo(weights.dtype).tiny)
    return weights.transpose(1, 2) @ positions.nan_to_num(posinf=0.0, neginf=0.0) / sums


def people_of_crops(poses: AssembledPoses, inputs: Inputs, cameras: Sequence[Camera | None] | None) -> list[Person]:
    """Carry one pose for each crop, on the CPU, into the picture and into the spaces of their cameras.

    `cameras` are of the pictures; None takes the intrinsics that the processor was given. People are as
    [`JointDetrImageProcessor.post_process_pose_estimation`] describes them.

    Raises:
        ValueError: The crops' geometry was cast to half precision.
    """
    inputs = {**inputs, **{name: _single_precision(inputs, name) for name in GEOMETRY if name in inputs}}
    poses = replace(poses, joints=turned_back(poses.joints, inputs["crop_affine"]))
    cameras_of_crops = _cameras_of_crops(inputs, cameras)
    results = {**vars(poses), "box": inputs["boxes"], **_place(poses, inputs, cameras_of_crops)}
    people = []
    for crop, camera in enumerate(cameras_of_crops):
        known = [*OF_EVERYBODY, *([] if camera is None else BEFORE_A_CAMERA)]
        known += [] if camera is None or camera.extrinsics is None else ["joints_world"]
        person = {name: results[name][crop] for name in known if results[name] is not None}
        if camera is not None:
            person["intrinsics_guessed"] = torch.tensor(camera.guessed)
        people.append(person)
    return people


def _single_precision(inputs: Inputs, name: str) -> torch.Tensor:
    """Return geometry of the batch on the CPU, refusing what half precision has spoilt."""
    values = inputs[name]
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"`inputs[{name!r}]` must be in single precision, got {values.dtype}: cast `pixel_values` alone"
        )
    return values.float().cpu()


def _cameras_of_crops(inputs: Inputs, cameras: Sequence[Camera | None] | None) -> Sequence[Camera | None]:
    """Return the camera of each crop's picture: the one given, or that of the intrinsics the processor was given."""
    if cameras is not None:
        return [cameras[index] for index in inputs["image_index"].tolist()]
    if inputs.get("crop_intrinsics") is None:
        return [None] * len(inputs["image_index"])
    to_picture = invert_affine(inputs["crop_affine"].double())
    return [Camera(matrix) for matrix in crop_intrinsics(inputs["crop_intrinsics"].double(), to_picture).numpy()]


def _place(poses: AssembledPoses, inputs: Inputs, known: Sequence[Camera | None]) -> dict[str, torch.Tensor]:
    """Where the people are in the picture, before the camera and in the world, in float32.

    `joints_2d` of a missing joint is where its estimated 3D place would be seen. Where a crop's camera is not known, a
    place is guessed for the sake of `inside` alone, and what is said in camera space has no meaning. What cannot be
    placed is NaN.
    """
    height, width = inputs["pixel_values"].shape[-2:]
    crop_points = poses.points.double() * torch.tensor([width, height])  # (batch, joints, 2) px of the crop
    points = apply_affine(crop_points, invert_affine(inputs["crop_affine"].double()))  # px of the picture
    sizes = inputs["image_sizes"].cpu()[inputs["image_index"].cpu()].flip(-1)  # (batch, 2) width, height
    cameras = [
        camera or Camera.from_field_of_view(GUESSED_FIELD_OF_VIEW, size)
        for camera, size in zip(known, sizes.tolist(), strict=True)
    ]
    is_found = points.isfinite()  # (batch, joints, 2)
    wanted = torch.tensor([camera is not None for camera in known]) | ~is_found.all(dim=(1, 2))  # (batch,)
    joints_camera, seen_at = _place_in_camera(poses, points, cameras, wanted)
    joints_2d = torch.where(is_found, points, seen_at)
    squared = (seen_at - points).square().sum(dim=-1)  # (batch, joints), NaN where missing
    return {
        "joints_2d": joints_2d.float(),
        "inside": ((joints_2d >= 0) & (joints_2d <= sizes[:, None])).all(dim=-1),
        "joints_camera": joints_camera.float(),
        "residual_px": squared.nanmean(dim=-1).sqrt().float(),
        "joints_world": _to_world(joints_camera, cameras).float(),
    }


def _place_in_camera(
    poses: AssembledPoses, points: torch.Tensor, cameras: Sequence[Camera], wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the joints stand before the camera `(batch, joints, 3)` mm, and where it sees them, in float64.

    Both are NaN for crops that are not `wanted` `(batch,)`, and for people who cannot be placed.
    """
    points = _through_lenses(points, cameras, Camera.undistort)
    intrinsics = torch.stack([torch.from_numpy(camera.intrinsics) for camera in cameras])  # (batch, 3, 3)
    intrinsics[~wanted] = torch.nan
    joints_camera = poses.joints + place_roots(poses, points, intrinsics).unsqueeze(-2)
    return joints_camera, _through_lenses(project(joints_camera, intrinsics), cameras, Camera.distort)


def place_roots(poses: AssembledPoses, points_px: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Find where the roots must stand for the joints to be seen at their image points: `(batch, 3)` mm.

    Poses need not be in the camera's picture; `points_px` `(batch, joints, 2)` are as a camera without a lens shows
    them, `intrinsics` `(batch, 3, 3)` in the same px, both NaN where not known. A joint weighs as much as its score.
    The result is NaN without intrinsics, with fewer than three image points, where the points coincide, and where a
    joint would come to lie behind the camera.
    """
    joints = poses.joints.to(points_px.dtype)
    weights = poses.scores.where(points_px.isfinite().all(dim=-1), 0)  # (batch, joints)
    enough = (weights > 0).sum(dim=-1) >= MIN_JOINTS_FOR_TRANSLATION  # (batch,)
    solved = enough & intrinsics.isfinite().all(dim=(1, 2))
    roots = torch.full_like(joints[:, 0], torch.nan)
    if solved.any():
        roots[solved] = solve_root_translation(
            joints[solved], points_px[solved], intrinsics[solved], weights[solved], robust=True
        )
    behind = (joints[..., 2] + roots[:, None, 2] <= 0).any(dim=-1)
    return roots.masked_fill(behind[:, None], torch.nan)


def _through_lenses(points: torch.Tensor, cameras: Sequence[Camera], move: Any) -> torch.Tensor:
    """Distort or undistort the image points of each crop by the lens of its camera, all crops of a camera at once."""
    crops_of = {id(camera): (camera, []) for camera in cameras if camera.distortion is not None}
    for crop, camera in enumerate(cameras):
        if camera.distortion is not None:
            crops_of[id(camera)][1].append(crop)
    points = points.clone()
    for camera, crops in crops_of.values():
        points[crops] = move(camera, points[crops])
    return points


def _to_world(joints_camera: torch.Tensor, cameras: Sequence[Camera]) -> torch.Tensor:
    """Return the joints in the world, `(batch, joints, 3)` mm; NaN where the camera's place is not known."""
    unknown = torch.full((3, 4), torch.nan, dtype=torch.float64)
    places = [unknown if camera.extrinsics is None else torch.from_numpy(camera.extrinsics) for camera in cameras]
    extrinsics = torch.stack(places)  # (batch, 3, 4)
    return (joints_camera - extrinsics[:, None, :, 3]) @ extrinsics[..., :3]  # row vectors: the rotation's inverse
