import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from jointdetr.configuration_jointdetr import JointRefinerConfig
from jointdetr.refinement_jointdetr import JointRefiner

# hip with two legs: 0 hip; 1 knee, 2 ankle; 3 knee, 4 ankle
LEGS = {"id2label": dict(enumerate("abcde")), "joint_parents": [-1, 0, 1, 0, 3]}
LINE = torch.tensor([0.0, 10.0, 30.0, -10.0, -40.0])  # positions along one axis


def legs(**fields) -> JointRefiner:
    return JointRefiner(JointRefinerConfig(**LEGS, hidden_size=32, num_blocks=1, **fields)).eval()


def skeleton() -> torch.Tensor:
    return LINE[None, :, None].repeat(1, 1, 3).clone()


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([1], [0, 15, 30, -10, -40]),  # the midpoint of parent and child
        ([2], [0, 10, 10, -10, -40]),  # a leaf: its parent
        ([0], [0, 10, 30, -10, -40]),  # the root: its children's mean
        ([1, 2], [0, 0, 0, -10, -40]),  # no child is known: the parent; a missing parent is skipped
        ([0, 1], [10, 10, 30, -10, -40]),  # the root from the ankle of one leg and the knee of the other
        ([0, 1, 2, 3], [-40, -40, -40, -40, -40]),  # one ankle is all that is known
    ],
)
def test_missing_joints_go_to_their_nearest_known_neighbours(missing, expected):
    mask = torch.zeros(1, 5, dtype=torch.bool)
    mask[0, missing] = True
    joints = skeleton().masked_fill(mask[..., None], torch.nan)
    refiner = legs()
    if missing == [0, 1]:
        expected[1] = (10 + 30) / 2  # the knee between the root, just found at 10, and its ankle
    assert refiner.replace_missing(joints, mask)[0, :, 0].tolist() == pytest.approx(expected)


def test_several_pictures_at_once_are_as_one_by_one():
    refiner = legs()
    joints, missing = torch.randn(6, 5, 3) * 100, torch.rand(6, 5) < 0.4
    one_by_one = torch.cat([refiner(joints[i : i + 1], missing[i : i + 1]).joints for i in range(6)])
    assert torch.allclose(refiner(joints, missing).joints, one_by_one, atol=1e-4, equal_nan=True)


def test_a_skeleton_with_nothing_known_stays_unknown():
    missing = torch.ones(1, 5, dtype=torch.bool)
    assert legs()(torch.full((1, 5, 3), torch.nan), missing).joints.isnan().all()


def test_the_untrained_network_changes_nothing():
    assert torch.equal(legs()(skeleton()).joints, skeleton())


def test_input_features_by_hand():
    refiner = legs(joint_scale=10.0)
    seen = []
    refiner.input_projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    refiner(skeleton())
    features = seen[0].unflatten(1, (5, 11))[0]
    # own position, parent's, children's mean (each x = y = z), then whether parent and children exist
    assert features[:, [0, 3, 6, 9, 10]].tolist() == [
        [0, 0, 0, 0, 1],
        [1, 0, 3, 1, 1],
        [3, 1, 0, 1, 0],
        [-1, 0, -4, 1, 1],
        [-4, -1, 0, 1, 0],
    ]


def test_sigma_features_by_hand():
    refiner = legs(use_sigmas=True, unknown_sigma=50.0)
    seen = []
    refiner.sigma_projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    missing = torch.tensor([[False, True, False, False, False]])
    refiner(skeleton(), missing, sigmas=torch.tensor([[0.2, 30.0, 100.0, torch.nan, 50.0]]))
    features = seen[0].unflatten(1, (5, 2))[0]
    # log of sigma / 50 mm, with 1 mm as the least, and whether it is known: not of what is missing
    assert features[:, 0].tolist() == pytest.approx([math.log(1 / 50), 0.0, math.log(2), 0.0, 0.0])
    assert features[:, 1].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_filled_joints_keep_the_proportions_of_the_person():
    refiner = legs(bone_lengths=[0.0, 100.0, 200.0, 100.0, 200.0])
    # one leg of a person half as large again is found, 150 and 300 mm long; the other is all but on the hip
    joints = torch.tensor([[0.0, 0, 0], [0, 150, 0], [0, 450, 0], [3, 4, 0], [3, 9, 0]])[None]
    missing = torch.tensor([[False, False, False, True, True]])
    filled = refiner.keep_proportions(joints, missing)[0]
    assert torch.equal(filled[:3], joints[0, :3])
    torch.testing.assert_close(filled[3], torch.tensor([0.6, 0.8, 0.0]) * 150 * 0.85, atol=0.5, rtol=0)
    assert (filled[4] - filled[3]).norm() == pytest.approx(300 * 0.85, abs=1.0)


