"""One way to write poses as any kind of file: the suffix of the path says which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..motion import motions_from_rows
from ..skeleton_jointdetr import Skeleton
from .bvh import write_bvh
from .glb import write_glb
from .page import write_viewer_html
from .writers import write_csv, write_json, write_npz, write_parquet

SUFFIXES = (".json", ".npz", ".csv", ".parquet", ".bvh", ".glb", ".html")


def write_poses(
    people: Sequence[Mapping[str, Any]],
    path: str | Path,
    skeleton: Skeleton,
    about: Mapping[str, Any] | None = None,
) -> dict[Path, str]:
    """Write the people of a picture or of a film as .json, .npz, .csv, .parquet, .bvh, .glb or .html.

    Args:
        people: One mapping for each person in each frame, as the pipeline returns them for a picture and
            [`motion_rows`] gives them for a film.
        path: File to write. BVH holds one person: several become NAME.person1.bvh, NAME.person2.bvh ...
        skeleton: Names, parents and flip pairs of the joints.
        about: More entries for the head of a JSON file.

    Returns:
        The files written, each with what its reader should know, such as how far constant bone lengths moved the
        joints; an empty text if there is nothing. BVH and GLB leave out people of whom no joint is known, and are not
        written if nobody is left.

    Raises:
        ValueError: The suffix is none of these, or the people do not fit the skeleton.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file of poses ending in {', '.join(SUFFIXES)}, got {path.suffix!r}")
    if suffix in (".bvh", ".glb"):
        return _write_animation(people, path, skeleton)
    if suffix == ".json":
        write_json(people, path, skeleton, about)
    elif suffix == ".html":
        write_viewer_html(motions_from_rows(people, skeleton), path, title=path.stem)
    else:
        {".npz": write_npz, ".csv": write_csv, ".parquet": write_parquet}[suffix](people, path, skeleton)
    return {path: ""}


def _write_animation(people: Sequence[Mapping[str, Any]], path: Path, skeleton: Skeleton) -> dict[Path, str]:
    """Write one GLB for all, or one BVH a person."""
    motions = [motion for motion in motions_from_rows(people, skeleton) if not motion.missing.all()]
    if not motions:
        return {}
    if path.suffix.lower() == ".glb":
        rigs = write_glb(motions, path)
        notes = [f"person {motion.person + 1}: {rig.describe()}" for motion, rig in zip(motions, rigs, strict=True)]
        return {path: "; ".join(notes)}
    paths = [path]
    if len(motions) > 1:
        paths = [path.with_name(f"{path.stem}.person{motion.person + 1}{path.suffix}") for motion in motions]
    return {each: write_bvh(motion, each).describe() for motion, each in zip(motions, paths, strict=True)}
