"""JointDETR: a picture's features, encoded; joint queries that read them and predict 3D joints layer by layer.

Shape vocabulary: batch, queries, joints (joint types J), classes (J + "no joint"), levels, tokens (the sum of
height * width over the levels), layers (decoder). 3D is root-relative in camera axes, in units of `config.joint_scale`
inside the network and in millimetres in `pred_joints`; 2D is in `[0, 1]` of the picture, padding left out.
"""

import math
import os
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import DeformableDetrModel, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.modeling_outputs import BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_jointdetr import JointDetrConfig, JointRefinerConfig
from .layers_jointdetr import (
    ERROR_PRIOR,
    FeatureLayout,
    JointDetrClassHead,
    JointDetrConfidenceHead,
    JointDetrConnection,
    JointDetrDecoderLayer,
    JointDetrDeformableAttention,
    JointDetrEncoderLayer,
    JointDetrInputProjection,
    JointDetrPredictionHead,
    JointDetrQueryStart,
    JointDetrRegressionHead,
    JointDetrSelfAttention,
    QueryStart,
    sine_position_embedding,
)
from .loss_jointdetr import JointDetrLoss, PoseLabels, PosePredictions
from .refinement_jointdetr import JointRefiner

logger = logging.get_logger(__name__)

OWN_LOGIT = 4.0  # by which a query's start prefers the joint type that it starts as
STATES = (
    *("last_hidden_state", "hidden_states", "attentions", "cross_attentions", "encoder_last_hidden_state"),
    *("encoder_hidden_states", "encoder_attentions", "decoder_hidden_states", "decoder_attentions"),
)  # what the model's output hands on to that of the head
CLASS_PRIOR = 0.01  # probability that an untrained query gives to each joint type, as in PRTR


@dataclass
class JointDetrDecoderOutput(ModelOutput):
    """Output of the decoder: hidden states, and the predictions of every layer."""

    last_hidden_state: torch.Tensor | None = None  # (batch, queries, d_model)
    layer_logits: torch.Tensor | None = None  # (layers, batch, queries, classes); None with fixed alignment
    layer_joints: torch.Tensor | None = None  # (layers, batch, queries, 3) units of joint_scale
    layer_points: torch.Tensor | None = None  # (layers, batch, queries, 2)
    hidden_states: tuple[torch.Tensor] | None = None
    attentions: tuple[torch.Tensor] | None = None
    cross_attentions: tuple[torch.Tensor] | None = None  # (batch, queries, heads, levels, points) of each layer


@dataclass
class JointDetrModelOutput(JointDetrDecoderOutput):
    """Output of [`JointDetrModel`]: the decoder's, and what it read; what is of every layer comes when asked for."""

    encoder_last_hidden_state: torch.Tensor | None = None  # (batch, tokens, d_model)
    encoder_hidden_states: tuple[torch.Tensor] | None = None
    encoder_attentions: tuple[torch.Tensor] | None = None
    decoder_hidden_states: tuple[torch.Tensor] | None = None  # `hidden_states` and `attentions` under another name
    decoder_attentions: tuple[torch.Tensor] | None = None
    spatial_shapes: list | None = None  # height and width of each level


