"""Use an installed jointdetr as its first user does: `pip install dist/*.whl`, then `python tools/smoke_test.py`."""

import json
import subprocess
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path

import jointdetr
from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor

PICTURE = "demo/examples/waving.jpg"


def check_place() -> None:
    """Raise where `import jointdetr` found something else than what is installed in this environment."""
    found, installed = Path(jointdetr.__file__).resolve(), Path(sysconfig.get_path("purelib")).resolve()
    if installed not in found.parents:
        raise SystemExit(f"expected jointdetr below {installed}, got {found}")


def load_checkpoint() -> None:
    """Load the checkpoint of the package with its image processor."""
    folder = str(files("jointdetr") / "pretrained")
    model = JointDetrForPoseEstimation.from_pretrained(folder)
    size = JointDetrImageProcessor.from_pretrained(folder).size
    print(f"{folder}: {model.num_parameters():,} parameters, pictures of {size['width']} x {size['height']} px")


def predict() -> None:
    """Run `jointdetr predict` on a picture of the package and look for the person in what it wrote."""
    command = Path(sysconfig.get_path("scripts")) / f"jointdetr{sysconfig.get_config_var('EXE') or ''}"
    with tempfile.TemporaryDirectory() as output:
        picture = str(files("jointdetr") / PICTURE)
        subprocess.run([str(command), "predict", picture, "--output", output], check=True, cwd=output)
        [poses] = Path(output).glob("*.json")
        people = json.loads(poses.read_text(encoding="utf-8"))["people"]
        if len(people) != 1:
            raise SystemExit(f"{picture} shows one person, got {len(people)}")


if __name__ == "__main__":
    check_place()
    load_checkpoint()
    predict()
    print("the installed package works")
