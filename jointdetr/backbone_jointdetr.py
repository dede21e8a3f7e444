"""BlazePose's network as a backbone: an inverted-residual trunk, its top-down path and its landmark branch.

The architecture is that of MediaPipe's pose landmark network, which has seen real people of every kind;
`tools/import_blazepose.py` takes its published weights over. It has no normalisation layers: those of the training
were folded into the convolutions. Every convolution is followed by ReLU6 but the last of a block.

Shape vocabulary: batch, channels, height and width of a feature map.
Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020; the blocks are MobileNetV2's.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.generic import can_return_tuple

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@strict
class BlazePoseConfig(BackboneConfigMixin, PreTrainedConfig):
    r"""Configuration of [`BlazePoseBackbone`]; the defaults are MediaPipe's full network.

    Args:
        embedding_size (`int`, *optional*, defaults to 24): Channels of the stem.
        hidden_sizes (`list[int]`, *optional*): Channels of every group of blocks.
        depths (`list[int]`, *optional*): Blocks of every group.
        kernel_sizes (`list[int]`, *optional*): Kernels of their depthwise convolutions.
        strides (`list[int]`, *optional*): Stride of the first block of every group.
        expansions (`list[int]`, *optional*): How many times wider the first block of every group is inside than its
            input; the others are 6 times wider.
        pyramid_size (`int`, *optional*, defaults to 48): Channels of the top-down path.
        head_size (`int`, *optional*, defaults to 288): Channels of the landmark branch.
        frozen_stages (`int`, *optional*, defaults to 0): The stem and so many groups of blocks learn nothing; as many
            as there are groups, and one more, freeze the whole network.
        out_features, out_indices: Which of `stem`, `stage1` (stride 4) to `stage5` (stride 64) are returned.

    Raises:
        StrictDataclassError: If the lists are not of one length or a number is out of range, with the `ValueError`
            that says which as its cause.
    """

    model_type = "blazepose"

    embedding_size: int = 24
    hidden_sizes: list | tuple = (16, 24, 32, 64, 88, 144)
    depths: list | tuple = (1, 2, 2, 3, 3, 4)
    kernel_sizes: list | tuple = (3, 3, 5, 3, 5, 5)
    strides: list | tuple = (1, 2, 2, 2, 1, 2)
    expansions: list | tuple = (1, 4, 6, 6, 6, 6)
    pyramid_size: int = 48
    head_size: int = 288
    frozen_stages: int = 0

    def __post_init__(self, **kwargs):
        self.stage_names = ["stem", "stage1", "stage2", "stage3", "stage4", "stage5"]
        chosen = {name: kwargs.pop(name, None) for name in ("out_features", "out_indices")}
        self.set_output_features_output_indices(**chosen)
        super().__post_init__(**kwargs)

    def validate_blocks(self) -> None:
        """Raise `ValueError` unless there are six groups of blocks of four strides in all, as the taps expect."""
        for name in ("hidden_sizes", "depths", "kernel_sizes", "strides", "expansions"):
            if len(getattr(self, name)) != 6:
                raise ValueError(f"`{name}` must hold six numbers, got {list(getattr(self, name))}.")
        if list(self.strides) != [1, 2, 2, 2, 1, 2]:
            raise ValueError(f"`strides` must be [1, 2, 2, 2, 1, 2], got {list(self.strides)}.")
        if not 0 <= self.frozen_stages <= 7:
            raise ValueError(f"`frozen_stages` must be from 0 to 7, got {self.frozen_stages}.")


def _relu6(features: torch.Tensor) -> torch.Tensor:
    """ReLU6 in place, which no convolution's gradient minds."""
    return nn.functional.relu6(features, inplace=True)