def test_a_filled_joint_between_found_ones_has_two_bones_of_the_right_length():
    refiner = legs(bone_lengths=[0.0, 100.0, 100.0, 100.0, 100.0])
    joints = torch.tensor([[0.0, 0, 0], [20, 30, 0], [0, 150, 0], [0, -100, 0], [0, -200, 0]])[None]
    filled = refiner.keep_proportions(joints, torch.tensor([[False, True, False, False, False]]))[0]
    for length in ((filled[1] - filled[0]).norm(), (filled[2] - filled[1]).norm()):
        assert 84 < length < 121
    nothing_missing = torch.zeros(1, 5, dtype=torch.bool)
    assert torch.equal(refiner.keep_proportions(joints, nothing_missing), joints)


def test_found_joints_too_far_apart_for_the_bones_between_them_come_nearer_with_all_that_hangs_on_them():
    refiner = legs(bone_lengths=[0.0, 100.0, 100.0, 100.0, 100.0])
    joints = torch.tensor([[0.0, 0, 0], [0, 300, 0], [0, 600, 0], [0, -100, 0], [0, -200, 0]])[None]
    filled = refiner.keep_proportions(joints, torch.tensor([[False, True, False, False, False]]))[0]
    for length in ((filled[1] - filled[0]).norm(), (filled[2] - filled[1]).norm()):
        assert 120 < length < 133
    assert torch.equal(filled[3:], joints[0, 3:])


def test_bones_of_unknown_length_are_left_as_they_are():
    refiner = legs(bone_lengths=[0.0, 100.0, 0.0, 100.0, 0.0])
    joints = torch.tensor([[0.0, 0, 0], [0, 100, 0], [0, 700, 0], [0, -100, 0], [0, -200, 0]])[None]
    filled = refiner.keep_proportions(joints, torch.tensor([[False, False, True, False, False]]))
    torch.testing.assert_close(filled, joints)


def test_a_guess_on_its_own_parent_gets_a_direction_and_every_bone_a_length():
    refiner = legs(bone_lengths=[0.0, 100.0, 100.0, 100.0, 100.0])
    joints = torch.zeros(3, 5, 3)
    joints[1:] = torch.randn(2, 5, 3) * 300
    missing = torch.tensor([[False, True, True, True, True]]).expand(3, -1)
    filled = refiner.keep_proportions(joints, missing)
    lengths = (filled[:, 1:] - filled[:, [0, 1, 0, 3]]).norm(dim=-1)
    assert lengths.min() > 84 and lengths.max() < 121


def test_whole_chains_go_missing_in_training():
    refiner = legs(selection_rate=0.0, chain_rate=0.3)
    torch.manual_seed(0)
    selected, replaced = refiner.corrupt(torch.randn(4000, 5, 3))
    assert torch.equal(selected, replaced) and not replaced[:, 0].any()
    assert not (replaced[:, 1] & ~replaced[:, 2]).any()  # no ankle stays without its knee
    rates = replaced.float().mean(0)
    assert rates[1].item() == pytest.approx(0.3, abs=0.03) and rates[2].item() == pytest.approx(1 - 0.7**2, abs=0.03)


def test_bone_lengths_are_one_a_joint():
    with pytest.raises(StrictDataclassError) as error:
        legs(bone_lengths=[1.0])
    assert "`bone_lengths` must hold one length >= 0 a joint (5), got [1.0]" in str(error.value.__cause__)


def test_joints_move_by_multiples_of_their_expected_errors():
    refiner = legs(use_sigmas=True, unknown_sigma=70.0)
    torch.nn.init.ones_(refiner.output_projection.bias)
    moved = refiner(skeleton(), sigmas=torch.tensor([[2.0, 40.0, 100.0, torch.nan, 0.0]])).joints - skeleton()
    assert moved[0, :, 0].tolist() == pytest.approx([2.0, 40.0, 100.0, 70.0, 1.0], rel=1e-4)
    assert (refiner(skeleton()).joints - skeleton()).allclose(torch.tensor(70.0), rtol=1e-4)


