"""Peers of JointDETR: one backbone, three other ways from its last stage to a 3D pose.

They take and give what `JointDetrForPoseEstimation` with fixed alignment does, so that `train(recipe, model=peer)` and
all metrics work on them. The joint loss, the 2D loss and their weights are JointDETR's own; pictures with 2D labels
alone count in the 2D loss.

Shape vocabulary: batch, joints; channels, height and width are of the backbone's last stage. 3D is root-relative in
camera axes, in units of `config.joint_scale` inside the network and in millimetres in `pred_joints`; 2D is in `[0, 1]`
of the picture.
"""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.utils.generic import can_return_tuple

from benchmarks.accuracy.likelihood import LikelihoodLoss, LikelihoodPredictions, ResidualFlow
from jointdetr import JointDetrConfig
from jointdetr.loss_jointdetr import JointDetrLoss, PoseLabels, PosePredictions
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput, JointDetrPreTrainedModel

HIDDEN_SIZE = 1024  # of the regression heads
SIGMA_PRIOR = 0.2  # error per coordinate that an untrained head expects, in units of `joint_scale`
UPSAMPLINGS = 2  # deconvolutions before the volume, each of stride 2
DEPTH_BINS = 16
CUBE_MM = 2200.0  # side of the volume, as in MeTRAbs


class Peer(JointDetrPreTrainedModel):
    """A backbone, a head on its last stage, and the losses that JointDETR's force-aligned baseline has."""

    accepts_loss_kwargs = False  # the loss normalises by labelled joints
    supports_gradient_checkpointing = False

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        if config.query_alignment != "fixed":
            raise ValueError(f'`query_alignment` of a peer must be "fixed", got {config.query_alignment!r}.')
        self.backbone = load_backbone(config)
        self.channels = self.backbone.channels[-1]
        self.refiner = None
        self.loss_function = JointDetrLoss(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RegressionHead):
            init.zeros_(module[-1].weight)
            init.zeros_(module[-1].bias)

    def train(self, mode: bool = True) -> "Peer":
        """Switch to training or evaluation; frozen batch norms stay in evaluation and learn nothing."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval().requires_grad_(False)
        return self

    def predict(self, features: torch.Tensor) -> PosePredictions:
        """Turn the last stage (batch, channels, height, width) into predictions of one layer."""
        raise NotImplementedError

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, labels: list[dict] | None = None, **kwargs: object
    ) -> JointDetrPoseEstimationOutput:
        """Estimate the pose of the person in each picture.

        Args:
            pixel_values: pictures (batch, channels, height, width), normalised.
            labels: one dict per picture, see `JointDetrForPoseEstimation.forward`.
            kwargs: ignored, so that a peer can stand where JointDETR does.
        """
        features = self.backbone(pixel_values).feature_maps[-1]
        predictions = self.predict(features)
        result = JointDetrPoseEstimationOutput(
            pred_joints=predictions.joints[-1] * self.config.joint_scale, pred_points=predictions.points[-1]
        )
        if labels is not None:
            found = self.loss_function(predictions, PoseLabels.from_list(labels, self.config, features.device))
            result.loss, result.loss_dict = found.total, found.terms
        return result


class RegressionHead(nn.Sequential):
    """Mean over the picture and two linear layers to (batch, joints, outputs); the last one starts at zero."""

    def __init__(self, channels: int, joints: int, outputs: int):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, HIDDEN_SIZE),
            nn.ReLU(),
            nn.Linear(HIDDEN_SIZE, joints * outputs),
        )
        self.shape = joints, outputs

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Regress from (batch, channels, height, width), in float32."""
        return super().forward(features).float().unflatten(1, self.shape)


class L1Peer(Peer):
    """Direct regression: global average pooling, then an MLP to all coordinates at once; trained by L1.

    The simplest of all, and the reference of both papers below, there with a single linear layer.
    Sources: Sun et al., "Integral Human Pose Regression", ECCV 2018 (its `R1`); Li et al., ICCV 2021 ("Direct").
    """

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        self.head = RegressionHead(self.channels, config.num_joints, 5)
        self.post_init()

    def predict(self, features: torch.Tensor) -> PosePredictions:
        """Regress positions, and places from the middle of the picture."""
        outputs = self.head(features)[None]  # (1, batch, joints, 5)
        return PosePredictions(outputs[..., :3], outputs[..., 3:] + 0.5, logits=None)


