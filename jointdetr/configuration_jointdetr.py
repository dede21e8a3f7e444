"""Configurations of JointDETR and of its joint refinement network, skeleton included."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec

from .backbone_jointdetr import BlazePoseConfig  # noqa: F401 (a checkpoint may name it)
from .skeleton_jointdetr import HUMAN36M, SKELETONS, Skeleton

QUERY_GROUPS = 5  # of a hundred queries, each with room for Human3.6M's 17 joints


def validate_range(config: PreTrainedConfig, names: str, low: float, high: float = float("inf")) -> None:
    """Raise `ValueError` for the first of the space-separated fields that is outside `[low, high]`."""
    for name in names.split():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ValueError(f"`{name}` must be in [{low}, {high}], got {value}.")


class _SkeletonConfig(PreTrainedConfig):
    """What both configurations share: the skeleton, Human3.6M's 17 joints unless another one is given."""

    if TYPE_CHECKING:  # what there is once the configuration is made
        id2label: dict[int, str] = {}
        joint_parents: Sequence[int] = ()
        root_joint: int = 0
    else:
        joint_parents: list | tuple | None = None
        root_joint: int | None = None
    joint_scale: float | int = 1000.0

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            self.id2label = dict(enumerate(HUMAN36M.joints))
            self.joint_parents = HUMAN36M.parents if self.joint_parents is None else self.joint_parents
            self.root_joint = HUMAN36M.root if self.root_joint is None else self.root_joint
        if self.joint_parents is None:
            raise ValueError("`id2label` was given without `joint_parents`: expected the parent of every joint.")
        self.joint_parents = list(self.joint_parents)
        if self.root_joint is None:
            self.root_joint = self.joint_parents.index(-1) if -1 in self.joint_parents else 0
        super().__post_init__(**kwargs)
        self.label2id = {name: joint for joint, name in self.id2label.items()}

    @property
    def num_joints(self) -> int:
        """Number of joint types J of the skeleton."""
        return len(self.id2label)

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton as one object: one of `SKELETONS` if names and parents are the same, else named "custom"."""
        described = tuple(self.id2label[joint] for joint in range(self.num_joints)), tuple(self.joint_parents)
        same = [known for known in SKELETONS.values() if (known.joints, known.parents) == described]
        return same[0] if same else Skeleton("custom", *described, self._flip_pairs(), self.root_joint)

    def _flip_pairs(self) -> tuple:
        """The refinement network mirrors nothing."""
        return ()

    def validate_skeleton(self) -> None:
        """Raise `ValueError` unless the skeleton is one tree of uniquely named joints."""
        if sorted(self.id2label) != list(range(self.num_joints)):
            raise ValueError(f"`id2label` must have the keys 0 to {self.num_joints - 1}, got {sorted(self.id2label)}.")
        try:
            joints = tuple(self.id2label[joint] for joint in range(self.num_joints))
            Skeleton("custom", joints, tuple(self.joint_parents), self._flip_pairs(), self.root_joint)
        except ValueError as error:
            raise ValueError(
                f"`id2label`, `joint_parents`, `root_joint` and `flip_pairs` must be a skeleton: {error}"
            ) from error
        validate_range(self, "joint_scale", 1e-6)


@strict
class JointRefinerConfig(_SkeletonConfig):
    r"""Configuration of [`JointRefiner`].

    Args:
        id2label (`dict[int, str]`, *optional*): Joint names. Human3.6M's 17 joints by default.
        joint_parents (`list[int]`, *optional*): Parent of every joint, -1 for the root.
        root_joint (`int`, *optional*): The joint that positions are relative to; the one without a parent by default.
        joint_scale (`float`, *optional*, defaults to 1000.0): Millimetres per unit inside the network.
        hidden_size (`int`, *optional*, defaults to 512): Width of the residual blocks.
        num_blocks (`int`, *optional*, defaults to 2): Number of residual blocks.
        dropout (`float`, *optional*, defaults to 0.1): Dropout inside the blocks.
        selection_rate (`float`, *optional*, defaults to 0.2): Share of the joints selected in training.
        replacement_rate (`float`, *optional*, defaults to 0.8): Share of the selected joints that are replaced by
            their neighbours' midpoint; the others stay as they are.
        chain_rate (`float`, *optional*, defaults to 0.0): In training, probability of each joint to be replaced with
            all that hangs on it, as a forearm goes missing with its hand.
        bone_lengths (`list[float]`, *optional*): Typical length in millimetres of the bone that ends in each joint, 0
            for the root and where it is not known. A filled joint then keeps the proportions of the person's own
            bones; None leaves lengths to the network, which makes bones shorter the less it knows.
        refine_detected (`bool`, *optional*, defaults to `True`): Refine detected joints as well as the missing ones.
        use_sigmas (`bool`, *optional*, defaults to `False`): Tell the network how far off every joint is expected to
            be, and let it move the joint by multiples of that: what is sure to the centimetre stays where it is.
        unknown_sigma (`float`, *optional*, defaults to 100.0): With `use_sigmas`, the millimetres by which joints move
            whose expected error is not known: missing ones, and those of models without a confidence head.
        init_std (`float`, *optional*, defaults to 0.02): Standard deviation of the initial linear weights.

    Raises:
        StrictDataclassError: If the skeleton is no tree, names repeat, or a number is out of range; with the
            `ValueError` that says which and what was expected as its cause.
    """

    model_type = "jointdetr_refiner"

    hidden_size: int = 512
    num_blocks: int = 2
    dropout: float | int = 0.1
    selection_rate: float = 0.2
    replacement_rate: float = 0.8
    chain_rate: float = 0.0
    bone_lengths: list | tuple | None = None
    refine_detected: bool = True
    use_sigmas: bool = False
    unknown_sigma: float | int = 100.0
    init_std: float = 0.02

    def validate_ranges(self) -> None:
        """Raise `ValueError` for a size, rate or deviation out of range."""
        validate_range(self, "hidden_size num_blocks", 1)
        validate_range(self, "dropout selection_rate replacement_rate chain_rate", 0.0, 1.0)
        lengths = self.bone_lengths
        if lengths is not None and (len(lengths) != self.num_joints or not all(length >= 0 for length in lengths)):
            raise ValueError(f"`bone_lengths` must hold one length >= 0 a joint ({self.num_joints}), got {lengths}.")
        validate_range(self, "init_std", 0.0)
        validate_range(self, "unknown_sigma", 1.0)


@strict
class JointDetrConfig(_SkeletonConfig):
    r"""Configuration of [`JointDetrModel`] and [`JointDetrForPoseEstimation`].

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*): Any backbone that `AutoBackbone` knows. ResNet-50
            with its last three stages by default.
        refiner_config (`JointRefinerConfig` or `dict`, *optional*): The joint refinement network; none by default.
        freeze_batch_norm (`bool`, *optional*, defaults to `False`): Keep the backbone's batch normalisation as it is
            loaded, statistics and weights, as DETRs do with pretrained backbones. Switch it on to train adapters such
            as LoRA's: they are saved without the statistics that training would change.
        query_alignment (`str`, *optional*, defaults to `"set"`): `"set"` matches queries to joints (JointDETR),
            `"fixed"` makes query j joint j (the force-aligned baseline, without a class head).
        auxiliary_loss (`bool`, *optional*, defaults to `False`): Put the coarse-to-fine loss on every decoder layer,
            as the paper does for JointDETR; otherwise the last one alone has a loss, which learns 3D faster.
        id2label, joint_parents, root_joint, joint_scale: The skeleton, see [`JointRefinerConfig`].
        flip_pairs (`list[tuple[int, int]]`, *optional*): Left/right pairs. Human3.6M's, or none with a given skeleton.
        num_queries (`int`, *optional*, defaults to 100): Number N of joint queries; J with `"fixed"` alignment.
        query_groups (`int`, *optional*): Groups of `num_queries / query_groups` queries that do not see each other and
            are matched to the joints each for itself, so that a step teaches more (Group DETR, Chen et al., ICCV
            2023); poses are means over all of them. 5 by default where each has room for all joints, or else 1.
        num_feature_levels (`int`, *optional*, defaults to 4): Feature levels; those beyond the backbone's stages come
            from stride-2 convolutions, fewer take the last stages.
        d_model, encoder_*, decoder_* (`int`): Sizes of encoder and decoder: `layers`, `attention_heads`, `ffn_dim` and
            `n_points`, as in Deformable DETR.
        init_std (`float`, *optional*): Standard deviation of the initial weights of linear layers and projections; by
            default each layer's own after Glorot and Bengio ("Xavier"), so that signals neither fade nor grow.
        learned_start (`bool`, *optional*, defaults to `True`): Let every query start with a joint type, a 3D position
            and a place in the picture of its own, all learned. Off, it starts at the root, as no joint in particular.
        class_spread (`float`, *optional*, defaults to 0.2): Standard deviation of the class logits of untrained
            queries, alike in all decoder layers. Without `learned_start` it wants to be 1: queries then prefer some
            joint from the start by more than positions differ in the matching, are matched to it, and learn it.
        decoder_connection (`bool`, *optional*, defaults to `True`): Embed each layer's prediction into the query
            position of the next layer.
        detach_layers (`bool`, *optional*, defaults to `False`): Keep the gradient of a layer's loss from the
            predictions of the layers before it, as Deformable DETR does.
        matching_class_weight (`float`, *optional*, defaults to 10.0): Weight of the class in the matching. Large, a
            query stays with the joint that it is probably; small, it takes whatever is near, and joints trade queries.
        class_weight, joint_weight, joint_2d_weight (`float`): Weights of the class, 3D and 2D terms in the loss, the
            latter two in the matching as well. 3D counts in units of `joint_scale`, 2D in units of the input's side.
        projection_weight (`float`, *optional*, defaults to 0.0): Weight of the distance in x and y between joints that
            have 2D labels alone and those labels at the size of the prediction: 3D learned from pictures without it.
        no_joint_weight (`float`, *optional*, defaults to 0.1): Weight of the class "no joint" in the cross-entropy.
        coarse_thresholds (`list[float]`, *optional*): Millimetres within which a joint is right enough for each
            decoder layer. Linear from 100 to 0 by default.
        coarse_discounts (`list[float]`, *optional*): Weight of a joint already within the threshold, per decoder
            layer. 0.1 by default.
        predict_confidence (`bool`, *optional*, defaults to `False`): Add a head that says how far from the truth each
            joint is expected to be, and how probably it is visible. It reads the last decoder layer without gradient,
            and so changes no prediction.

    Raises:
        StrictDataclassError: If the skeleton is no tree, pairs overlap, sizes do not fit, or a number is out of
            range; with the `ValueError` that says which and what was expected as its cause.
    """

    model_type = "jointdetr"
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="resnet",
            init_kwargs={"out_features": ["stage2", "stage3", "stage4"]},
        ),
        "refiner_config": SubConfigSpec(config_class=JointRefinerConfig, optional=True),
    }
    attribute_map = {"hidden_size": "d_model", "num_attention_heads": "decoder_attention_heads"}
    keys_to_ignore_at_inference = [
        "loss_dict",
        "auxiliary_outputs",
        "last_hidden_state",
        "encoder_last_hidden_state",
        "matched_queries",
        "matching_cost",
    ]

    backbone_config: dict | PreTrainedConfig | None = None
    refiner_config: dict | PreTrainedConfig | None = None
    freeze_batch_norm: bool = False
    query_alignment: Literal["set", "fixed"] = "set"
    auxiliary_loss: bool = False
    if TYPE_CHECKING:
        flip_pairs: Sequence[Sequence[int]] = ()
        num_queries: int = 100
        query_groups: int = 5
    else:
        flip_pairs: list | tuple | None = None
        num_queries: int | None = None
        query_groups: int | None = None
    num_feature_levels: int = 4
    d_model: int = 256
    encoder_layers: int = 6
    encoder_attention_heads: int = 8
    encoder_ffn_dim: int = 1024
    encoder_n_points: int = 4
    decoder_layers: int = 6
    decoder_attention_heads: int = 8
    decoder_ffn_dim: int = 1024
    decoder_n_points: int = 4
    activation_function: str = "relu"
    dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    init_std: float | None = None
    learned_start: bool = True
    class_spread: float | int = 0.2
    decoder_connection: bool = True
    detach_layers: bool = False
    matching_class_weight: float | int = 10.0
    class_weight: float | int = 1.0
    joint_weight: float | int = 5.0
    joint_2d_weight: float | int = 5.0
    projection_weight: float | int = 0.0
    no_joint_weight: float | int = 0.1
    coarse_thresholds: list | tuple | None = None
    coarse_discounts: list | tuple | None = None
    predict_confidence: bool = False

    def __post_init__(self, **kwargs):
        if self.flip_pairs is None:
            self.flip_pairs = HUMAN36M.flip_pairs if self.id2label is None else []
        self.flip_pairs = [list(pair) for pair in self.flip_pairs]
        if not __name__.startswith("transformers_modules."):  # here the pipeline is registered, and its code trusted
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        if self.num_queries is None:
            self.num_queries = 100 if self.query_alignment == "set" else self.num_joints
        if self.query_groups is None:
            has_room = self.num_queries % QUERY_GROUPS == 0 and self.num_queries >= QUERY_GROUPS * self.num_joints
            self.query_groups = QUERY_GROUPS if has_room else 1

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs) -> "JointDetrConfig":
        """Read a saved configuration; what was saved before a field existed has it as it was then."""
        fields = dict(config_dict)
        early = fields.pop("intermediate_supervision", False)  # with fixed alignment; set alignment had it always
        before = {
            "learned_start": False,
            "query_groups": 1,
            "detach_layers": True,
            "matching_class_weight": fields.get("class_weight", 1.0),
            "auxiliary_loss": early or fields.get("query_alignment", "set") == "set",
        }
        return super().from_dict(before | fields, **kwargs)

    def _flip_pairs(self) -> tuple:
        return tuple(tuple(pair) for pair in self.flip_pairs)

    @property
    def layer_thresholds(self) -> list[float]:
        """Coarse-to-fine threshold of each decoder layer, in millimetres."""
        if self.coarse_thresholds is not None:
            return list(self.coarse_thresholds)
        last = self.decoder_layers - 1
        return [100.0 * (last - layer) / max(last, 1) for layer in range(self.decoder_layers)]

    @property
    def layer_discounts(self) -> list[float]:
        """Weight of a joint within its threshold, for each decoder layer."""
        return [0.1] * self.decoder_layers if self.coarse_discounts is None else list(self.coarse_discounts)

    def validate_sizes(self) -> None:
        """Raise `ValueError` for sizes that are out of range or do not fit each other."""
        validate_range(self, "d_model encoder_ffn_dim decoder_ffn_dim num_feature_levels", 1)
        validate_range(self, "encoder_layers", 0)
        validate_range(self, "decoder_layers encoder_n_points decoder_n_points", 1)
        validate_range(self, "dropout attention_dropout", 0.0, 1.0)
        validate_range(self, "class_spread" if self.init_std is None else "init_std class_spread", 0.0)
        if self.activation_function not in ACT2FN:
            raise ValueError(
                f"`activation_function` must be one of {sorted(ACT2FN)}, got {self.activation_function!r}."
            )
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            heads = getattr(self, name)
            if heads < 1 or self.d_model % heads:
                raise ValueError(f"`d_model` ({self.d_model}) must be a multiple of `{name}`, got {heads}.")
        if self.d_model % 4:
            raise ValueError(f"`d_model` must be a multiple of 4 for the position embedding, got {self.d_model}.")

    def validate_queries(self) -> None:
        """Raise `ValueError` if the queries cannot be assigned to the skeleton's joints."""
        if self.query_alignment == "fixed" and self.num_queries != self.num_joints:
            raise ValueError(
                f'`query_alignment="fixed"` needs one query per joint ({self.num_joints}), got {self.num_queries}.'
            )
        if self.query_groups < 1 or self.num_queries % self.query_groups:
            raise ValueError(
                f"`query_groups` must divide `num_queries` ({self.num_queries}), got {self.query_groups}."
            )
        needed = self.num_joints * self.query_groups
        if self.num_queries < needed:
            raise ValueError(
                f"`num_queries` must be at least {needed} (joints, in groups: {self.query_groups}), "
                f"got {self.num_queries}."
            )

    def validate_losses(self) -> None:
        """Raise `ValueError` for a negative weight or a coarse-to-fine list of the wrong length."""
        weights = "class_weight joint_weight joint_2d_weight projection_weight no_joint_weight"
        validate_range(self, f"matching_class_weight {weights}", 0.0)
        for name in ("coarse_thresholds", "coarse_discounts"):
            values = getattr(self, name)
            if values is not None and (len(values) != self.decoder_layers or not all(v >= 0 for v in values)):
                raise ValueError(
                    f"`{name}` must hold one value >= 0 per decoder layer ({self.decoder_layers}), got {list(values)}."
                )

    def validate_refiner(self) -> None:
        """Raise `ValueError` if the refinement network is for another skeleton."""
        refiner = cast(JointRefinerConfig | None, self.refiner_config)
        if refiner is not None and (refiner.id2label, refiner.joint_parents) != (self.id2label, self.joint_parents):
            raise ValueError(
                f"`refiner_config` must have the model's skeleton {list(self.id2label.values())}, "
                f"got {list(refiner.id2label.values())}."
            )


__all__ = ["JointDetrConfig", "JointRefinerConfig"]
