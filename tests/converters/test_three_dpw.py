"""3DPW: sequences written as the official pickles are, read back; broken and hostile ones refused.

The SMPL body is tested against a plain implementation on a made-up body.
"""

from pathlib import Path

import numpy as np
import pytest
from conversion_examples import INTRINSICS, STANDING, project
from scipy.spatial.transform import Rotation
from three_dpw_examples import WORLD_TO_CAMERA, python2_pickle, sequence, smpl_person, write_source

from jointdetr.converters.conversion import convert
from jointdetr.converters.three_dpw import ROWS_OF_LSP, ThreeDpw, read_bodies
from jointdetr.data.loading import load_pose_dataset
from jointdetr.data.skeleton_mapping import map_skeleton
from jointdetr.skeleton_jointdetr import HUMAN36M, LSP, SMPL

VERTICES = 3 * 24

WORLD_TO_CAMERA[:3, :3] = [[0.8, 0, -0.6], [0, -1, 0], [-0.6, 0, -0.8]]  # the world's y points up
WORLD_TO_CAMERA[:3, 3] = (0.5, -0.2, 3.0)  # metres


def test_sequences_become_rows(tmp_path):
    values = sequence()
    values["campose_valid"][1][2] = 0
    source = write_source(write_source(tmp_path / "3DPW", values), sequence(2, 1), "train", "walk_01")
    report = convert(ThreeDpw(source), tmp_path / "out")
    assert report.rows == {"test": 7, "train": 2} and not report.failed
    assert report.skipped["the camera's pose is not valid"].count == 1
    assert report.reprojection_px["max"] < 0.01
    rows = load_pose_dataset(tmp_path / "out", "test")
    assert rows["frame"][:] == [0, 0, 1, 1, 2, 3, 3] and rows["subject"][:] == ["0", "1", "0", "1", "0", "0", "1"]
    assert set(rows["skeleton"]) == {"smpl"} and set(rows["action"]) == {"downtown_00"}
    np.testing.assert_allclose(rows[0]["joints_3d"], smpl_person(0), atol=0.01)
    np.testing.assert_allclose(rows[0]["joints_2d"], project(smpl_person(0)), atol=0.01)
    np.testing.assert_allclose(rows[0]["intrinsics"], INTRINSICS)


def test_every_nth_frame(tmp_path):
    source = write_source(tmp_path, sequence())
    converter = ThreeDpw(source, step=3)
    assert [row["frame"] for row in converter.rows(converter.recordings()[0])] == [0, 0, 3, 3]


def test_a_missing_picture_is_reported_with_its_frame(tmp_path):
    source = write_source(tmp_path / "3DPW", sequence())
    (source / "imageFiles" / "downtown_00" / "image_00001.jpg").unlink()
    report = convert(ThreeDpw(source), tmp_path / "out")
    assert report.rows == {"test": 6}
    (refusals,) = report.skipped.values()
    assert refusals.count == 2 and "downtown_00.pkl, frame 1" in refusals.examples[0]
    assert "image_00001.jpg" in refusals.examples[0]


class Hostile:
    """Writes a file when a plain unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def test_a_hostile_pickle_runs_nothing(tmp_path):
    values = sequence() | {"texture_maps": Hostile(tmp_path / "pwned")}
    source = write_source(tmp_path / "3DPW", values)
    write_source(source, sequence(), name="good_00")
    report = convert(ThreeDpw(source), tmp_path / "out")
    assert report.rows == {"test": 8}  # the other sequence
    assert "downtown_00.pkl: expected arrays and numbers only, got a pickle of" in report.failed["test-downtown_00"]
    assert not (tmp_path / "pwned").exists()


def changed(**changes: object) -> dict:
    return sequence() | changes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "must be a dictionary with the keys .* got list"),
        ({"poses": 1}, r"must be a dictionary with the keys .* got \['poses'\]"),
        (
            changed(cam_poses=np.zeros((4, 3, 4))),
            r"`cam_poses` .* must have the shape \(None, 4, 4\), got \(4, 3, 4\)",
        ),
        (changed(cam_intrinsics="none"), "`cam_intrinsics` .* must be an array of numbers, got str"),
        (changed(jointPositions=[np.zeros((4, 66))] * 2), r"`jointPositions\[0\]` .* shape \(4, 72\), got \(4, 66\)"),
        (changed(campose_valid=[np.ones(4)]), "`campose_valid` .* one entry for each person"),
        (changed(campose_valid=[np.ones(3)] * 2), r"`campose_valid\[0\]` .* shape \(4,\), got \(3,\)"),
    ],
)
def test_broken_sequences_fail_with_their_name(tmp_path, values, message):
    source = write_source(tmp_path, values)
    converter = ThreeDpw(source)
    with pytest.raises(ValueError, match=message) as error:
        list(converter.rows(converter.recordings()[0]))
    assert "downtown_00.pkl" in str(error.value)


def test_another_unit_is_noticed(tmp_path):
    values = sequence() | {"jointPositions": [1000 * joints for joints in sequence()["jointPositions"]]}
    report = convert(ThreeDpw(write_source(tmp_path / "3DPW", values)), tmp_path / "out")
    assert "are these millimetres?" in report.failed["test-downtown_00"]


def test_nan_in_joints_leaves_the_row_out(tmp_path):
    values = sequence()
    values["jointPositions"][0][1, 5] = np.nan
    report = convert(ThreeDpw(write_source(tmp_path / "3DPW", values)), tmp_path / "out")
    rows = load_pose_dataset(tmp_path / "out", "test")
    assert report.rows == {"test": 8}
    valid = np.array(rows[2]["joints_3d_valid"])
    assert valid.sum() == 23 and not valid[1]  # the joint alone is not known
    assert not np.array(rows[2]["joints_2d_valid"])[1]


@pytest.mark.parametrize(
    ("missing", "message"), [("sequenceFiles", "must have sequences as"), ("imageFiles", "imageFiles")]
)
def test_missing_folders_are_named(tmp_path, missing, message):
    source = write_source(tmp_path / "3DPW", sequence())
    (source / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=message):
        list(ThreeDpw(source).rows(ThreeDpw(source).recordings()[0]))
    if missing == "imageFiles":
        converter = ThreeDpw(source, images=tmp_path / "elsewhere")
        assert len(list(converter.rows(converter.recordings()[0]))) == 8


def test_pickles_are_as_python_2_wrote_them(tmp_path):
    import pickletools

    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(python2_pickle(sequence()))}
    assert "BINSTRING" in opcodes and not opcodes & {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "FRAME"}
    named = {
        argument for opcode, argument, _ in pickletools.genops(python2_pickle(sequence())) if opcode.name == "GLOBAL"
    }
    assert named == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def rest_joints() -> np.ndarray:
    """SMPL's joints at rest `(24, 3)`, metres, y up, facing +z."""
    joints, mask = map_skeleton(STANDING * [1, -1, -1] / 1000, HUMAN36M, SMPL)
    for joint in np.flatnonzero(~mask):
        joints[joint] = joints[SMPL.parents[joint]] + [0, 0.05, 0.02]
    return joints