class LikelihoodPeer(Peer):
    """Residual log-likelihood: the same head with a sigma per coordinate, trained by likelihood under a learned flow.

    The likelihood takes the place of L1 in 3D; the 2D loss stays L1, as everywhere here, so that the loss in 3D is all
    that differs from [`L1Peer`]. Flow and sigmas serve training alone and change no prediction.
    Source: Li et al., "Human Pose Regression with Residual Log-likelihood Estimation", ICCV 2021.
    """

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        self.head = RegressionHead(self.channels, config.num_joints, 8)
        self.flow = ResidualFlow(3)
        self.loss_function = LikelihoodLoss(config, self.flow)
        self.post_init()

    def predict(self, features: torch.Tensor) -> LikelihoodPredictions:
        """Regress positions, places, and the logarithms of the sigmas."""
        outputs = self.head(features)[None]  # (1, batch, joints, 8)
        log_sigmas = outputs[..., 5:] + math.log(SIGMA_PRIOR)
        return LikelihoodPredictions(outputs[..., :3], outputs[..., 3:5] + 0.5, logits=None, log_sigmas=log_sigmas)


class VolumetricPeer(Peer):
    """Integral regression: a heat volume and a heat map per joint, read by soft-argmax; trained by L1.

    The volume is a cube of 2.2 m in camera axes and not a part of the picture: millimetres come out, a body that the
    picture cuts off still fits in, and where the root lies in the cube is free, as it is subtracted (MeTRAbs). The map
    covers the picture. MeTRAbs reads both from the last stage; at the small inputs of these experiments that would be
    3 x 3 cells, so two deconvolutions come before, as in Integral Pose, which has three: at 96 x 96 px the volume has
    12 x 12 x 16 cells.
    Sources: Sun et al., "Integral Human Pose Regression", ECCV 2018; Sarandi et al., "MeTRAbs: Metric-Scale
    Truncation-Robust Heatmaps for Absolute 3D Human Pose Estimation", T-BIOM 2021.
    """

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        layers, channels = [], self.channels
        for _ in range(UPSAMPLINGS):
            deconvolution = nn.ConvTranspose2d(channels, config.d_model, 4, stride=2, padding=1, bias=False)
            layers += [deconvolution, nn.BatchNorm2d(config.d_model), nn.ReLU()]
            channels = config.d_model
        self.upsampling = nn.Sequential(*layers)
        self.heat = nn.Conv2d(channels, config.num_joints * (1 + DEPTH_BINS), 1)
        self.post_init()

    def predict(self, features: torch.Tensor) -> PosePredictions:
        """Read the volumes relative to the root's, and the maps."""
        heat = self.heat(self.upsampling(features)).unflatten(1, (self.config.num_joints, 1 + DEPTH_BINS))
        places = soft_argmax(heat[:, :, 1:], axes=3)  # (batch, joints, 3) in [0, 1] of the cube
        root = self.config.root_joint
        joints = (places - places[:, root : root + 1]) * (CUBE_MM / self.config.joint_scale)
        return PosePredictions(joints[None], soft_argmax(heat[:, :, 0], axes=2)[None], logits=None)


def soft_argmax(logits: torch.Tensor, axes: int) -> torch.Tensor:
    """Return the expected place under a softmax over the last axes, in float32.

    Args:
        logits: (..., depth, height, width) with three axes, (..., height, width) with two.
        axes: how many, two or three.

    Returns:
        (..., axes), x first, in [0, 1] from the first cell's outer border to the last cell's.
    """
    sizes = logits.shape[-axes:]
    weights = logits.float().flatten(-axes).softmax(-1).unflatten(-1, sizes)
    places = []
    for axis in range(-1, -axes - 1, -1):
        others = [other for other in range(-axes, 0) if other != axis]
        cells = (torch.arange(logits.shape[axis], device=logits.device) + 0.5) / logits.shape[axis]
        places.append((weights.sum(others) * cells).sum(-1))
    return torch.stack(places, -1)
