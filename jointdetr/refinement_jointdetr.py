"""Joint refinement network: a whole skeleton in, the same with its missing joints filled and the rest refined.

Shape vocabulary: batch, joints. Positions are root-relative millimetres in camera axes; sigmas are the distances from
the truth, in millimetres, that a pose model expects of its own joints.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_jointdetr import JointRefinerConfig

# Numbers a joint that the network reads: its own position, parent's and children's, and whether these two exist;
# besides with `use_sigmas`.
POSITION_INPUTS, SIGMA_INPUTS = 11, 2
SHORTEST_BONE, LONGEST_BONE = 0.85, 1.2  # shares of the expected length between which a filled bone may be
DOWN = (0.0, 1.0, 0.0)  # y is down in camera axes
PLAUSIBLE_SIZES = 0.2, 3.0  # smallest and largest person, as shares of the typical one, that wrong bones may suggest
# Share beyond those lengths that is left to bones which cannot have them without moving joints that were found.
SLACK = 0.1
PROPORTION_STEPS = 24  # passes over all bones; a chain of four settles within about twelve
SMALLEST_SIGMA = 1.0  # mm; the root's expected error is about 1, and no finer one helps


@dataclass
class JointRefinerOutput(ModelOutput):
    """Output of [`JointRefiner`]; the loss is the mean distance of the selected joints, of all with `use_sigmas`."""

    loss: torch.Tensor | None = None  # (1,) in units of joint_scale, where labels are given
    joints: torch.Tensor | None = None  # (batch, joints, 3) root-relative mm, the full skeleton


# What a joint's surroundings say about it: positions (batch, joints, 3), and where there are any (batch, joints).
Neighbours = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Bones:
    """Bones from `parents` to `ends`, and the shortest and longest that each may be in each skeleton."""

    ends: list[int]
    parents: list[int]
    shortest: torch.Tensor  # (batch, bones) mm
    longest: torch.Tensor  # (batch, bones) mm

    def correction(self, joints: torch.Tensor, bone: int, slack: float) -> torch.Tensor:
        """What brings the end of one bone within its lengths, shortened and widened by a share: (batch, 3)."""
        vectors = joints[:, self.ends[bone]] - joints[:, self.parents[bone]]
        lengths = torch.linalg.vector_norm(vectors, dim=-1).clamp(min=1.0)
        wanted = lengths.clamp(self.shortest[:, bone] * (1 - slack), self.longest[:, bone] * (1 + slack))
        return (wanted / lengths - 1.0)[:, None] * vectors

    def pulled(self, joints: torch.Tensor, movable: torch.Tensor) -> torch.Tensor:
        """Move movable joints (batch, joints) once towards where all bones have their length."""
        bones = joints[:, self.ends] - joints[:, self.parents]  # (batch, bones, 3)
        lengths = torch.linalg.vector_norm(bones, dim=-1)
        bones = torch.where((lengths < 1.0)[..., None], bones.new_tensor(DOWN), bones)  # some direction it must have
        lengths = lengths.clamp(min=1.0)
        wrong = lengths.clamp(self.shortest, self.longest) - lengths
        both = movable[:, self.ends] & movable[:, self.parents]
        # a bone between two movable joints moves its outer end: the inner one belongs to the body
        moves_end = movable[:, self.ends]
        moves_parent = movable[:, self.parents] & ~both
        pull = (wrong / lengths)[..., None] * bones
        moved, count = torch.zeros_like(joints), torch.zeros_like(joints[..., 0])
        for ends, moves, sign in ((self.ends, moves_end, 1.0), (self.parents, moves_parent, -1.0)):
            index = torch.tensor(ends, device=joints.device)
            active = moves & (wrong != 0)
            moved = moved.index_add(1, index, sign * pull * active[..., None])
            count = count.index_add(1, index, active.to(count))
        return joints + moved / count.clamp(min=1.0)[..., None]


class JointRefinerBlock(nn.Module):
    """Residual block of two linear layers, normalised before each."""

    def __init__(self, config: JointRefinerConfig):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(config.hidden_size),
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, hidden_size) to the same shape."""
        return hidden_states + self.layers(hidden_states)


