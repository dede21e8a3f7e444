"""A saved checkpoint carries its code: it runs where jointdetr cannot be imported, and says the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForPoseEstimation,
    Trainer,
    TrainingArguments,
    pipeline,
)

from jointdetr import (
    JointDetrForPoseEstimation,
    JointDetrImageProcessor,
    JointDetrModel,
    JointDetrPipeline,
    JointRefiner,
    save_with_remote_code,
)

BOXES = [[4.0, 6.0, 50.0, 80.0]]

SCRIPT = """
import sys
sys.modules["jointdetr"] = None  # `import jointdetr` now fails
import json
from types import SimpleNamespace

import numpy as np
import torch
import transformers

folder, refiner_folder, arrays = sys.argv[1:]
stored = np.load(arrays)
load = {"pretrained_model_name_or_path": folder, "trust_remote_code": True}
config = transformers.AutoConfig.from_pretrained(**load)
base = transformers.AutoModel.from_pretrained(**load).eval()
model = transformers.AutoModelForPoseEstimation.from_pretrained(**load).eval()
processor = transformers.AutoImageProcessor.from_pretrained(**load)
refiner = transformers.AutoModel.from_pretrained(refiner_folder, trust_remote_code=True).eval()
poser = transformers.pipeline("pose-estimation-3d", model=folder, trust_remote_code=True, device="cpu")


class Detector:  # sees one person, and that one twice
    model = SimpleNamespace(config=SimpleNamespace(id2label={0: "cat", 1: "person"}))

    def __call__(self, images, threshold):
        x, y, width, height = stored["boxes"][0].tolist()
        box = {"xmin": x, "ymin": y, "xmax": x + width, "ymax": y + height}
        return [[{"score": score, "label": "person", "box": box} for score in (0.9, 0.8)] for _ in images]


