"""The command line: what it writes, prints, refuses, and with which exit code."""

import json
import re
import subprocess
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
import pytest
from documents import REPOSITORY
from PIL import Image
from typer.testing import CliRunner, Result

import jointdetr
from jointdetr.cli import app

COMMANDS = (
    "convert",
    "predict",
    "synthesize",
    "train",
    "train-refiner",
    "evaluate",
    "view",
    "push",
    "export",
    "demo",
    "version",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, *named: object) -> None:
    """Exit code 2, and one line on stderr that names what is wrong."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    (complaint,) = (line for line in result.stderr.splitlines() if line.startswith("jointdetr: "))
    for name in named:
        assert str(name) in complaint


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "person.png"
    Image.linear_gradient("L").resize((120, 160)).convert("RGB").save(path)
    return path


@pytest.fixture(scope="module")
def people_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "people"
    result = run("synthesize", "--output", folder, "--count", 3, "--size", 64, "--sheet")
    assert result.exit_code == 0, result.output
    return folder


class TestPredict:
    def test_writes_a_pose_and_a_figure_and_prints_a_table(self, picture, tiny_model_folder, tmp_path):
        whole = ("--people", "whole")
        result = run("predict", picture, *whole, "--model", tiny_model_folder, "--output", tmp_path, "--threshold", 0)
        assert result.exit_code == 0, result.output
        document = json.loads((tmp_path / "person.pose.json").read_text())
        assert document["software"] == f"jointdetr {jointdetr.__version__}"
        assert document["picture_size"] == [120, 160]
        assert len(document["skeleton"]["joints"]) == 17
        (person,) = document["people"]
        assert all(person["detected"])
        assert person["intrinsics_guessed"] is True
        x, y, z = person["joints"][10]
        assert re.search(rf"head\s+{x:.0f}\s+{y:.0f}\s+{z:.0f}\s", result.stdout)
        with Image.open(tmp_path / "person.pose.png") as figure:
            assert figure.width > 800
        assert "17 of 17 joints found" in result.stdout

    @pytest.mark.usefixtures("shipped_checkpoint")
    def test_bfloat16_finds_the_same_joints_but_for_its_rounding(self, tmp_path):
        picture = REPOSITORY / "docs" / "images" / "person.jpg"
        joints = {}
        for dtype in ("float32", "bfloat16"):
            options = ("--box", 113, 119, 199, 373, "--dtype", dtype, "--output", tmp_path / dtype)
            assert run("predict", picture, *options).exit_code == 0
            (person,) = json.loads((tmp_path / dtype / "person.pose.json").read_text())["people"]
            joints[dtype] = person["joints"]
        assert joints["bfloat16"] != joints["float32"]
        for one, other in zip(*joints.values(), strict=True):
            assert one == pytest.approx(other, abs=10)
        assert "int8" in run("predict", picture, "--dtype", "int8").stderr

    def test_boxes_give_people_in_their_order_and_a_focal_length_their_place(
        self, picture, tiny_model_folder, tmp_path
    ):
        boxes = ("--box", 10, 10, 60, 120, "--box", 50.5, 20, 60, 100)
        options = ("--model", tiny_model_folder, "--output", tmp_path, "--focal-px", 200, "--threshold", 0)
        result = run("predict", picture, *boxes, *options)
        assert result.exit_code == 0, result.output
        document = json.loads((tmp_path / "person.pose.json").read_text())
        assert [person["box"] for person in document["people"]] == [[10, 10, 60, 120], [50.5, 20, 60, 100]]
        assert document["intrinsics"] == [[200, 0, 60], [0, 200, 80], [0, 0, 1]]
        assert all(len(person["joints_camera"]) == 17 for person in document["people"])

    def test_a_bad_picture_is_one_line_and_the_others_are_done(self, picture, tiny_model_folder, tmp_path):
        broken = tmp_path / "broken.jpg"
        broken.write_text("no picture")
        pictures = (picture, tmp_path / "absent.jpg", broken, picture)
        result = run("predict", *pictures, "--model", tiny_model_folder, "--output", tmp_path / "out")
        assert result.exit_code == 2
        assert "Traceback" not in result.output
        complaints = [line for line in result.stderr.splitlines() if line.startswith("jointdetr: ")]
        assert len(complaints) == 2
        assert str(tmp_path / "absent.jpg") in complaints[0]
        assert str(broken) in complaints[1]
        written = sorted(path.name for path in (tmp_path / "out").iterdir())
        names = ("person-2.pose", "person.pose")  # the same name twice does not overwrite
        assert written == [f"{name}.{suffix}" for name in names for suffix in ("json", "png")]

    def test_a_box_outside_the_picture_is_refused(self, picture, tiny_model_folder, tmp_path):
        options = ("--model", tiny_model_folder, "--output", tmp_path)
        result = run("predict", picture, "--box", 500, 500, 10, 10, *options)
        assert result.exit_code == 2
        assert "500" in result.stderr
        assert "120 x 160" in result.stderr
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (("--box", "1", "2", "3"), "X Y W H"),
            (("--box", "1", "2", "3", "wide"), "X Y W H"),
            (("--threshold", "1.5"), "threshold"),
            (("--focal-px", "0"), "focal-px"),
            (("--model", "/no/such/model"), "/no/such/model"),
        ],
    )
    def test_bad_options_are_refused(self, arguments, complaint, picture, tmp_path):
        result = run("predict", picture, *arguments, "--output", tmp_path)
        assert result.exit_code == 2
        assert complaint in result.stderr
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize("name", ["nowhere", "./nowhere", "a/b/c"])
    def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(self, picture, tmp_path, name):
        result = run("predict", picture, "--model", name, "--output", tmp_path)
        assert_refused(result, name, "no such folder")

    def test_an_output_folder_that_is_a_file_is_named_without_numbers(self, picture, tiny_model_folder):
        result = run("predict", picture, "--model", tiny_model_folder, "--output", picture)
        assert_refused(result, "file exists", picture)
        assert "Errno" not in result.stderr

    def test_a_checkpoint_of_another_model_is_refused(self, picture, tmp_path):
        from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

        backbone = VitPoseBackboneConfig(
            image_size=(64, 64), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, out_indices=[1]
        )
        VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone)).save_pretrained(tmp_path)
        result = run("predict", picture, "--model", tmp_path, "--output", tmp_path / "out")
        assert result.exit_code == 2
        assert "got VitPoseForPoseEstimation" in result.stderr


class TestSynthesizeAndEvaluate:
    def test_synthesize_writes_a_dataset_and_a_sheet(self, people_folder):
        from jointdetr.data.loading import load_pose_dataset

        assert len(load_pose_dataset(people_folder)) == 3
        with Image.open(people_folder / "sheet.png") as sheet:
            assert sheet.size == (3 * 64, 64)
            plain = load_pose_dataset(people_folder)[1]["image"]
            drawn = np.asarray(sheet.crop((64, 0, 128, 64))).astype(int) - np.asarray(plain)
            assert 20 < (np.abs(drawn).max(-1) > 40).sum() < 2000  # bones and joints, and nothing else

    def test_synthesize_does_not_touch_another_dataset(self, people_folder):
        result = run("synthesize", "--output", people_folder, "--count", 4, "--size", 64)
        assert result.exit_code == 2
        assert "count=3" in result.stderr

    def test_evaluate_prints_and_writes_the_numbers(self, people_folder, tiny_model_folder, tmp_path):
        options = ("--model", tiny_model_folder, "--limit", 2, "--output", tmp_path / "numbers.json")
        result = run("evaluate", "--dataset", people_folder, *options)
        assert result.exit_code == 0, result.output
        assert "MPJPE" in result.stdout
        numbers = json.loads((tmp_path / "numbers.json").read_text())
        assert numbers["fine_print"]["poses"] == 2
        assert numbers["metrics"]["mpjpe"] > 0

    def test_evaluate_in_bfloat16_says_so(self, people_folder, tiny_model_folder, tmp_path):
        options = ("--model", tiny_model_folder, "--dtype", "bfloat16", "--output", tmp_path / "numbers.json")
        result = run("evaluate", "--dataset", people_folder, *options)
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "numbers.json").read_text())["fine_print"]["dtype"] == "bfloat16"

    def test_supersampling_renders_other_pixels_of_the_same_people(self, people_folder, tmp_path):
        from jointdetr.data.loading import load_pose_dataset

        result = run("synthesize", "--output", tmp_path, "--count", 1, "--size", 64, "--supersampling", 2)
        assert result.exit_code == 0, (result.output, result.exception)
        assert json.loads((tmp_path / "synthesis.json").read_text())["supersampling"] == 2
        plain, smooth = load_pose_dataset(people_folder)[0], load_pose_dataset(tmp_path)[0]
        # to the last bits: another number of rays is posed and placed in another order of sums on some processors
        np.testing.assert_allclose(smooth["joints_3d"], plain["joints_3d"], atol=1e-2)
        assert smooth["image"].size == plain["image"].size
        assert smooth["image"].tobytes() != plain["image"].tobytes()

    @pytest.mark.parametrize("workers", [1, 2])
    def test_synthesize_refuses_an_absent_folder_of_motions(self, workers, tmp_path):
        options = ("--motions", tmp_path / "nothing", "--workers", workers)
        result = run("synthesize", "--output", tmp_path / "people", "--count", 1, "--size", 64, *options)
        assert_refused(result, tmp_path / "nothing")
        assert not (tmp_path / "people").exists()

    def test_synthesize_refuses_a_folder_without_motions(self, tmp_path):
        (tmp_path / "empty").mkdir()
        options = ("--count", 1, "--size", 64, "--motions", tmp_path / "empty")
        assert_refused(run("synthesize", "--output", tmp_path / "people", *options), tmp_path / "empty")
        assert not (tmp_path / "people").exists()  # so that the next try may have other motions

    def test_synthesize_refuses_an_absent_gpu(self, tmp_path, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        result = run("synthesize", "--output", tmp_path / "people", "--count", 1, "--device", "cuda")
        assert_refused(result, "--device cuda")

    def test_evaluate_refuses_an_absent_dataset(self, tiny_model_folder, tmp_path):
        result = run("evaluate", "--dataset", tmp_path / "nothing", "--model", tiny_model_folder)
        assert_refused(result, tmp_path / "nothing")

    def test_evaluate_refuses_an_empty_dataset(self, tiny_model_folder, tmp_path):
        from datasets import Dataset

        from jointdetr.data.schema import pose_features

        features = pose_features()
        path = tmp_path / "empty.parquet"
        Dataset.from_dict({name: [] for name in features}, features=features).to_parquet(path)
        result = run("evaluate", "--dataset", path, "--model", tiny_model_folder)
        assert_refused(result, path, "no data")

    def test_evaluate_refuses_a_model_of_other_joints(self, people_folder, tiny_model_folder, tmp_path):
        from datasets import Dataset

        from jointdetr.data.loading import load_pose_dataset
        from jointdetr.data.schema import pose_features

        names = ("joints_3d", "joints_3d_valid", "joints_2d", "joints_2d_valid", "visible")
        row = load_pose_dataset(people_folder)[0]
        row |= {name: row[name][:14] for name in names}
        Dataset.from_list([row], features=pose_features(num_joints=14)).save_to_disk(tmp_path / "other")
        result = run("evaluate", "--dataset", tmp_path / "other", "--model", tiny_model_folder)
        assert_refused(result, tmp_path / "other", "17 joints", "got 14")

    def test_evaluate_reports_an_output_that_cannot_be_written(self, people_folder, tiny_model_folder, tmp_path):
        options = ("--model", tiny_model_folder, "--limit", 1, "--output", tmp_path / "nowhere" / "numbers.json")
        assert_refused(run("evaluate", "--dataset", people_folder, *options), tmp_path / "nowhere")


class TestTrain:
    def test_trains_from_a_recipe_and_saves_what_predict_loads(
        self, people_folder, tiny_model_folder, picture, tmp_path
    ):
        overrides = (
            f"model={{init_from: {tiny_model_folder}}}",
            f"train={{sources: [{{path: {people_folder}}}], workers: 0}}",
            "evaluation.sources=[]",
            f"output={tmp_path / 'run'}",
            "batch_size=2",
            "schedule={epochs: 1, max_steps: 1, warmup_steps: 0}",
            "precision=fp32",
            "channels_last=false",
        )
        result = run("train", "--config", "synthetic-tiny", *overrides)
        assert result.exit_code == 0, (result.output, result.exception)
        assert str(tmp_path / "run" / "final") in result.stdout
        predicted = run("predict", picture, "--model", tmp_path / "run" / "final", "--output", tmp_path)
        assert predicted.exit_code == 0, predicted.output

    def test_trains_a_refinement_network(self, tmp_path):
        overrides = (f"output={tmp_path}", "synthetic=32", "epochs=1", "config={hidden_size: 16, num_blocks: 1}")
        result = run("train-refiner", "--config", "refiner", *overrides)
        assert result.exit_code == 0, (result.output, result.exception)
        assert re.search(r"replaced_refined \d+\.\d mm", result.stdout)
        assert jointdetr.JointRefiner.from_pretrained(tmp_path).config.hidden_size == 16

    def test_absent_data_are_one_line(self, tmp_path):
        sources = f"[{{path: {tmp_path / 'nothing'}}}]"
        output = f"output={tmp_path / 'run'}"
        overrides = (f"train.sources={sources}", "evaluation.sources=[]", "precision=fp32", output)
        assert_refused(run("train", "--config", "synthetic-tiny", *overrides), tmp_path / "nothing")
        overrides = (f"sources={sources}", "synthetic=0", output)
        assert_refused(run("train-refiner", "--config", "refiner", *overrides), tmp_path / "nothing")

    def test_data_of_another_skeleton_are_one_line(self, people_folder, tmp_path):
        overrides = (f"sources=[{{path: {people_folder}}}]", "synthetic=0", "skeleton=mpi_inf_3dhp")
        result = run("train-refiner", "--config", "refiner", *overrides, f"output={tmp_path}")
        assert_refused(result, people_folder, "human36m")

    @pytest.mark.parametrize("arguments", [("no-recipe",), ("synthetic-tiny", "batch_sise=3")])
    def test_a_bad_recipe_is_one_line(self, arguments):
        result = run("train", "--config", *arguments)
        assert result.exit_code == 2
        assert re.search("no-recipe|batch_sise", result.stderr)


class TestProgram:
    def test_help_names_every_command(self):
        result = run("--help")
        assert result.exit_code == 0
        for command in COMMANDS:
            assert re.search(rf"\b{command}\b", result.stdout), command
            assert run(command, "--help").exit_code == 0

    def test_runs_as_a_module(self):
        program = [sys.executable, "-m", "jointdetr", "version"]
        result = subprocess.run(program, capture_output=True, text=True, check=True)
        assert result.stdout.startswith(f"jointdetr {jointdetr.__version__}, transformers ")

    def test_the_installed_version_is_the_one_in_the_code(self):
        assert installed_version("jointdetr") == jointdetr.__version__


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["predcit"], 2), (["predict", "--help"], 0)])
def test_the_command_answers_before_anything_heavy_is_imported(words, code, tmp_path):
    """As the script that pip installs does; 0.4 CPU-seconds instead of 5."""
    program = (
        "import sys\n"
        "from jointdetr.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'numpy', 'datasets', 'PIL'} & set(sys.modules)))\n"
    )
    (tmp_path / "jointdetr").write_text(program)
    ended = subprocess.run([sys.executable, tmp_path / "jointdetr", *words], capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert "predict" in ended.stdout + ended.stderr and ended.stdout.splitlines()[-1] == "[]"


def test_a_command_that_runs_has_the_auto_classes_know_the_package(tiny_model_folder, tmp_path):
    (tmp_path / "jointdetr").write_text("from jointdetr.cli import main\nmain()\n")
    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    options = ["--people", "whole", "--model", tiny_model_folder, "--output", tmp_path / "out"]
    command = [sys.executable, tmp_path / "jointdetr", "predict", tmp_path / "grey.png", *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "grey.pose.json").exists()