class JointRefiner(PreTrainedModel):
    """Residual MLP over a whole skeleton that fills missing joints and refines the rest; skeletons alone can train it.

    Source: Zhang and Cui, "End-to-end 3D Human Pose Estimation with Transformer", ICPR 2022, with the masking of BERT.
    """

    config: JointRefinerConfig
    base_model_prefix = "refiner"
    main_input_name = "joints"
    input_modalities = []
    _supports_sdpa = True  # there is no attention in it; the network around it may have any

    @classmethod
    def is_custom_code(cls) -> bool:
        """Let `_init_weights` see every module: it writes through `transformers.initialization` alone."""
        return False

    def __init__(self, config: JointRefinerConfig):
        super().__init__(config)
        self.input_projection = nn.Linear(config.num_joints * POSITION_INPUTS, config.hidden_size)
        self.sigma_projection = None
        if config.use_sigmas:
            self.sigma_projection = nn.Linear(config.num_joints * SIGMA_INPUTS, config.hidden_size, bias=False)
        self.blocks = nn.ModuleList([JointRefinerBlock(config) for _ in range(config.num_blocks)])
        self.output_norm = nn.LayerNorm(config.hidden_size)
        self.output_projection = nn.Linear(config.hidden_size, config.num_joints * 3)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, JointRefiner):
            init.zeros_(module.output_projection.weight)  # the untrained network changes nothing

    def forward(
        self,
        joints: torch.Tensor,
        missing: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        sigmas: torch.Tensor | None = None,
    ) -> JointRefinerOutput:
        """Fill the missing joints of skeletons and refine the others.

        Args:
            joints (`torch.Tensor` of shape `(batch, joints, 3)`): Root-relative millimetres; anything, NaN included,
                where missing.
            missing (`torch.Tensor` of shape `(batch, joints)`, *optional*): True where a joint is missing. Training
                with `labels` draws its own instead, see [`JointRefiner.corrupt`].
            labels (`torch.Tensor` of shape `(batch, joints, 3)`, *optional*): True positions, root-relative
                millimetres; returns the loss over joints selected at random from them, or with `config.use_sigmas`
                over all, as then each of them may be wrong.
            sigmas (`torch.Tensor` of shape `(batch, joints)`, *optional*): Expected errors in millimetres, NaN where
                unknown. Read with `config.use_sigmas` alone.

        Returns:
            [`JointRefinerOutput`]. A skeleton whose joints are all missing comes back as NaN.

        Raises:
            ValueError: If the number of joints is not the config's.
        """
        if joints.shape[-2:] != (self.config.num_joints, 3):
            raise ValueError(f"`joints` must be (batch, {self.config.num_joints}, 3), got {tuple(joints.shape)}.")
        selected = None
        if labels is not None:
            selected, missing = self.corrupt(joints)
        if missing is None:
            missing = torch.zeros(joints.shape[:2], dtype=torch.bool, device=joints.device)
        completed = self.replace_missing(joints, missing)
        expected = self._expected_errors(completed, missing, sigmas) if self.config.use_sigmas else None
        refined = completed + self._correction(completed, expected)
        if not self.config.refine_detected:
            refined = torch.where(missing[..., None], refined, completed)
        if labels is None and self.config.bone_lengths is not None:
            refined = self.keep_proportions(refined, missing)
        loss = None
        if labels is not None and selected is not None:
            distances = torch.linalg.vector_norm(refined - labels, dim=-1) / self.config.joint_scale
            selected = selected | self.config.use_sigmas
            loss = (distances * selected).sum() / selected.sum().clamp(min=1)
        return JointRefinerOutput(loss=loss, joints=refined)

    def corrupt(self, joints: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the joints that training selects, and those of them that it replaces, both (batch, joints) boolean."""
        selected = torch.rand(joints.shape[:2], device=joints.device) < self.config.selection_rate
        replaced = selected & (torch.rand(joints.shape[:2], device=joints.device) < self.config.replacement_rate)
        if self.config.chain_rate:
            starts = torch.rand(joints.shape[:2], device=joints.device) < self.config.chain_rate
            starts[:, self.config.root_joint] = False
            hanging = (starts.float() @ self._hangs_on().to(joints.device).float()) > 0
            selected, replaced = selected | hanging, replaced | hanging
        return selected, replaced & ~replaced.all(dim=1, keepdim=True)  # something must be left to go by

    def replace_missing(self, joints: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
        """Put missing joints at the midpoint of their nearest known ancestor and descendants along the tree.

        Takes and returns (batch, joints, 3), anything where missing; all NaN where a whole skeleton is missing.
        """
        joints = torch.where(missing[..., None], torch.zeros_like(joints), joints)
        descendants, has_descendants = self._children(joints, ~missing)
        root = self.config.root_joint
        # the root comes first: every other joint has it as its last resort
        known = ~missing
        known[:, root] |= has_descendants[:, root]
        joints = joints.clone()
        joints[:, root] = torch.where(missing[:, root, None], descendants[:, root], joints[:, root])
        ancestors, has_ancestors = self._parent(joints, known)
        count = has_ancestors.int() + has_descendants.int()
        midpoint = (ancestors + descendants) / count.clamp(min=1)[..., None]
        replace = missing & (count > 0)
        replace[:, root] = False
        completed = torch.where(replace[..., None], midpoint, joints)
        return completed.masked_fill(missing.all(dim=1)[:, None, None], torch.nan)

    def keep_proportions(self, joints: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
        """Move missing joints until the bones they end are about as long as the person's other bones let expect.

        The person's size is the median ratio of found bones to `config.bone_lengths`. Bones that are found keep their
        length; where several bones meet in a missing joint, each pulls its share. Where found joints are too far from
        each other for the bones between them, what hangs on the outer one is moved along with it.
        """
        if not bool(missing.any()):
            return joints
        ends = [joint for joint, parent in enumerate(self.config.joint_parents) if parent >= 0]
        parents = [self.config.joint_parents[joint] for joint in ends]
        typical = torch.tensor([self.config.bone_lengths[joint] for joint in ends]).to(joints)  # (bones,)
        found = ~missing[:, ends] & ~missing[:, parents]
        lengths = torch.linalg.vector_norm(joints[:, ends] - joints[:, parents], dim=-1)
        ratios = (lengths / typical.clamp(min=1.0)).masked_fill(~found | (typical < 1.0), torch.nan)
        sizes = ratios.nanquantile(0.5, dim=1, keepdim=True).nan_to_num(nan=1.0).clamp(*PLAUSIBLE_SIZES)
        longest = (sizes * typical * LONGEST_BONE).masked_fill(typical < 1.0, torch.inf)  # not known
        bones = Bones(ends, parents, sizes * typical * SHORTEST_BONE, longest)
        for _ in range(PROPORTION_STEPS):
            joints = bones.pulled(joints, missing)
        hangs_on = self._hangs_on().to(joints)
        for joint in self._from_root()[1:]:
            bone = ends.index(joint)
            change = bones.correction(joints, bone, SLACK) * ~found[:, bone, None]  # (batch, 3)
            joints = joints + change[:, None] * hangs_on[joint, :, None]
        return joints

    def _hangs_on(self) -> torch.Tensor:
        """Which joints (columns) go missing with each joint (rows): itself and what hangs on it, (joints, joints)."""
        hangs = torch.eye(self.config.num_joints, dtype=torch.bool)
        for joint in reversed(self._from_root()):
            if self.config.joint_parents[joint] >= 0:
                hangs[self.config.joint_parents[joint]] |= hangs[joint]
        return hangs

    def _expected_errors(
        self, joints: torch.Tensor, missing: torch.Tensor, sigmas: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Expected error (batch, joints) mm of every joint, and of which it is known; not of missing ones."""
        if sigmas is None:
            sigmas = joints.new_full(missing.shape, torch.nan)
        known = sigmas.isfinite() & ~missing
        sigmas = sigmas.to(joints).clamp(min=SMALLEST_SIGMA)
        return sigmas.masked_fill(~known, self.config.unknown_sigma), known

    def _correction(self, joints: torch.Tensor, expected: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        """Predict what to add to every joint: (batch, joints, 3) millimetres."""
        parent, children = self._neighbour_weights().to(joints)  # (joints, joints) each
        positions = torch.cat([joints, parent @ joints, children @ joints], dim=-1) / self.config.joint_scale
        flags = torch.stack([parent.sum(1), children.sum(1)], dim=-1).expand(len(joints), -1, -1)  # 1 if there is any
        features = torch.cat([positions, flags], dim=-1)  # (batch, joints, POSITION_INPUTS)
        hidden_states = self.input_projection(features.flatten(1).to(self.dtype))
        step = self.config.joint_scale
        if expected is not None and self.sigma_projection is not None:
            sigmas, known = expected
            sigma_features = torch.stack([(sigmas / self.config.unknown_sigma).log(), known.to(sigmas)], dim=-1)
            hidden_states = hidden_states + self.sigma_projection(sigma_features.flatten(1).to(self.dtype))
            step = sigmas[..., None]
        for block in self.blocks:
            hidden_states = block(hidden_states)
        correction = self.output_projection(self.output_norm(hidden_states))
        return correction.unflatten(-1, (-1, 3)).to(joints.dtype) * step

    def _neighbour_weights(self) -> torch.Tensor:
        """Matrices (2, joints, joints) that take every joint's parent, and the mean of its children."""
        parents = torch.tensor(self.config.joint_parents)
        of_parent = (parents[:, None] == torch.arange(len(parents))).float()
        of_children = of_parent.T / of_parent.sum(0)[:, None].clamp(min=1)
        return torch.stack([of_parent, of_children])

    def _parent(self, joints: torch.Tensor, known: torch.Tensor) -> Neighbours:
        """Nearest known ancestor of every joint."""
        positions, exists = torch.zeros_like(joints), torch.zeros_like(known)
        for joint in self._from_root()[1:]:
            parent = self.config.joint_parents[joint]
            is_known = known[:, parent]
            ancestor = positions[:, parent].clone()
            positions[:, joint] = torch.where(is_known[:, None], joints[:, parent], ancestor)
            exists[:, joint] = is_known | exists[:, parent]
        return positions, exists

    def _children(self, joints: torch.Tensor, known: torch.Tensor) -> Neighbours:
        """Mean of every joint's children; a missing child is stood for by its own known descendants."""
        positions, count = torch.zeros_like(joints), torch.zeros_like(joints[..., 0])
        for joint in reversed(self._from_root()):
            mean = positions[:, joint] / count[:, joint, None].clamp(min=1)
            positions[:, joint] = mean
            parent = self.config.joint_parents[joint]
            if parent >= 0:
                stands = known[:, joint] | (count[:, joint] > 0)
                position = torch.where(known[:, joint, None], joints[:, joint], mean)
                positions[:, parent] = positions[:, parent] + position * stands[:, None]
                count[:, parent] += stands
        return positions, count > 0

    def _from_root(self) -> list[int]:
        """Joints in an order in which every parent comes before its children."""
        order = [self.config.root_joint]
        for joint in order:  # grows while it is walked
            order += [child for child, parent in enumerate(self.config.joint_parents) if parent == joint]
        return order


__all__ = ["JointRefiner", "JointRefinerOutput"]