found = poser(stored["image"], detector=Detector(), field_of_view=60, threshold=0.0, second_look=False)
inputs = processor(stored["image"], boxes=stored["boxes"], return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
    hidden = base(inputs["pixel_values"]).last_hidden_state
    refined = refiner(torch.from_numpy(stored["skeleton"])).joints
((person,),) = processor.post_process_pose_estimation(outputs, inputs, threshold=0.0, refiner=model.refiner)
print(json.dumps({
    "classes": [type(thing).__module__ for thing in (config, base, model, processor, refiner, poser)],
    "joints": person["joints"].tolist(),
    "joints_2d": person["joints_2d"].tolist(),
    "hidden": hidden.tolist(),
    "refined": refined.tolist(),
    "detected": found,
    "searched": len(poser(stored["image"])),
    "pipeline": poser(stored["image"], boxes=stored["boxes"], threshold=0.0, second_look=False)[0]["joints"],
}))
"""


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> JointDetrForPoseEstimation:
    torch.manual_seed(2)
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter += torch.randn_like(parameter) * 0.05
    return model


def run_without_the_package(script: str, arguments: list[Path], folder: Path) -> dict:
    """Run a script in a fresh interpreter that sees neither the repository nor the user's environment."""
    environment = {"HF_HOME": str(folder / "hf-home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [sys.executable, "-I", "-c", script, *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def saved_plainly(model: JointDetrForPoseEstimation, processor: JointDetrImageProcessor, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def saved_by_trainer(model: JointDetrForPoseEstimation, processor: JointDetrImageProcessor, folder: Path) -> None:
    arguments = TrainingArguments(output_dir=str(folder), report_to=[], use_cpu=True)
    Trainer(model, arguments, processing_class=processor).save_model()


def saved_twice(model: JointDetrForPoseEstimation, processor: JointDetrImageProcessor, folder: Path) -> None:
    saved_plainly(model, processor, folder)
    saved_plainly(
        AutoModelForPoseEstimation.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder), folder
    )


@pytest.mark.parametrize("save", [saved_plainly, saved_by_trainer, saved_twice])
def test_every_way_of_saving_writes_the_same(model, tmp_path, save):
    processor = JointDetrImageProcessor(size={"height": 128, "width": 96})
    save_with_remote_code(model, processor, tmp_path / "ours")
    save(model, processor, tmp_path / "theirs")
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("ours", "theirs")
    )
    theirs.pop("training_args.bin", None)
    for files in (ours, theirs):  # `Trainer` adds a word that no class of ours reads
        files["config.json"] = {**json.loads(files["config.json"]), "use_cache": None}
    assert theirs == ours


def test_everything_runs_where_the_package_cannot_be_imported(model, tmp_path):
    processor = JointDetrImageProcessor(size={"height": 128, "width": 96})
    save_with_remote_code(model, processor, tmp_path / "model")
    model.refiner.save_pretrained(tmp_path / "refiner")
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    skeleton = np.random.default_rng(1).normal(size=(1, 17, 3)).astype(np.float32) * 300
    np.savez(tmp_path / "arrays.npz", image=image, boxes=BOXES, skeleton=skeleton)

    arguments = [tmp_path / "model", tmp_path / "refiner", tmp_path / "arrays.npz"]
    found = run_without_the_package(SCRIPT, arguments, tmp_path)

    inputs = processor(image, boxes=BOXES, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
        hidden = model.model(inputs["pixel_values"]).last_hidden_state
        refined = model.refiner(torch.from_numpy(skeleton)).joints
    ((person,),) = processor.post_process_pose_estimation(outputs, inputs, threshold=0.0, refiner=model.refiner)
    assert all(module.startswith("transformers_modules.") for module in found["classes"])
    assert person["joints"].std() > 1
    (detected,) = found["detected"]
    assert found["searched"] == len(JointDetrPipeline(model=model, image_processor=processor)(image))
    assert detected["box"] == pytest.approx(BOXES[0]) and detected["intrinsics_guessed"]
    np.testing.assert_allclose(detected["joints"], person["joints"].numpy(), rtol=1e-4, atol=1e-3)
    for name, expected in (
        ("joints", person["joints"]),
        ("joints_2d", person["joints_2d"]),
        ("hidden", hidden),
        ("refined", refined),
        ("pipeline", person["joints"]),
    ):
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-5, atol=1e-5)


def test_plain_save_pretrained_carries_the_code(model, tmp_path):
    model.save_pretrained(tmp_path)
    JointDetrImageProcessor().save_pretrained(tmp_path)
    saved = {path.name for path in tmp_path.glob("*.py")}
    package = Path(sys.modules["jointdetr"].__file__).parent
    assert {path.name for path in package.glob("*_jointdetr.py")} <= saved  # the pipeline's helpers, too
    assert all((tmp_path / name).read_bytes() == (package / name).read_bytes() for name in saved)
    auto_map = json.loads((tmp_path / "preprocessor_config.json").read_text())["auto_map"]
    assert auto_map["AutoImageProcessor"] == {
        "torchvision": "image_processing_jointdetr.JointDetrImageProcessor",
        "pil": "image_processing_jointdetr.JointDetrImageProcessorPil",
    }


@pytest.mark.parametrize("model_class", [JointDetrModel, JointRefiner])
def test_parts_saved_alone_name_their_class(model, tmp_path, model_class):
    part = model.model if model_class is JointDetrModel else model.refiner
    part.save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModel"] == f"{model_class.__module__.split('.')[-1]}.{model_class.__name__}"


def test_with_the_package_its_own_classes_are_used(model, tmp_path):
    save_with_remote_code(model, JointDetrImageProcessor(), tmp_path)
    for options in ({}, {"trust_remote_code": True}):
        assert type(AutoModelForPoseEstimation.from_pretrained(tmp_path, **options)) is JointDetrForPoseEstimation
        assert type(AutoConfig.from_pretrained(tmp_path, **options)) is type(model.config)


def test_with_the_package_the_pipeline_needs_no_trust(model, tmp_path):
    saved_plainly(model, JointDetrImageProcessor(), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert list(written["custom_pipelines"]) == ["pose-estimation-3d"]
    assert type(pipeline("pose-estimation-3d", model=str(tmp_path))) is JointDetrPipeline
    assert type(pipeline("pose-estimation-3d", model=str(tmp_path), trust_remote_code=True)) is JointDetrPipeline


def test_without_a_model_the_pipeline_takes_the_one_in_the_package(shipped_checkpoint, tmp_path):
    poser = pipeline("pose-estimation-3d")
    assert type(poser) is JointDetrPipeline and Path(poser.model.name_or_path) == shipped_checkpoint
    poser.save_pretrained(tmp_path)
    assert str(shipped_checkpoint) not in (tmp_path / "config.json").read_text()
