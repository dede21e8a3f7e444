"""Training under `accelerate launch`, and the launcher's configurations that users start from."""

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from documents import REPOSITORY
from pose_examples import launch_training

from jointdetr import JointDetrForPoseEstimation, modeling_jointdetr

CONFIGURATIONS = sorted((REPOSITORY / "examples" / "accelerate").glob("*.yaml"))


def test_one_process_trains_on_people_drawn_on_the_way(recipe_values, tmp_path):
    data = {"synthesis": {"size": 32, "at_once": 4}, "workers": 0}
    values = {**recipe_values, "train": data, "evaluation": {}, "schedule": {"max_steps": 2, "warmup_steps": 0}}
    assert "step 2  train_runtime" in launch_training(values, tmp_path)
    JointDetrForPoseEstimation.from_pretrained(tmp_path / "run" / "final")


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_accelerate_reads_a_configuration(path):
    """Its keys are known, and it launches what it says it does."""
    kind = yaml.safe_load(path.read_text())["distributed_type"]
    assert load_config_from_file(str(path)).distributed_type == kind
    options = [
        "--config_file",
        str(path),
        "-m",
        "jointdetr.training.train",
        "--config",
        "examples/recipes/synthetic-r50.yaml",
    ]
    parsed, *_ = _validate_launch_command(launch_command_parser().parse_args(options))
    chosen = {"MULTI_GPU": parsed.multi_gpu, "FSDP": parsed.use_fsdp, "DEEPSPEED": parsed.use_deepspeed}
    assert [name for name, is_chosen in chosen.items() if is_chosen] == [kind]
    assert parsed.num_processes > 1 and not parsed.cpu
    assert parsed.use_cpu == (path.stem == "cpu")


def test_fsdp_wraps_layers_that_exist():
    (path,) = [path for path in CONFIGURATIONS if path.stem == "fsdp"]
    wrapped = yaml.safe_load(path.read_text())["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"].split(",")
    assert wrapped == modeling_jointdetr.JointDetrForPoseEstimation._no_split_modules