class BlazePoseConvolution(nn.Conv2d):
    """Convolution that keeps the size of a map, divided by the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups)


class BlazePoseSeparable(nn.Module):
    """Depthwise and pointwise convolution; with a stride of 2 the border is padded below and at the right alone."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.depthwise = BlazePoseConvolution(in_channels, in_channels, 3, stride, groups=in_channels)
        if stride == 2:
            self.depthwise.padding = 0, 0
        self.pointwise = BlazePoseConvolution(in_channels, out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride)."""
        if self.stride == 2:
            features = nn.functional.pad(features, (0, 1, 0, 1))
        return self.pointwise(_relu6(self.depthwise(features)))


class BlazePoseBlock(nn.Module):
    """Inverted residual: expand, convolve each channel by itself, project; with a residual where shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int):
        super().__init__()
        inside = in_channels * expansion
        self.expand = BlazePoseConvolution(in_channels, inside) if expansion > 1 else None
        self.depthwise = BlazePoseConvolution(inside, inside, kernel_size, stride, groups=inside)
        self.project = BlazePoseConvolution(inside, out_channels)
        self.has_residual = stride == 1 and in_channels == out_channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride)."""
        inside = features if self.expand is None else _relu6(self.expand(features))
        projected = self.project(_relu6(self.depthwise(inside)))
        return features + projected if self.has_residual else projected


class BlazePoseHeadBlock(nn.Module):
    """Residual of a separable convolution; a stride of 2 pools the residual."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.convolution = BlazePoseSeparable(channels, channels, stride)
        self.stride = stride

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height / stride, width / stride)."""
        residual = features if self.stride == 1 else nn.functional.max_pool2d(features, self.stride)
        return _relu6(residual + self.convolution(features))


class BlazePoseTrunk(nn.ModuleList):
    """The groups of inverted residuals behind the stem."""

    def __init__(self, config: BlazePoseConfig):
        groups, in_channels = [], config.embedding_size
        table = zip(
            config.hidden_sizes, config.depths, config.kernel_sizes, config.strides, config.expansions, strict=True
        )
        for channels, depth, kernel_size, stride, expansion in table:
            blocks = [BlazePoseBlock(in_channels, channels, kernel_size, stride, expansion)]
            blocks += [BlazePoseBlock(channels, channels, kernel_size, 1, 6) for _ in range(depth - 1)]
            groups.append(nn.Sequential(*blocks))
            in_channels = channels
        super().__init__(groups)


class BlazePosePyramid(nn.Module):
    """Top-down path: the coarsest map, enlarged step by step, with the trunk's own added at each."""

    def __init__(self, config: BlazePoseConfig, expanded_size: int):
        super().__init__()
        sizes = [config.hidden_sizes[group] for group in (2, 4)]  # strides 8 and 16
        self.coarsest = BlazePoseSeparable(expanded_size, config.pyramid_size)
        self.laterals = nn.ModuleList([BlazePoseSeparable(size, config.pyramid_size) for size in sizes])

    def forward(self, expanded: torch.Tensor, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map the expanded map of stride 32, and those of strides 8 and 16, to as many of stride 8 and 16."""
        coarser, joined = _relu6(self.coarsest(expanded)), []
        for lateral, own in zip(reversed(self.laterals), reversed(maps), strict=True):
            enlarged = nn.functional.interpolate(coarser, scale_factor=2.0, mode="bilinear", align_corners=False)
            coarser = enlarged + _relu6(lateral(own))
            joined.insert(0, coarser)
        return joined


class BlazePosePreTrainedModel(PreTrainedModel):
    """What makes the backbone a model of transformers: configuration, and initial values where nothing is loaded."""

    config: BlazePoseConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    _supports_sdpa = True  # there is no attention in it; the network around it may have any

    @classmethod
    def is_custom_code(cls) -> bool:
        """Let `_init_weights` see every module."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, BlazePoseBackbone):
            init.copy_(module.mean, torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
            init.copy_(module.std, torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))


class BlazePoseBackbone(BackboneMixin, BlazePosePreTrainedModel):
    """BlazePose's network up to its landmarks, for pictures whose sides are multiples of 64.

    | stage    | stride | channels | what                                                                         |
    |----------|--------|----------|------------------------------------------------------------------------------|
    | `stem`   | 2      | 24       | first convolution                                                            |
    | `stage1` | 4      | 24       | trunk                                                                        |
    | `stage2` | 8      | 80       | trunk, top-down path                                                         |
    | `stage3` | 16     | 328      | trunk, top-down path, and the finer top-down map with 2x2 pixels folded into one |
    | `stage4` | 32     | 432      | trunk, landmark branch                                                       |
    | `stage5` | 64     | 288      | landmark branch                                                              |
    """

    def __init__(self, config: BlazePoseConfig):
        super().__init__(config)
        pyramid, head, last = config.pyramid_size, config.head_size, config.hidden_sizes[-1]
        self.stem = BlazePoseConvolution(3, config.embedding_size, 3, 2)
        self.trunk = BlazePoseTrunk(config)
        self.expand = BlazePoseConvolution(last, 6 * last)
        self.expand_depthwise = BlazePoseConvolution(6 * last, 6 * last, 3, groups=6 * last)
        self.pyramid = BlazePosePyramid(config, 6 * last)
        self.head_projection = BlazePoseSeparable(6 * last, head)
        self.head = nn.Sequential(BlazePoseHeadBlock(head, 2), *[BlazePoseHeadBlock(head) for _ in range(4)])
        # buffers, so that pictures normalised as everywhere in transformers enter in [0, 1], as in MediaPipe
        self.mean, self.std = nn.Buffer(torch.empty(1, 3, 1, 1)), nn.Buffer(torch.empty(1, 3, 1, 1))
        of_trunk = config.hidden_sizes
        self.num_features = [config.embedding_size, of_trunk[1], of_trunk[2] + pyramid, of_trunk[4] + 5 * pyramid]
        self.num_features += [last + head, head]
        self.post_init()
        self.freeze()

    def freeze(self) -> None:
        """Let the frozen stages learn nothing."""
        stages = [[self.stem], *self.trunk] if self.config.frozen_stages else []
        frozen = [self] if self.config.frozen_stages == 7 else stages[: self.config.frozen_stages + 1]
        for part in frozen:
            for module in part if isinstance(part, list) else [part]:
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> "BlazePoseBackbone":
        """Switch to training or evaluation; here, since loading makes parameters anew and then calls `eval`."""
        super().train(mode)
        self.freeze()
        return self

    @can_return_tuple
    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BackboneOutput:
        """Return the maps of `config.out_features` for pictures (batch, 3, height, width) normalised as ImageNet's.

        Raises:
            ValueError: If these are no colour pictures, or a side of them is not a multiple of 64 px.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
            shape = tuple(pixel_values.shape)
            raise ValueError(f"pictures must have the shape (batch, 3, height, width), got {shape}.")
        if any(side % 64 for side in pixel_values.shape[-2:]):
            raise ValueError(f"pictures must have sides of multiples of 64 px, got {tuple(pixel_values.shape[-2:])}.")
        # depthwise convolutions are slower in bfloat16 than in float32 on CPUs, and range farther without norms
        with torch.autocast(pixel_values.device.type, enabled=False):
            pictures = pixel_values.to(self.std.dtype) * self.std + self.mean
            # depthwise convolutions are a third faster on CPUs with the channels last
            features = _relu6(self.stem(pictures.contiguous(memory_format=torch.channels_last)))
            maps = self._maps(features)
        chosen = tuple(maps[name] for name in self.out_features)
        return BackboneOutput(feature_maps=chosen)  # pyright: ignore[reportArgumentType] (declared as of one map)

    def _maps(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """All stages by name."""
        maps = {"stem": features}
        groups = []
        for group in self.trunk:
            features = group(features)
            groups.append(features)
        expanded = _relu6(self.expand(features))
        expanded = _relu6(self.expand_depthwise(expanded))
        fine, middle = self.pyramid(expanded, [groups[2], groups[4]])
        landmarks = _relu6(self.head_projection(expanded))
        return maps | {
            "stage1": groups[1],
            "stage2": torch.cat([groups[2], fine], 1),
            "stage3": torch.cat([groups[4], middle, nn.functional.pixel_unshuffle(fine, 2)], 1),
            "stage4": torch.cat([groups[5], landmarks], 1),
            "stage5": self.head(landmarks),
        }


AutoConfig.register(BlazePoseConfig.model_type, BlazePoseConfig, exist_ok=True)
AutoBackbone.register(BlazePoseConfig, BlazePoseBackbone, exist_ok=True)

__all__ = ["BlazePoseBackbone", "BlazePoseConfig"]