@dataclass
class JointDetrPoseEstimationOutput(ModelOutput):
    """Output of [`JointDetrForPoseEstimation`], in public units.

    With `labels` there are `loss`, `loss_dict`, and but for fixed alignment `matched_queries` and `matching_cost`, of
    the layers that have a loss; where the last one alone has, all layers' queries are its. With
    `config.predict_confidence` there are `pred_sigmas`, the expected distance of `pred_joints` from the truth, and
    `pred_visibility`, the probability that the joint is inside the picture and not occluded.
    """

    loss: torch.Tensor | None = None  # (1,) weighted sum of all terms
    loss_dict: dict | None = None  # the unweighted terms by name and layer
    logits: torch.Tensor | None = None  # (batch, queries, classes) "no joint" last; None with fixed alignment
    pred_joints: torch.Tensor | None = None  # (batch, queries, 3) root-relative mm in camera axes, float32
    pred_points: torch.Tensor | None = None  # (batch, queries, 2) about [0, 1] of the picture, float32
    pred_sigmas: torch.Tensor | None = None  # (batch, queries) mm
    pred_visibility: torch.Tensor | None = None  # (batch, queries)
    auxiliary_outputs: list[dict] | None = None  # `logits`, `pred_joints` and `pred_points` of the earlier layers
    matched_queries: torch.Tensor | None = None  # (layers, batch, joints) of the first group
    matching_cost: torch.Tensor | None = None  # (layers,) mean over the labelled joints
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor] | None = None
    attentions: tuple[torch.Tensor] | None = None
    cross_attentions: tuple[torch.Tensor] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor] | None = None
    encoder_attentions: tuple[torch.Tensor] | None = None
    decoder_hidden_states: tuple[torch.Tensor] | None = None
    decoder_attentions: tuple[torch.Tensor] | None = None


