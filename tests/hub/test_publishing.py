"""Models are published whole or not at all, load where the package is absent, and mistakes are one line."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from documents import REPOSITORY
from hub_client import HubClient
from huggingface_hub import ModelCard
from huggingface_hub import constants as hub_constants
from loopback_hub import LoopbackHub, Refusal

import jointdetr
from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.hub import ModelCardDetails, PushSettings, push_to_hub

PACKAGE = Path(jointdetr.__file__).parent
PICTURE = REPOSITORY / "docs" / "images" / "person.jpg"
BOXES = [[4.0, 6.0, 50.0, 80.0]]
MODEL_FILES = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "pipeline_jointdetr.py"}
SPACE_CARD = (
    "---\ntitle: Poses\nsdk: gradio\napp_file: app.py\nemoji: x\ncolorFrom: blue\ncolorTo: green\n---\n# Poses\n"
)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "picture.npz"
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    np.savez(path, image=image, boxes=BOXES)
    return path


@pytest.fixture(scope="module")
def space_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("space")
    (folder / "app.py").write_text("print(1)\n")
    (folder / "README.md").write_text(SPACE_CARD)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "app.pyc").write_text("old")
    return folder


@pytest.fixture(scope="module")
def killed(client, model_folder) -> LoopbackHub:
    """The Hub after a push to `tester/broken` was killed while a large file was on its way."""
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        release.wait(60)
        raise Refusal(400, "the file did not arrive whole")

    client.hub.on_large_file = hold
    command = {"arguments": ["push", "tester/broken", "--model", str(model_folder), "--license", "mit"]}
    process = client.start("run_commands.py", json.dumps([command]))
    assert started.wait(120), process.communicate(timeout=10)
    process.kill()
    process.communicate()
    client.hub.on_large_file = lambda: None
    release.set()
    return client.hub


@pytest.fixture(scope="module")
def broken_off(killed) -> list[str]:
    """Files of `tester/broken` after the kill, before anything else is pushed."""
    return list(killed.storage.model("tester/broken").head.files)


@pytest.fixture(scope="module")
def outcomes(client, broken_off, model_folder, space_folder, tmp_path_factory) -> dict[str, dict]:
    """What a series of commands did, by name; large files go by git-lfs."""
    numbers = tmp_path_factory.mktemp("numbers") / "evaluation.json"
    metrics = {"mpjpe": 61.234, "pa_mpjpe": 45.0, "pck_150": 0.91, "auc": None}
    fine_print = {"poses": 8, "root": "pelvis"}
    content = {"protocol": "plain", "metrics": metrics, "group_means": {}, "fine_print": fine_print}
    numbers.write_text(json.dumps(content))
    base = ["--model", str(model_folder), "--license", "mit"]
    full = [*base, "--evaluation", f"My people={numbers}", "--training-data", "Noise.", "--tag", "v1.0"]
    space = ["--space", str(space_folder)]
    no_sdk = tmp_path_factory.mktemp("no_sdk")
    (no_sdk / "app.py").write_text("print(1)\n")
    (no_sdk / "README.md").write_text("---\ntitle: Poses\n---\n")
    commands = {
        "full disk": {"arguments": ["push", "tester/full", *base]},
        "repeated": {"arguments": ["push", "tester/broken", *base]},
        "first": {"arguments": ["push", "tester/pose", *full, *space]},
        "again": {"arguments": ["push", "tester/pose", *base]},
        "same tag": {"arguments": ["push", "tester/pose", *full, "--update"]},
        "not private": {"arguments": ["push", "tester/pose", *base, "--update", "--private"]},
        "unchanged": {"arguments": ["push", "tester/pose", *full[:-2], "--tag", "v1.1", "--update", *space]},
        "secret": {"arguments": ["push", "tester/hidden", *base, "--private"]},
        "no space": {"arguments": ["push", "tester/new", *base, "--space", str(numbers.parent)]},
        "no sdk": {"arguments": ["push", "tester/new", *base, "--space", str(no_sdk)]},
        "no licence": {"arguments": ["push", "tester/new", "--model", str(model_folder)]},
        "no numbers": {"arguments": ["push", "tester/new", *base, "--evaluation", f"x={space_folder / 'app.py'}"]},
        "bad name": {"arguments": ["push", "tester/a b", *base]},
        "other user": {"arguments": ["push", "somebody/pose", *base]},
        "stranger": {"arguments": ["predict", str(PICTURE), "--model", "tester/hidden"], "token": ""},
        "no token": {"arguments": ["push", "tester/new", *base], "token": ""},
        "wrong token": {"arguments": ["push", "tester/new", *base], "token": "hf_wrong"},
    }
    refusals = iter([Refusal(413, "storage quota exceeded")])

    def refuse_once() -> None:
        for refusal in refusals:
            raise refusal

    client.hub.on_large_file = refuse_once
    results = client.run("run_commands.py", json.dumps(list(commands.values())))
    return dict(zip(commands, results, strict=True))


def assert_same_joints(found: dict, folder: Path, arrays: Path) -> None:
    """The joints of a process without the package are those of the model in a folder."""
    model = JointDetrForPoseEstimation.from_pretrained(folder).eval()
    processor = JointDetrImageProcessor.from_pretrained(folder)
    stored = np.load(arrays)
    inputs = processor(stored["image"], boxes=BOXES, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    ((person,),) = processor.post_process_pose_estimation(outputs, inputs, threshold=0.0, refiner=model.refiner)
    assert found["module"].startswith("transformers_modules.")
    assert person["joints"].std() > 1
    for name in ("joints", "pipeline"):
        np.testing.assert_allclose(found[name], person["joints"].numpy(), rtol=1e-5, atol=1e-5)


def test_an_upload_that_was_killed_leaves_nothing_to_see_and_can_be_repeated(broken_off, outcomes, hub):
    assert broken_off == [".gitattributes"]
    assert outcomes["repeated"]["code"] == 0, outcomes["repeated"]
    repository = hub.storage.model("tester/broken")
    assert len(repository.commits) == 2  # the Hub's own, and ours
    assert set(repository.head.files) >= MODEL_FILES


def test_an_upload_that_the_hub_refuses_leaves_nothing_to_see(outcomes, hub):
    assert list(hub.storage.model("tester/full").head.files) == [".gitattributes"]
    assert_one_line(outcomes["full disk"], "nothing of the model was published", "storage quota exceeded")


def test_a_model_is_published_with_its_card_and_tag_in_one_commit(outcomes, hub):
    assert outcomes["first"]["code"] == 0, outcomes["first"]
    assert f"published {hub.address}/tester/pose\n" in outcomes["first"]["stdout"]
    repository = hub.storage.model("tester/pose")
    first = repository.find("v1.0")
    assert [commit.title for commit in repository.commits.values()][:2] == ["initial commit", "Publish v1.0"]
    assert set(first.files) >= MODEL_FILES
    assert all((PACKAGE / name).is_file() for name in first.files if name.endswith(".py"))
    card = ModelCard(hub.storage.contents[first.files["README.md"].sha256].decode())
    assert (card.data.pipeline_tag, card.data.library_name, card.data.license) == (
        "keypoint-detection",
        "transformers",
        "mit",
    )
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {"mpjpe": 61.23, "pa_mpjpe": 45.0, "pck_150": 91.0}
    assert 'model="tester/pose", revision="v1.0", trust_remote_code=True' in card.text


def test_the_space_carries_the_package_without_weights_and_names_its_model(outcomes, hub):
    space = hub.storage.space("tester/pose")
    assert f"published {hub.address}/spaces/tester/pose\n" in outcomes["first"]["stdout"]
    assert space.sdk == "gradio"
    assert space.variables == {"JOINTDETR_MODEL": "tester/pose"}
    assert {"app.py", "README.md", "jointdetr/__init__.py", "jointdetr/hub/publishing.py"} <= set(space.head.files)
    unwanted = ("__pycache__", "node_modules", "jointdetr/pretrained")
    assert not [path for path in space.head.files if any(part in path for part in unwanted)]
    assert "models:\n- tester/pose\n" in hub.storage.text(space, "README.md")
    assert "# Poses" in hub.storage.text(space, "README.md")


def test_a_version_is_added_only_when_asked_and_under_a_new_tag(outcomes, hub):
    assert_one_line(outcomes["again"], "tester/pose exists as a model", "--update")
    assert_one_line(outcomes["same tag"], "tag v1.0 already")
    assert outcomes["unchanged"]["code"] == 0, outcomes["unchanged"]
    repository = hub.storage.model("tester/pose")
    assert set(repository.tags) == {"v1.0", "v1.1"}
    changed = {
        path for path, file in repository.find("v1.1").files.items() if file != repository.find("v1.0").files[path]
    }
    assert changed == {"README.md"}  # names the version
    assert len(hub.storage.space("tester/pose").commits) == 2  # nothing new, so no commit


def test_what_is_private_stays_private(outcomes, hub):
    assert_one_line(outcomes["not private"], "exists and is public")
    assert outcomes["secret"]["code"] == 0, outcomes["secret"]
    assert hub.storage.model("tester/hidden").private
    assert not hub.storage.model("tester/pose").private
    assert_one_line(outcomes["stranger"], "tester/hidden is not a local folder and is not a valid model identifier")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no space", "must hold app.py"),
        ("no sdk", "must have `sdk: gradio`"),
        ("no licence", "`license`"),
        ("no numbers", "app.py must be JSON that"),
        ("bad name", "Repo id must"),
        ("other user", "may not write there (403)"),
        ("wrong token", "token is not valid, or may not write there (401)"),
        ("no token", "Token is required"),
    ],
)
def test_mistakes_are_one_line_and_make_no_repository(name, complaint, outcomes, hub):
    assert_one_line(outcomes[name], complaint)
    assert set(hub.storage.repositories) & {("model", "tester/new"), ("model", "somebody/pose")} == set()


def assert_one_line(outcome: dict, *complaints: str) -> None:
    lines = [line for line in outcome["stderr"].splitlines() if line.startswith("jointdetr: ")]
    assert outcome["code"] == 2, outcome
    assert len(lines) == 1, outcome
    assert "Traceback" not in outcome["stderr"]
    for complaint in complaints:
        assert complaint in lines[0]


def test_a_stranger_without_the_package_gets_the_same_joints(outcomes, client, model_folder, arrays):
    found = client.run("estimate.py", "tester/pose", "v1.0", arrays, token=None)
    assert_same_joints(found, model_folder, arrays)


def test_transformers_own_methods_publish_too_and_by_xet(hub, client, model_folder, arrays, tmp_path):
    client.run("publish_with_transformers.py", model_folder, tmp_path / "run", xet=True)
    by_hand, trained = hub.storage.model("tester/by-hand"), hub.storage.model("tester/trained")
    assert by_hand.head.files["model.safetensors"].xet_hash
    assert set(by_hand.head.files) >= MODEL_FILES - {"pipeline_jointdetr.py"}
    assert any("End of training" in commit.title for commit in trained.commits.values())
    assert "Two pictures of noise." in hub.storage.text(trained, "README.md")  # ours, in place of Trainer's
    found = client.run("estimate.py", "tester/trained", "main", arrays, token=None, xet=True)
    assert_same_joints(found, tmp_path / "run" / "final", arrays)


def test_the_page_on_publishing_runs(hub, client, shipped_checkpoint):
    page = client.folder / "page"
    page.mkdir()
    HubClient(hub, page).run("run_page.py", REPOSITORY / "docs" / "hub.md", xet=True)
    poses = hub.storage.model("tester/poses")
    assert set(poses.tags) == {"v1.0", "v1.1"}
    card = ModelCard(hub.storage.contents[poses.find("v1.0").files["README.md"].sha256].decode())
    assert "# jointdetr-photographs" in card.text  # the folder's own
    assert {result.dataset_name for result in card.data.eval_results} == {"Synthetic people"}
    assert hub.storage.model("tester/hidden").private
    assert "40,000 synthetic people." in hub.storage.text(hub.storage.model("tester/from-python"), "README.md")
    assert hub.storage.space("tester/poses").variables == {"JOINTDETR_MODEL": "tester/poses"}


def test_an_unreachable_hub_is_said_to_be_so(model_folder, monkeypatch):
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    model = JointDetrForPoseEstimation.from_pretrained(model_folder)
    processor = JointDetrImageProcessor.from_pretrained(model_folder)
    with pytest.raises(ConnectionError, match="the Hub cannot be reached, nothing was published"):
        push_to_hub(model, processor, "tester/pose", ModelCardDetails(license="mit"), PushSettings())
