"""`import jointdetr`: the Auto classes know the package, and nothing is imported that only rooms need."""

import subprocess
import sys

ROOMS_ALONE = ("datasets", "matplotlib", "pyarrow", "typer", "rich", "gradio", "av")


def test_the_import_registers_everything_and_loads_nothing_that_only_rooms_need(tiny_model_folder):
    program = (
        "import sys, jointdetr\n"
        f"print(sorted(set({ROOMS_ALONE!r}) & set(sys.modules)))\n"
        "from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForPoseEstimation\n"
        "for auto in (AutoConfig, AutoImageProcessor, AutoModel, AutoModelForPoseEstimation):\n"
        "    print(type(auto.from_pretrained(sys.argv[1])).__name__)\n"
    )
    command = [sys.executable, "-c", program, tiny_model_folder]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    modules, config, processor, *models = ended.stdout.splitlines()
    assert (modules, config, processor[:23]) == ("[]", "JointDetrConfig", "JointDetrImageProcessor")
    assert models == ["JointDetrModel", "JointDetrForPoseEstimation"]