def body_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Three vertices around each joint, which is their mean; random directions."""
    rng = np.random.default_rng(seed)
    around = rng.normal(0, 0.05, (24, 3, 3))
    around -= around.mean(axis=1, keepdims=True)
    skinning = rng.random((VERTICES, 24)) ** 8
    skinning[np.arange(VERTICES), np.repeat(np.arange(24), 3)] += 5
    return {
        "v_template": (rest_joints()[:, None] + around).reshape(-1, 3),
        "shapedirs": rng.normal(0, 0.01, (VERTICES, 3, 10)),
        "posedirs": rng.normal(0, 0.001, (VERTICES, 3, 207)),
        "J_regressor": np.kron(np.eye(24), np.full(3, 1 / 3)),
        "weights": skinning / skinning.sum(axis=1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, *SMPL.parents[1:]], range(24)]),
    }


def regressor() -> np.ndarray:
    """`(17, vertices)`: the joints of `lsp` from SMPL's of the same name, the head's top from the head."""
    rows = np.zeros((17, VERTICES))
    for row, name in zip(ROWS_OF_LSP, LSP.joints, strict=True):
        joint = SMPL.joints.index({"head_top": "head"}.get(name, name))
        rows[row, 3 * joint : 3 * joint + 3] = (0.5, 0.3, 0.2)
    return rows


def write_smpl(folder: Path, rows: np.ndarray | None = None, **changes: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("SMPL_MALE.npz", "SMPL_FEMALE.npz")):
        np.savez(folder / name, **(body_arrays(seed) | changes))
    np.save(folder / "J_regressor_h36m.npy", regressor() if rows is None else rows)
    return folder


def posed_plainly(arrays: dict, pose: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bones and vertices of one frame, by 4x4 matrices one after the other, as the paper has it."""
    shaped = arrays["v_template"] + arrays["shapedirs"] @ shape
    joints = arrays["J_regressor"] @ shaped
    turns = [Rotation.from_rotvec(pose[3 * bone : 3 * bone + 3]).as_matrix() for bone in range(24)]
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    shaped = shaped + arrays["posedirs"] @ feature
    matrices: list[np.ndarray] = []
    for bone, parent in enumerate(SMPL.parents):
        local = np.eye(4)
        local[:3, :3] = turns[bone]
        local[:3, 3] = joints[bone] - (joints[parent] if parent >= 0 else 0)
        matrices.append(local if parent < 0 else matrices[parent] @ local)
    starts = np.array([matrix[:3, 3] for matrix in matrices])
    vertices = np.zeros_like(shaped)
    for bone, matrix in enumerate(matrices):
        from_rest = matrix.copy()
        from_rest[:3, 3] -= matrix[:3, :3] @ joints[bone]
        homogeneous = np.column_stack([shaped, np.ones(len(shaped))])
        vertices += arrays["weights"][:, bone : bone + 1] * (homogeneous @ from_rest.T)[:, :3]
    return starts, vertices


