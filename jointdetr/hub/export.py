"""Export: the network as one file for ONNX Runtime or `torch.export`, and the way back to joints in millimetres.

The exported graph has a fixed input size and any batch size. It returns what the network returns, so that
`post_process_pose_estimation` gives the same people as with the model itself, and for runtimes without our Python also
`joints`, `points` and `scores`: for every joint its most probable query.

Shape vocabulary: batch, queries, joints.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from transformers.image_processing_utils import BaseImageProcessor

from ..modeling_jointdetr import JointDetrForPoseEstimation, JointDetrPoseEstimationOutput
from ..postprocessing_jointdetr import ASSEMBLY_INPUTS, assemble_poses

OPSET = 18
FILE_NAMES = {"onnx": "model.onnx", "torch-export": "model.pt2"}
DESCRIPTION = "export.json"


class ExportedPose(nn.Module):
    """The model with a flat tuple of outputs: the `ASSEMBLY_INPUTS` that it has, then joints, points and scores."""

    def __init__(self, model: JointDetrForPoseEstimation):
        super().__init__()
        self.model = model.eval()

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (batch, 3, height, width) to the outputs."""
        outputs = self.model(pixel_values=pixel_values)
        poses = assemble_poses(outputs, threshold=0.0, assignment="argmax")
        raw = [outputs[name] for name in ASSEMBLY_INPUTS if outputs.get(name) is not None]
        return *raw, poses.joints, poses.points, poses.scores


def export_model(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    folder: str | Path,
    format: Literal["onnx", "torch-export"] = "onnx",
) -> Path:
    """Write a model as one file, with its config, its image processor and a description of inputs and outputs.

    The model is float32 and on the CPU; the input has the processor's size. Returns the file of the network.

    Raises:
        ImportError: The packages of `jointdetr[export]` are not installed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAMES[format]
    network = ExportedPose(model)
    height, width = processor.size["height"], processor.size["width"]
    example = torch.zeros(2, 3, height, width)  # of two, as a batch of one would be taken for a constant
    dynamic = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=4096)}}
    with torch.no_grad():
        outputs = network.model(pixel_values=example)
        program = torch.export.export(network, (example,), dynamic_shapes=dynamic)
    names = [name for name in ASSEMBLY_INPUTS if outputs.get(name) is not None] + ["joints", "points", "scores"]
    if format == "onnx":
        _write_onnx(program, path, names)
    else:
        torch.export.save(program, path)
    config = model.config
    description = {  # for those who read the file without Python
        "input": {"name": "pixel_values", "shape": ["batch", 3, height, width]},
        "outputs": names,
        "units": {"pred_joints": "mm from the root joint", "pred_points": "0 to 1 of the crop"},
        "joints": [config.id2label[joint] for joint in range(config.num_joints)],
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return path


def _write_onnx(program: torch.export.ExportedProgram, path: Path, output_names: list[str]) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('export to ONNX needs `pip install "jointdetr[export]"`') from error
    names = {"input_names": ["pixel_values"], "output_names": output_names}
    torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, **names).save(path)


class ExportedModel:
    """An exported network, called as the model is: `post_process_pose_estimation` takes what it returns.

    Args:
        path: `model.onnx` or `model.pt2`, beside its `export.json`.
        threads: of ONNX Runtime; 0 lets it choose.
    """

    def __init__(self, path: str | Path, threads: int = 0):
        self.path, self.threads = Path(path), threads
        self.output_names = json.loads((self.path.parent / DESCRIPTION).read_text())["outputs"]
        is_onnx = self.path.suffix == ".onnx"
        self._run = _open_onnx(self.path, threads) if is_onnx else torch.export.load(self.path).module()

    def __call__(self, pixel_values: torch.Tensor, **ignored: object) -> JointDetrPoseEstimationOutput:
        """Map (batch, 3, height, width) to the network's outputs."""
        outputs = dict(zip(self.output_names, self._run(pixel_values.float()), strict=True))
        return JointDetrPoseEstimationOutput(**{name: outputs[name] for name in ASSEMBLY_INPUTS if name in outputs})


def _open_onnx(path: Path, threads: int) -> Callable[[torch.Tensor], Sequence[torch.Tensor]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('running ONNX files needs `pip install "jointdetr[export]"`') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())

    def run(pixel_values: torch.Tensor) -> list[torch.Tensor]:
        arrays = session.run(None, {"pixel_values": np.ascontiguousarray(pixel_values.cpu().numpy())})
        return [torch.from_numpy(array) for array in arrays]

    return run
