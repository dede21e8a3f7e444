"""Animation files are read back as they were written."""

import json

import numpy as np
import pytest

from jointdetr.formats.bvh import read_bvh_motions, write_bvh
from jointdetr.formats.glb import read_glb_motions, write_glb
from jointdetr.formats.motions import PoseMotion
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.visualization import read_poses, write_viewer_html

JOINTS = {
    "pelvis": (0, 0),
    **{"spine": (0, -230), "thorax": (0, -480), "neck": (0, -560), "head": (0, -680)},
    **{"left_hip": (120, 0), "left_knee": (130, 420), "left_ankle": (130, 850)},
    **{"left_shoulder": (160, -450), "left_elbow": (300, -250), "left_wrist": (330, -20)},
}
JOINTS |= {name.replace("left", "right"): (-x, y) for name, (x, y) in JOINTS.items() if "left" in name}


@pytest.fixture
def walk() -> PoseMotion:
    """Somebody who turns about, with bones of constant length, and goes to the right."""
    still = np.array([(*JOINTS[name], 0) for name in HUMAN36M.joints], dtype=float)
    times_s = np.arange(12) / 25
    angles = 2 * times_s
    turns = np.stack([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]] for a in angles])
    joints = np.einsum("fij,nj->fni", turns, still)
    root = np.array([0, 100, 4000]) + 500 * times_s[:, None] * [1, 0, 0]
    return PoseMotion(HUMAN36M, times_s, joints, np.ones((12, 17), bool), root_camera=root)


def places(motion: PoseMotion) -> dict[str, np.ndarray]:
    """Each joint's way from the camera, (frames, 3) mm."""
    return dict(zip(motion.skeleton.joints, motion.joints_camera.swapaxes(0, 1), strict=True))


@pytest.mark.parametrize("suffix", [".bvh", ".glb", ".html"])
def test_movement_comes_back(suffix, walk, tmp_path):
    path = tmp_path / f"walk{suffix}"
    {".bvh": write_bvh, ".glb": lambda motion, to: write_glb([motion], to)}.get(
        suffix, lambda motion, to: write_viewer_html([motion], to)
    )(walk, path)
    [motion] = read_poses(path)
    expected, got = places(walk), places(motion)
    assert set(got) == set(expected)
    for name, way in expected.items():
        np.testing.assert_allclose(got[name], way, atol=1.0, err_msg=name)
    np.testing.assert_allclose(motion.times_s, walk.times_s, atol=1e-4)
    names = motion.skeleton.joints
    parents = {name: names[parent] for name, parent in zip(names, motion.skeleton.parents, strict=True) if parent >= 0}
    assert (parents["left_knee"], parents["spine"], parents["left_shoulder"]) == ("left_hip", "pelvis", "thorax")
    assert (names.index("right_knee"), names.index("left_knee")) in motion.skeleton.flip_pairs


def test_each_skin_is_a_person(walk, tmp_path):
    write_glb([walk, walk], tmp_path / "two.glb")
    assert [motion.person for motion in read_glb_motions(tmp_path / "two.glb")] == [0, 1]


def test_a_picture_is_one_frame(walk, tmp_path):
    still = PoseMotion(HUMAN36M, [0.0], walk.joints[:1], walk.detected[:1])
    write_glb([still], tmp_path / "still.glb")
    [motion] = read_glb_motions(tmp_path / "still.glb")
    assert len(motion) == 1
    expected = dict(zip(HUMAN36M.joints, still.joints[0], strict=True))
    for name, place in zip(motion.skeleton.joints, motion.joints[0], strict=True):
        np.testing.assert_allclose(place, expected[name], atol=1.0)


def test_a_bvh_in_centimetres_is_as_tall_as_a_person(walk, tmp_path):
    write_bvh(walk, tmp_path / "walk.bvh")
    lines = (tmp_path / "walk.bvh").read_text().splitlines()
    start = lines.index("MOTION") + 3
    for number, line in enumerate(lines):
        words = line.split()
        if words[0] == "OFFSET":
            lines[number] = " ".join(["OFFSET", *(str(100 * float(word)) for word in words[1:])])
        elif number >= start:
            lines[number] = " ".join([*(str(100 * float(word)) for word in words[:3]), *words[3:]])
    (tmp_path / "cm.bvh").write_text("\n".join(lines) + "\n")
    [motion] = read_bvh_motions(tmp_path / "cm.bvh")
    for name, way in places(motion).items():
        np.testing.assert_allclose(way, places(walk)[name], atol=1.0)


def test_damaged_files_are_refused_by_name(walk, tmp_path):
    write_glb([walk], tmp_path / "walk.glb")
    whole = (tmp_path / "walk.glb").read_bytes()
    for content in (b"", b"no GLB at all, but long enough", whole[:3000], whole[:20] + b"[" * 60000):
        (tmp_path / "broken.glb").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.glb: expected a GLB file"):
            read_glb_motions(tmp_path / "broken.glb")


@pytest.mark.parametrize(
    "change", [{"people": 5}, {"times": [1, 0]}, {"skeleton": {}}, {"people": [{"joints": [[1]]}]}]
)
def test_a_damaged_page_is_refused_by_name(change, walk, tmp_path):
    write_viewer_html([walk], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    before, rest = text.split('id="data">', 1)
    data, after = rest.split("</script>", 1)
    broken = json.dumps(json.loads(data) | change)
    (tmp_path / "page.html").write_text(f'{before}id="data">{broken}</script>{after}')
    with pytest.raises(ValueError, match=r"page\.html: the poses in this page are damaged"):
        read_poses(tmp_path / "page.html")
    (tmp_path / "other.html").write_text("<html>")
    with pytest.raises(ValueError, match="expected a web page with poses"):
        read_poses(tmp_path / "other.html")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.json, .*got '\.txt'"):
        read_poses(tmp_path / "poses.txt")
