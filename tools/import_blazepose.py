"""Make a folder for `BlazePoseBackbone.from_pretrained` of MediaPipe's pose landmark network (full, Apache-2.0).

The TFLite file is in the npm package `@mediapipe/pose`, and the PyPI package `tflite` reads it:

    npm pack @mediapipe/pose@0.5.1675469404 && tar xzf mediapipe-pose-*.tgz
    pip install tflite
    python tools/import_blazepose.py package/pose_landmark_full.tflite OUTPUT
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tflite
import torch
from torch import nn

from jointdetr.backbone_jointdetr import BlazePoseBackbone, BlazePoseConfig, BlazePoseConvolution

TYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}


class ConvolutionWeights:
    """Weights of all convolutions of a TFLite graph in its order, as torch has them.

    Args:
        path: the file; its weights may be stored in half precision.
    """

    def __init__(self, path: Path):
        self.model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        self.graph = self.model.Subgraphs(0)
        self.stored: dict[int, int] = {}  # tensor in half precision of each that the graph widens

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        kinds = tflite.BuiltinOperator
        for number in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(number)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            inputs = operator.InputsAsNumpy()
            if kind == kinds.DEQUANTIZE:
                self.stored[int(operator.Outputs(0))] = int(inputs[0])
            elif kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
                # TFLite: (out, height, width, in), depthwise (1, height, width, channels)
                axes = (0, 3, 1, 2) if kind == kinds.CONV_2D else (3, 0, 1, 2)
                yield self._constant(int(inputs[1])).transpose(axes), self._constant(int(inputs[2]))

    def _constant(self, tensor: int) -> np.ndarray:
        """Value of a tensor that the file stores."""
        stored = self.graph.Tensors(self.stored.get(tensor, tensor))
        values = self.model.Buffers(stored.Buffer()).DataAsNumpy().tobytes()
        return np.frombuffer(values, TYPES[stored.Type()]).reshape(stored.ShapeAsNumpy()).astype(np.float32)


def convolutions_in_graph_order(backbone: BlazePoseBackbone) -> list[BlazePoseConvolution | None]:
    """Convolutions as the graph lists them; None for those of the segmentation and heat maps, which we do not have.

    The graph has the lateral convolutions of the top-down path right behind the expansion of the block that reads the
    same map.
    """

    def parts(module: nn.Module) -> list[BlazePoseConvolution]:
        return [part for part in module.modules() if isinstance(part, BlazePoseConvolution)]

    groups, laterals, unused = backbone.trunk, backbone.pyramid.laterals, [None, None]
    order: list[BlazePoseConvolution | None] = [backbone.stem, *parts(groups[0])]
    for number, lateral in ((1, unused), (2, unused), (3, parts(laterals[0])), (4, []), (5, parts(laterals[1]))):
        expansion, *rest = parts(groups[number])
        order += [expansion, *lateral, *rest]
    order += [backbone.expand, backbone.expand_depthwise, *parts(backbone.pyramid.coarsest)]
    order += [None] * 12  # heat maps and segmentation
    return order + parts(backbone.head_projection) + parts(backbone.head)


def load_weights(backbone: BlazePoseBackbone, path: Path) -> None:
    """Copy the file's weights into a backbone.

    Raises:
        ValueError: The file is another network.
    """
    for convolution, (weight, bias) in zip(
        convolutions_in_graph_order(backbone), ConvolutionWeights(path), strict=False
    ):
        if convolution is None:
            continue
        if convolution.weight.shape != weight.shape:
            raise ValueError(
                f"{path} must be MediaPipe's pose_landmark_full.tflite: a convolution has the shape {weight.shape}, "
                f"expected {tuple(convolution.weight.shape)}"
            )
        convolution.weight.data.copy_(torch.from_numpy(weight))
        convolution.bias.data.copy_(torch.from_numpy(bias))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Take over the weights of MediaPipe's pose landmark network.")
    parser.add_argument("source", type=Path, help="pose_landmark_full.tflite")
    parser.add_argument("output", type=Path, help="folder to write")
    options = parser.parse_args()
    backbone = BlazePoseBackbone(BlazePoseConfig(out_features=["stage3", "stage4", "stage5"]))
    load_weights(backbone, options.source)
    backbone.save_pretrained(options.output)


if __name__ == "__main__":
    main()
