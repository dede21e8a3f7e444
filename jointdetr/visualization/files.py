"""One way to write poses as any kind of file: the suffix of the path says which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..formats.bvh import read_bvh_motions, write_bvh
from ..formats.glb import read_glb_motions, write_glb
from ..formats.markers import describe, markers_of, write_c3d, write_trc
from ..formats.motions import PoseMotion, load_motions, motions_from_rows
from ..formats.rig import with_constant_bones
from ..formats.tables import write_columns, write_csv, write_json, write_npz, write_parquet
from ..motion.angles import angle_columns, joint_angles
from ..motion.floor import stand_all_on_floor
from ..skeleton_jointdetr import Skeleton
from .charts import angle_figure
from .page import read_viewer_html, write_viewer_html

SUFFIXES = (".json", ".npz", ".csv", ".parquet", ".bvh", ".glb", ".trc", ".c3d", ".html")
READERS = dict.fromkeys((".json", ".npz", ".parquet"), load_motions)
READERS |= {".html": read_viewer_html, ".glb": read_glb_motions, ".bvh": read_bvh_motions}
TABLES = {".npz": write_npz, ".csv": write_csv, ".parquet": write_parquet}
RIGS, MARKERS = (".bvh", ".glb"), {".trc": write_trc, ".c3d": write_c3d}
ANGLE_STEM = ".angles"  # what the name of a table of joint angles ends in, before its suffix


def read_poses(path: str | Path) -> list[PoseMotion]:
    """Read people's motions from .json, .npz or .parquet, from the page .html, or from animations as .bvh or .glb.

    Animations tell where the joints are, and not which of them were guessed. ValueError for other and damaged files.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path}: expected a file of poses ending in {', '.join(READERS)}, got {path.suffix!r}")
    return READERS[suffix](path)


def write_poses(
    people: Sequence[Mapping[str, Any]],
    path: str | Path,
    skeleton: Skeleton,
    about: Mapping[str, Any] | None = None,
    on_floor: bool = False,
) -> dict[Path, str]:
    """Write the people of a picture or of a film as .json, .npz, .csv, .parquet, .bvh, .glb, .trc, .c3d or .html.

    NAME.angles.csv and NAME.angles.parquet become tables of joint angles, see [`joint_angles`].

    Args:
        people: One mapping for each person in each frame, as the pipeline returns them for a picture and
            [`motion_rows`] gives them for a film.
        path: File to write. BVH, TRC and C3D hold one person: several become NAME.person1.bvh, NAME.person2.bvh ...
        skeleton: Of the joints.
        about: More entries for the head of a JSON file.
        on_floor: Put the people upright on the floor first, see [`stand_on_floor`]; tables of poses stay as seen.

    Returns:
        The files written, each with what its reader should know, such as how far constant bone lengths moved the
        joints. But for tables and HTML, people of whom no joint is known are left out, and no file is of nobody.

    Raises:
        ImportError: The package that knows the format is not installed.
        ValueError: The suffix is none of these, or the people do not fit the skeleton.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file of poses ending in {', '.join(SUFFIXES)}, got {path.suffix!r}")
    if suffix == ".json":
        write_json(people, path, skeleton, about)
    elif suffix in TABLES and not path.stem.endswith(ANGLE_STEM):
        TABLES[suffix](people, path, skeleton)
    else:
        return _write_motions(motions_from_rows(people, skeleton), path, on_floor)
    return {path: ""}


def _write_motions(motions: Sequence[PoseMotion], path: Path, on_floor: bool) -> dict[Path, str]:
    """Write what is made of whole motions: animations, markers, angles and the page."""
    suffix, notes = path.suffix.lower(), []
    if suffix in (*RIGS, *MARKERS):
        motions = [motion for motion in motions if not motion.missing.all()]
    if on_floor:
        motions, notes = _on_floor(motions, suffix in RIGS)
    if suffix == ".html":
        write_viewer_html(motions, path, title=path.stem)
        return {path: ""}
    if suffix not in (*RIGS, *MARKERS):
        return write_angles(motions, path)
    written = _write_moving(motions, path)
    return dict.fromkeys(written, "; ".join(notes)) if on_floor else written


def write_angles(motions: Sequence[PoseMotion], path: str | Path) -> dict[Path, str]:
    """Write the joint angles of several people as one table, .csv or .parquet; without people there is none.

    Raises:
        ValueError: Another suffix, or a skeleton without hips or shoulders.
    """
    if not motions:
        return {}
    write_columns(angle_columns([joint_angles(motion) for motion in motions]), path)
    return {Path(path): ""}


def write_angle_figures(motions: Sequence[PoseMotion], path: str | Path) -> dict[Path, str]:
    """Write the joint angles of each person as a figure, .png, .svg or .pdf, in NAME.person1.png ... if several."""
    paths = person_paths(Path(path), motions)
    for motion, each in zip(motions, paths, strict=True):
        angle_figure(joint_angles(motion)).savefig(each)
    return dict.fromkeys(paths, "")


def person_paths(path: Path, motions: Sequence[PoseMotion]) -> list[Path]:
    """A file for each person: the path itself, or NAME.person1.SUFFIX and so on if there are several."""
    if len(motions) == 1:
        return [path]
    return [path.with_name(f"{path.stem}.person{motion.person + 1}{path.suffix}") for motion in motions]


def _on_floor(motions: Sequence[PoseMotion], as_rigs: bool) -> tuple[list[PoseMotion], list[str]]:
    """Put people upright on the floor; feet of a rig stand still only if its bones have their length before."""
    notes = []
    if as_rigs:
        pairs = [with_constant_bones(motion) for motion in motions]
        notes += [f"person {motion.person + 1}: {rig.describe()}" for motion, rig in pairs]
        motions = [motion for motion, _ in pairs]
    placed, fits = stand_all_on_floor(motions)
    notes += [f"person {motion.person + 1} {fit.describe()}" for motion, fit in zip(placed, fits, strict=True)]
    return placed, notes


def _write_moving(motions: Sequence[PoseMotion], path: Path) -> dict[Path, str]:
    """Write one GLB for all, or one file a person of another kind, each with what its reader should know."""
    suffix = path.suffix.lower()
    if suffix == ".glb" and motions:
        rigs = write_glb(motions, path)
        notes = [f"person {motion.person + 1}: {rig.describe()}" for motion, rig in zip(motions, rigs, strict=True)]
        return {path: "; ".join(notes)}
    written = {}
    for motion, each in zip(motions, person_paths(path, motions), strict=True):
        if suffix == ".bvh":
            written[each] = write_bvh(motion, each).describe()
        else:
            markers = markers_of(motion)
            MARKERS[suffix](markers, each)
            written[each] = describe(markers)
    return written