def test_expected_errors_change_nothing_for_a_network_that_does_not_read_them():
    refiner = legs()
    torch.nn.init.normal_(refiner.output_projection.weight)
    sigmas = torch.full((1, 5), 80.0)
    assert torch.equal(refiner(skeleton(), sigmas=sigmas).joints, refiner(skeleton()).joints)
    assert not any("sigma" in name for name in refiner.state_dict())


def test_a_configuration_saved_before_there_were_sigmas_loads_as_it_was():
    fields = JointRefinerConfig(**LEGS).to_dict()
    del fields["use_sigmas"], fields["unknown_sigma"]
    assert not JointRefinerConfig.from_dict(fields).use_sigmas


def test_with_sigmas_all_joints_give_gradient():
    refiner = legs(use_sigmas=True).train()
    refiner(skeleton(), labels=skeleton() + 5.0, sigmas=torch.full((1, 5), 20.0)).loss.backward()
    assert (refiner.output_projection.bias.grad.view(5, 3).abs().sum(-1) > 0).all()


def test_it_learns_whom_to_believe(tmp_path):
    refiner = legs(dropout=0.0, use_sigmas=True, selection_rate=0.0).train()
    optimizer = torch.optim.Adam(refiner.parameters(), lr=3e-3)
    base = torch.tensor([[0.0, 0, 0], [0, 400, 50], [0, 800, 0], [100, 400, 50], [100, 800, 0]])

    def draw(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rigid bodies somewhere, seen with errors of the announced size."""
        truth = base + torch.randn(batch, 1, 3) * 50
        sigmas = torch.where(torch.rand(batch, 5) < 0.5, 2.0, 60.0)
        return truth, sigmas, truth + torch.randn(batch, 5, 3) * sigmas[..., None]

    for _ in range(200):
        truth, sigmas, seen = draw(64)
        loss = refiner(seen, labels=truth, sigmas=sigmas).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    refiner.eval().save_pretrained(tmp_path)
    refiner = JointRefiner.from_pretrained(tmp_path)
    truth, sigmas, seen = draw(500)
    before, after = ((joints - truth).norm(dim=-1) for joints in (seen, refiner(seen, sigmas=sigmas).joints))
    unsure = sigmas > 10
    assert after[unsure].mean() < 0.6 * before[unsure].mean()
    assert after[~unsure].mean() < before[~unsure].mean() + 1.0


def test_only_selected_joints_give_gradient():
    refiner = legs().train()
    selected = torch.tensor([[False, True, False, False, False]])
    refiner.corrupt = lambda joints: (selected, selected)
    refiner(skeleton(), labels=skeleton()).loss.backward()
    per_joint = refiner.output_projection.bias.grad.view(5, 3).abs().sum(-1)
    assert (per_joint > 0).tolist() == selected[0].tolist()


def test_selection_follows_the_rates():
    selected, replaced = legs().corrupt(torch.zeros(4000, 5, 3))
    assert selected.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert replaced.sum().item() / selected.sum().item() == pytest.approx(0.8, abs=0.02)
    assert not (replaced & ~selected).any()


def test_detected_joints_can_be_kept():
    refiner = legs(refine_detected=False)
    torch.nn.init.normal_(refiner.output_projection.bias)
    missing = torch.tensor([[False, True, False, False, False]])
    moved = (refiner(skeleton(), missing).joints - skeleton()).abs().sum(-1)[0] > 0
    assert moved.tolist() == missing[0].tolist()


def test_it_learns_to_fill_a_rigid_skeleton(tmp_path):
    refiner = legs(dropout=0.0).train()
    optimizer = torch.optim.Adam(refiner.parameters(), lr=3e-3)
    base = torch.tensor([[0.0, 0, 0], [0, 400, 50], [0, 800, 0], [100, 400, 50], [100, 800, 0]])
    for _ in range(400):
        poses = base + torch.randn(64, 1, 3) * 50
        loss = refiner(poses, labels=poses).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    refiner.eval().save_pretrained(tmp_path)
    refiner = JointRefiner.from_pretrained(tmp_path)
    missing = torch.tensor([[False, True, False, False, False]])
    filled = refiner(base[None], missing).joints[0, 1]
    midpoint = (base[0] + base[2]) / 2
    assert (filled - base[1]).norm() < 0.5 * (midpoint - base[1]).norm()


def test_another_skeleton_is_refused():
    with pytest.raises(ValueError, match=r"`joints` must be \(batch, 5, 3\), got \(2, 17, 3\)"):
        legs()(torch.zeros(2, 17, 3))