class JointDetrPreTrainedModel(PreTrainedModel):
    """What all JointDETR models share: loading and saving, initial values, capabilities."""

    config: JointDetrConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["JointDetrEncoderLayer", "JointDetrDecoderLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @classmethod
    def is_custom_code(cls) -> bool:
        """Let `_init_weights` see every module: it writes through `transformers.initialization` alone."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if self.config.init_std is not None:
            super()._init_weights(module)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif not isinstance(module, nn.Embedding):  # the queries', which the model draws
            super()._init_weights(module)
        if isinstance(module, JointDetrDeformableAttention):
            self._init_deformable_attention(module)
        elif isinstance(module, JointDetrRegressionHead):
            last = cast(nn.Linear, module[-1])
            init.zeros_(last.weight)
            init.zeros_(last.bias)
            if isinstance(module, JointDetrConfidenceHead):
                init.copy_(last.bias, torch.tensor([math.log(ERROR_PRIOR), 0.0]))
        elif isinstance(module, JointDetrClassHead):
            init.normal_(module.weight, std=self.config.class_spread / math.sqrt(self.config.d_model))
            # in one go: a slice of a parameter does not know that it has been loaded, and would be overwritten
            prior = torch.full(module.bias.shape, math.log(CLASS_PRIOR / (1 - CLASS_PRIOR)))
            prior[-1] = 0.0
            init.copy_(module.bias, prior)
        elif isinstance(module, JointDetrQueryStart):
            self._init_query_start(module)
        elif isinstance(module, JointDetrDecoder) and self.config.query_alignment == "set":
            first, *others = (cast(JointDetrClassHead, head.class_head) for head in module.heads)
            for head in others:  # a query starts with the same preferences in all layers
                init.copy_(head.weight, first.weight)
        elif isinstance(module, JointDetrModel):
            init.normal_(module.level_embed)
            init.normal_(module.query_position_embeddings.weight)
            if module.query_start is None:
                init.xavier_uniform_(module.reference_points.weight)
                init.zeros_(module.reference_points.bias)

    def _init_query_start(self, module: "JointDetrQueryStart") -> None:
        """Stand in the middle of the picture, each query as a joint type of its own."""
        init.zeros_(module.joints)
        init.constant_(module.points, 0.5)
        if module.logits is not None:
            own = torch.arange(len(module.logits)) % self.config.num_joints
            init.copy_(module.logits, OWN_LOGIT * nn.functional.one_hot(own, self.config.num_joints + 1).float())

    def _init_deformable_attention(self, module: "JointDetrDeformableAttention") -> None:
        """Let the heads look in as many directions, one pixel farther with every point, and weigh all the same."""
        angles = torch.arange(module.num_heads) * (2 * math.pi / module.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)  # (heads, 2)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, module.num_points + 1)
        offsets = directions[:, None, None] * steps[:, None]  # (heads, 1, points, 2)
        init.zeros_(module.sampling_offsets.weight)
        init.copy_(module.sampling_offsets.bias, offsets.expand(-1, module.num_levels, -1, -1).flatten())
        init.zeros_(module.attention_weights.weight)
        init.zeros_(module.attention_weights.bias)
        for projection in (module.value_proj, module.output_proj):
            init.xavier_uniform_(projection.weight)
            init.zeros_(projection.bias)


class JointDetrEncoder(JointDetrPreTrainedModel):
    """Encoder layers over the tokens of all feature levels."""

    _can_record_outputs = {
        "hidden_states": JointDetrEncoderLayer,
        "attentions": OutputRecorder(JointDetrDeformableAttention, layer_name="self_attn", index=1),
    }

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        self.layers = nn.ModuleList([JointDetrEncoderLayer(config) for _ in range(config.encoder_layers)])
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        tokens: torch.Tensor,
        position_embeddings: torch.Tensor,
        layout: FeatureLayout,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Encode tokens (batch, tokens, d_model)."""
        # repeated once rather than in every layer
        samples_shape = -1, -1, self.config.encoder_attention_heads, -1, self.config.encoder_n_points, -1
        reference_points = layout.token_places()[:, :, None, :, None].expand(samples_shape).contiguous()
        for layer in self.layers:
            tokens = layer(tokens, position_embeddings, reference_points, layout)
        return BaseModelOutput(last_hidden_state=tokens)


class JointDetrDecoder(JointDetrPreTrainedModel):
    """Decoder layers over the queries; each layer predicts a change to what the layer before it predicted."""

    _can_record_outputs = {
        "hidden_states": JointDetrDecoderLayer,
        "attentions": OutputRecorder(JointDetrSelfAttention, layer_name="self_attn", index=1),
        "cross_attentions": OutputRecorder(JointDetrDeformableAttention, layer_name="encoder_attn", index=1),
    }

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        layers = range(config.decoder_layers)
        self.layers = nn.ModuleList([JointDetrDecoderLayer(config) for _ in layers])
        self.heads = nn.ModuleList([JointDetrPredictionHead(config) for _ in layers])
        connections = layers[1:] if config.decoder_connection else []
        self.connections = nn.ModuleList([JointDetrConnection(config) for _ in connections])
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        content: torch.Tensor,  # (batch, queries, d_model)
        positions: torch.Tensor,  # (batch, queries, d_model)
        start: QueryStart,
        tokens: torch.Tensor,  # (batch, tokens, d_model)
        layout: FeatureLayout,
        **kwargs: Unpack[TransformersKwargs],
    ) -> JointDetrDecoderOutput:
        """Let queries read tokens, layer by layer."""
        hidden_states, position_embeddings = content, positions
        # with a loss on the last layer alone, its gradient must reach back through all of them
        detach = self.config.detach_layers and self.config.auxiliary_loss
        pass_on = torch.Tensor.detach if detach else torch.Tensor.clone
        joints, points = start.joints, start.points
        predictions = []
        for index, layer in enumerate(self.layers):
            places = layout.on_levels(pass_on(points))
            hidden_states = layer(hidden_states, position_embeddings, tokens, places, layout, **kwargs)
            logits, joint_change, point_change = self.heads[index](hidden_states)
            logits = logits if start.logits is None else logits + start.logits
            joints, points = joints + joint_change, points + point_change
            predictions.append((logits, joints, points))
            joints, points = pass_on(joints), pass_on(points)  # the next layer starts from here
            if index < len(self.connections):
                probabilities = None if logits is None else pass_on(logits).softmax(-1)
                connection = self.connections[index](probabilities, joints, points, hidden_states.dtype)
                position_embeddings = positions + connection
        layer_logits, layer_joints, layer_points = zip(*predictions, strict=True)
        return JointDetrDecoderOutput(
            last_hidden_state=hidden_states,
            layer_logits=None if layer_logits[0] is None else torch.stack(layer_logits),
            layer_joints=torch.stack(layer_joints),
            layer_points=torch.stack(layer_points),
        )