def test_posed_bodies_are_those_of_a_plain_implementation(tmp_path):
    rng = np.random.default_rng(3)
    poses, shape, places = rng.normal(0, 0.4, (5, 72)), rng.normal(size=10), rng.normal(size=(5, 3))
    body = read_bodies(write_smpl(tmp_path))["m"]
    bones, points = body.pose(poses, shape, places)
    for frame in range(5):
        starts, vertices = posed_plainly(body_arrays(0), poses[frame], shape)
        np.testing.assert_allclose(bones[frame], starts + places[frame], atol=1e-12)
        expected = (regressor() @ vertices)[ROWS_OF_LSP] + places[frame]
        np.testing.assert_allclose(points[frame], expected, atol=1e-12)


def test_turning_the_root_turns_everything(tmp_path):
    body = read_bodies(write_smpl(tmp_path))["f"]
    turned = np.zeros((1, 72))
    turned[0, :3] = (0, np.pi / 2, 0)
    bones, points = body.pose(turned, np.zeros(10), np.zeros((1, 3)))
    rest_bones, rest_points = body.pose(np.zeros((1, 72)), np.zeros(10), np.zeros((1, 3)))
    turn = Rotation.from_rotvec((0, np.pi / 2, 0))
    root = rest_bones[0, 0]
    np.testing.assert_allclose(points[0], turn.apply(rest_points[0] - root) + root, atol=1e-12)
    np.testing.assert_allclose(bones[0], turn.apply(rest_bones[0] - root) + root, atol=1e-12)


def posed_sequence(folder: Path) -> dict:
    """A sequence of the bodies in a folder: a man and a woman who waver in front of the camera."""
    rng = np.random.default_rng(5)
    values = sequence(4, 2)
    bodies = read_bodies(folder)
    poses, shapes = rng.normal(0, 0.05, (2, 4, 72)), rng.normal(0, 1, (2, 10))
    places = np.array([WORLD_TO_CAMERA[:3, :3].T @ ([0.4 * who, 0, 5] - WORLD_TO_CAMERA[:3, 3]) for who in range(2)])
    places = np.repeat(places[:, None], 4, axis=1)  # (people, frames, 3)
    bones = [bodies["mf"[who]].pose(poses[who], shapes[who], places[who])[0] for who in range(2)]
    return values | {
        "poses": list(poses),
        "betas": list(shapes),
        "trans": list(places),
        "genders": ["m", "f"],
        "jointPositions": [joints.reshape(4, 72) for joints in bones],
    }


def test_3dpw_gets_the_joints_that_papers_measure(tmp_path):
    folder = write_smpl(tmp_path / "3DPW" / "smpl")
    values = posed_sequence(folder)
    report = convert(ThreeDpw(write_source(tmp_path / "3DPW", values)), tmp_path / "out")
    assert report.rows == {"test": 8} and not report.failed
    rows = load_pose_dataset(tmp_path / "out", "test")
    assert set(rows["skeleton"]) == {"lsp"}
    woman = rows[3]  # frame 1
    _, vertices = posed_plainly(body_arrays(1), values["poses"][1][1], values["betas"][1])
    world = (regressor() @ vertices)[ROWS_OF_LSP] + values["trans"][1][1]
    expected = 1000 * (world @ WORLD_TO_CAMERA[:3, :3].T + WORLD_TO_CAMERA[:3, 3])
    np.testing.assert_allclose(woman["joints_3d"], expected, atol=0.01)
    np.testing.assert_allclose(woman["joints_2d"], project(expected, INTRINSICS), atol=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genders": ["m", "x"]}, r"`genders\[1\]` of .* must be one of \['f', 'm'\], got 'x'"),
        ({"genders": ["m"]}, "`genders` of .* must be a list with one entry for each person of `jointPositions`"),
        ({"genders": ["m", "f", "f"]}, "`genders` of .* must be a list with one entry for each person"),
        ({"trans": [np.zeros((4, 3))] * 2}, "the posed body misses `jointPositions` by .* mm; another SMPL model"),
        ({"poses": [np.zeros((4, 66))] * 2}, r"`poses\[0\]` of .* must have the shape"),
    ],
)
def test_other_bodies_are_noticed(tmp_path, changes, message):
    folder = write_smpl(tmp_path / "3DPW" / "smpl")
    source = write_source(tmp_path / "3DPW", posed_sequence(folder) | changes)
    with pytest.raises(ValueError, match=message):
        list(ThreeDpw(source).rows(ThreeDpw(source).recordings()[0]))


def test_broken_bodies_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"missing are \['SMPL_MALE.npz'"):
        read_bodies(tmp_path)
    with pytest.raises(
        ValueError, match=r"`weights` of .*SMPL_MALE.npz must have the shape \(72, 24\), got \(72, 23\)"
    ):
        read_bodies(write_smpl(tmp_path / "a", weights=np.ones((72, 23))))
    with pytest.raises(ValueError, match=r"J_regressor_h36m.npy must have the shape \(17, 72\), got \(17, 71\)"):
        read_bodies(write_smpl(tmp_path / "b", rows=np.zeros((17, 71))))
    right_first = regressor()[[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    with pytest.raises(ValueError, match=r"its left_hip lies at the right of SMPL_MALE.npz"):
        read_bodies(write_smpl(tmp_path / "c", rows=right_first))