class JointDetrModel(JointDetrPreTrainedModel):
    """Backbone, deformable encoder and joint-query decoder, with the predictions of each decoder layer."""

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        self.backbone = load_backbone(config)
        self.input_proj = JointDetrInputProjection(config, self.backbone.channels)
        self.level_embed = nn.Parameter(torch.empty(config.num_feature_levels, config.d_model))
        self.encoder = JointDetrEncoder(config)
        self.query_position_embeddings = nn.Embedding(config.num_queries, 2 * config.d_model)  # position, content
        self.query_start = JointDetrQueryStart(config) if config.learned_start else None
        if self.query_start is None:
            self.reference_points = nn.Linear(config.d_model, 2)
        self.decoder = JointDetrDecoder(config)
        self.post_init()

    def train(self, mode: bool = True) -> "JointDetrModel":
        """Switch to training or evaluation; frozen batch norms stay in evaluation and learn nothing."""
        super().train(mode)
        if self.config.freeze_batch_norm:  # here, since loading makes parameters anew and then calls `eval`
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval().requires_grad_(False)
        return self

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        pixel_mask: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | JointDetrModelOutput:
        """Predict joints in every decoder layer.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`): Pictures, normalised.
            pixel_mask (`torch.Tensor` of shape `(batch, height, width)`, *optional*): As in
                [`JointDetrForPoseEstimation.forward`].
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`; what a processor returns besides is
                ignored.

        Returns:
            [`JointDetrModelOutput`].

        Raises:
            ValueError: If there is no picture, or none as a tensor.
        """
        if not isinstance(pixel_values, torch.Tensor):
            raise ValueError(
                f"`pixel_values` must be a tensor, got {type(pixel_values).__name__}: call the image processor with "
                '`return_tensors="pt"`.'
            )
        if pixel_values.shape[0] == 0:
            raise ValueError("`pixel_values` must hold at least one crop of a person, got none.")
        tokens, position_embeddings, layout = self.extract_features(pixel_values, pixel_mask)
        encoder_outputs = self.encoder(tokens, position_embeddings, layout, **kwargs)
        encoded = encoder_outputs.last_hidden_state
        learned = self.query_position_embeddings.weight.expand(encoded.shape[0], -1, -1)
        query_positions, content = learned.split(self.config.d_model, dim=-1)  # (batch, queries, d_model)
        decoded = self.decoder(content, query_positions, self._start(query_positions), encoded, layout, **kwargs)
        return JointDetrModelOutput(
            **decoded,
            encoder_last_hidden_state=encoded,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            spatial_shapes=layout.spatial_shapes,
        )

    def _start(self, query_positions: torch.Tensor) -> QueryStart:
        """The queries' learned start, or the root at the place that their position embedding says."""
        if self.query_start is not None:
            return self.query_start(query_positions.shape[0])  # of which `len` would make a constant in exports
        points = self.reference_points(query_positions).float().sigmoid()
        return QueryStart(points.new_zeros(*points.shape[:2], 3), points, logits=None)

    def extract_features(
        self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, FeatureLayout]:
        """Turn pictures into all levels' tokens and position embeddings (batch, tokens, d_model), and their layout."""
        if pixel_mask is not None:  # what lies in the padding must not matter
            pixel_values = pixel_values * pixel_mask[:, None].to(pixel_values.dtype)
        levels = self.input_proj(self.backbone(pixel_values).feature_maps)
        shapes = [tuple(level.shape[-2:]) for level in levels]
        masks = None
        if pixel_mask is not None:
            mask = pixel_mask[:, None].float()
            masks = [nn.functional.interpolate(mask, size=shape)[:, 0].bool() for shape in shapes]
        positions = []
        for index, shape in enumerate(shapes):
            mask = None if masks is None else masks[index]
            position = sine_position_embedding(shape, self.config.d_model, mask, pixel_values.device)
            positions.append(position.to(self.level_embed.dtype) + self.level_embed[index])
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        layout = FeatureLayout.from_masks(shapes, masks, pixel_values.device)
        return tokens, torch.cat(positions, 1), layout


class JointDetrForPoseEstimation(JointDetrPreTrainedModel):
    """JointDETR for 3D human pose: joint queries matched to joints as a set, or the force-aligned baseline.

    Source: Zhang and Cui, "End-to-end 3D Human Pose Estimation with Transformer", ICPR 2022.
    """

    accepts_loss_kwargs = False  # the loss normalises by labelled joints, not by `num_items_in_batch`
    _keys_to_ignore_on_load_unexpected = ["dense_head"]  # of checkpoints from before it was given up

    def __init__(self, config: JointDetrConfig):
        super().__init__(config)
        self.model = JointDetrModel(config)
        self.confidence_head = JointDetrConfidenceHead(config) if config.predict_confidence else None
        self.refiner = None
        if config.refiner_config is not None:
            self.set_refiner(JointRefiner(cast(JointRefinerConfig, config.refiner_config)))
        self.loss_function = JointDetrLoss(config)
        self.post_init()

    def set_refiner(self, refiner: JointRefiner) -> None:
        """Take a trained refinement network over; it is frozen, since it learns from skeletons alone.

        Raises:
            ValueError: If its skeleton is not this model's.
        """
        self.config.refiner_config = refiner.config
        self.config.validate_refiner()
        self.refiner = refiner.requires_grad_(False)

    def train(self, mode: bool = True) -> "JointDetrForPoseEstimation":
        """Switch to training or evaluation; the refinement network stays in evaluation and learns nothing."""
        super().train(mode)
        if self.refiner is not None:
            self.refiner.eval().requires_grad_(False)
        return self

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save as transformers does, so that the folder also loads as base model and as pipeline without jointdetr.

        `Trainer` and `push_to_hub` come by here, too. Without the image processor beside it a pipeline cannot be made.
        Arguments are those of [`PreTrainedModel.save_pretrained`].
        """
        from .pipeline_jointdetr import JointDetrPipeline  # its file travels with this one for being named here

        module, *_ = JointDetrModel.__module__.split(".")[::-1]
        known = vars(self.config).get("auto_map") or {}  # not there on a config that was never saved with its code
        self.config.auto_map = known | {"AutoModel": f"{module}.{JointDetrModel.__name__}"}
        implementation = f"{JointDetrPipeline.__module__.split('.')[-1]}.{JointDetrPipeline.__name__}"
        task = {"impl": implementation, "pt": ["AutoModelForPoseEstimation"], "type": "image"}
        self.config.custom_pipelines = {"pose-estimation-3d": task}
        super().save_pretrained(save_directory, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        pixel_mask: torch.LongTensor | None = None,
        labels: list[dict] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | JointDetrPoseEstimationOutput:
        """Estimate the pose of the person in each picture.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`): Pictures, normalised.
            pixel_mask (`torch.Tensor` of shape `(batch, height, width)`, *optional*): 1 for the picture and 0 for
                padding, which must be at the right and at the bottom. As in Deformable DETR, what it holds does not
                matter, but the backbone's and the projections' borders do see that it is there.
            labels (`list[dict]`, *optional*): One dict per picture: `joints_3d` (J, 3) root-relative millimetres in
                camera axes, `joints_3d_valid` (J,), and optionally `joints_2d` (J, 2) in `[0, 1]` of the picture,
                `joints_2d_valid` (J,), and `visible` (J,) for the confidence head.
            kwargs: See [`JointDetrModel.forward`].

        Returns:
            [`JointDetrPoseEstimationOutput`].

        Raises:
            ValueError: If a label does not fit the skeleton.
        """
        pose_labels = None if labels is None else PoseLabels.from_list(labels, self.config, pixel_values.device)
        outputs = self.model(pixel_values, pixel_mask=pixel_mask, **kwargs)
        auxiliary = [self._layer_predictions(outputs, layer) for layer in range(self.config.decoder_layers)]
        states = {name: getattr(outputs, name) for name in STATES}
        result = JointDetrPoseEstimationOutput(**auxiliary.pop(), auxiliary_outputs=auxiliary, **states)
        confidence = self._add_confidence(result)
        if pose_labels is not None:
            predictions = PosePredictions(outputs.layer_joints, outputs.layer_points, outputs.layer_logits, confidence)
            loss = self.loss_function(predictions, pose_labels)
            result.loss, result.loss_dict = loss.total, loss.terms
            result.matched_queries, result.matching_cost = loss.queries, loss.matching_cost
        return result

    def _layer_predictions(self, outputs: JointDetrModelOutput, layer: int) -> dict[str, Any]:
        """What one decoder layer predicts, in public units."""
        return {
            "logits": None if outputs.layer_logits is None else outputs.layer_logits[layer],
            "pred_joints": outputs.layer_joints[layer] * self.config.joint_scale,
            "pred_points": outputs.layer_points[layer],
        }

    def _add_confidence(self, result: JointDetrPoseEstimationOutput) -> torch.Tensor | None:
        """Say how sure the predictions are, and return the confidence head's raw output (batch, queries, 2)."""
        if self.confidence_head is None:
            return None
        confidence = self.confidence_head(result.last_hidden_state.detach()).float()
        result.pred_sigmas = confidence[..., 0].exp() * self.config.joint_scale
        result.pred_visibility = confidence[..., 1].sigmoid()
        return confidence

    @classmethod
    def from_deformable_detr(
        cls, checkpoint: str | DeformableDetrModel, output_loading_info: bool = False, **config_fields
    ) -> "JointDetrForPoseEstimation | tuple[JointDetrForPoseEstimation, dict[str, list[str]]]":
        """Start from a Deformable DETR: backbone, projections, encoder and whatever of the decoder has its shape.

        Args:
            checkpoint (`str` or `DeformableDetrModel`): Folder or Hub repository of any transformers Deformable DETR
                checkpoint, or the model itself.
            output_loading_info (`bool`, *optional*, defaults to `False`): Return `(model, info)`, where `info` lists
                the names `taken`, `new` (not in the checkpoint or of another shape) and `unused`.
            config_fields: Fields of [`JointDetrConfig`] other than the sizes, which are the checkpoint's.

        Returns:
            The model in evaluation mode. How many tensors were taken is logged as a warning, their names as info.
        """
        source = DeformableDetrModel.from_pretrained(checkpoint) if isinstance(checkpoint, str) else checkpoint
        sizes = [
            *("backbone_config", "num_feature_levels", "d_model", "activation_function"),
            *("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "encoder_n_points"),
            *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "decoder_n_points"),
        ]
        fields = {name: getattr(source.config, name) for name in sizes}
        model = cls(JointDetrConfig(**{"freeze_batch_norm": True, **fields, **config_fields}))
        # transformers unwraps timm's backbone, AutoBackbone does not
        wrapper = "_backbone." if any("._backbone." in name for name in model.model.state_dict()) else ""
        found = {
            name.replace("backbone.model.", f"backbone.{wrapper}"): tensor
            for name, tensor in source.state_dict().items()
        }
        own = model.model.state_dict()
        taken = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
        model.model.load_state_dict(taken, strict=False)
        info = {"taken": sorted(taken), "new": sorted(own.keys() - taken), "unused": sorted(found.keys() - taken)}
        logger.warning(f"Took {len(taken)} of {len(own)} tensors from Deformable DETR.")
        logger.info(f"Taken: {info['taken']}; new: {info['new']}; unused: {info['unused']}.")
        return (model.eval(), info) if output_loading_info else model.eval()


__all__ = ["JointDetrForPoseEstimation", "JointDetrModel", "JointDetrPreTrainedModel"]
