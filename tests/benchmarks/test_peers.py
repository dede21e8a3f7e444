"""The peers of the comparison: units, gradients, soft-argmax, and training by the same recipe."""

import json

import pytest
import torch
import yaml

from benchmarks.accuracy.models import CUBE_MM, DEPTH_BINS, soft_argmax
from benchmarks.accuracy.peers import CONTESTANTS, PEERS, build_peer, main
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import build_model, resolve_skeleton, train

each_peer = pytest.mark.parametrize("name", sorted(PEERS))


@pytest.fixture
def recipe(recipe_values) -> Recipe:
    return build(Recipe, recipe_values)


def make_labels(pictures: int) -> list[dict]:
    joints = torch.randn(pictures, 17, 3) * 300
    joints -= joints[:, :1].clone()
    return [{"joints_3d": joints[i], "joints_2d": torch.rand(17, 2)} for i in range(pictures)]


def test_soft_argmax_of_one_cell_is_its_centre():
    volume = torch.full((1, 2, 4, 5, 8), -1e4)  # (batch, joints, depth, height, width)
    volume[0, 0, 1, 4, 2] = 1e4
    volume[0, 1, 3, 0, 7] = 1e4
    expected = torch.tensor([[2.5 / 8, 4.5 / 5, 1.5 / 4], [7.5 / 8, 0.5 / 5, 3.5 / 4]])
    torch.testing.assert_close(soft_argmax(volume, axes=3)[0], expected)
    torch.testing.assert_close(soft_argmax(volume[0, 0, 1], axes=2), expected[0, :2])


def test_soft_argmax_weighs_cells_by_their_probability():
    heat = torch.full((1, 4), -torch.inf)
    heat[0, 0], heat[0, 3] = 0.0, torch.tensor(3.0).log()  # probabilities 1/4 and 3/4
    torch.testing.assert_close(soft_argmax(heat, axes=2), torch.tensor([0.25 * 0.125 + 0.75 * 0.875, 0.5]))


@each_peer
def test_untrained_peers_say_root_and_middle_in_the_baselines_format(name, recipe):
    peer = build_peer(name, recipe).eval()
    with torch.no_grad():
        outputs = peer(torch.randn(3, 3, 64, 64))
    assert outputs.pred_joints.shape == (3, 17, 3) and outputs.pred_points.shape == (3, 17, 2)
    assert outputs.pred_joints.dtype == outputs.pred_points.dtype == torch.float32
    assert outputs.pred_joints.abs().max() < 20.0  # mm
    torch.testing.assert_close(outputs.pred_points, torch.full((3, 17, 2), 0.5), atol=0.02, rtol=0.0)
    assert outputs.logits is None and outputs.loss is None and peer.refiner is None


@each_peer
def test_a_peer_starts_with_the_backbone_of_the_recipes_model(name, recipe):
    peer = build_peer(name, recipe)
    torch.manual_seed(recipe.seed)
    reference = build_model(recipe, resolve_skeleton(recipe)).model.backbone.state_dict()
    assert all(torch.equal(tensor, reference[key]) for key, tensor in peer.backbone.state_dict().items())
    again = build_peer(name, recipe).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in peer.state_dict().items())


@each_peer
def test_a_peer_learns_a_few_pictures_and_so_does_its_backbone(name, recipe):
    peer = build_peer(name, recipe).train()
    before = {key: value.clone() for key, value in peer.named_parameters()}
    pixels, labels = torch.randn(4, 3, 64, 64), make_labels(4)
    optimizer = torch.optim.Adam(peer.parameters(), lr=2e-3)
    errors = []
    for _ in range(60):
        outputs = peer(pixels, labels=labels)
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
        truth = torch.stack([label["joints_3d"] for label in labels])
        errors.append((outputs.pred_joints - truth).norm(dim=-1).mean().item())
    assert errors[-1] < 0.7 * errors[0], (errors[0], errors[-1])
    unmoved = [key for key, value in peer.named_parameters() if torch.equal(value, before[key])]
    assert unmoved == []


@each_peer
def test_labels_in_2d_alone_train_the_places(name, recipe):
    peer = build_peer(name, recipe).train()
    labels = [{"joints_2d": torch.rand(17, 2)} for _ in range(2)]
    outputs = peer(torch.randn(2, 3, 64, 64), labels=labels)
    outputs.loss.backward()
    assert outputs.loss_dict["loss_joint_2d"] > 0.05
    joint_term = outputs.loss_dict["loss_likelihood" if name == "rle" else "loss_joint"]
    assert joint_term.item() == 0.0
    gradients = [parameter.grad for parameter in peer.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients) and any(g.any() for g in gradients)


def test_a_volume_gives_millimetres_from_the_root(recipe):
    """The head at one corner of the cube and all others at the opposite one: its diagonal, less half a cell each."""
    peer = build_peer("volumetric", recipe).eval()
    heat = torch.full((1, 17, 1 + DEPTH_BINS, 8, 8), -1e4)
    heat[:, :, 1, 0, 0] = 1e4
    heat[:, 10, 1, 0, 0] = -1e4
    heat[:, 10, DEPTH_BINS, 7, 7] = 1e4
    peer.heat = torch.nn.Identity()
    peer.upsampling = torch.nn.Identity()
    joints = peer.predict(heat.flatten(1, 2)).joints[0, 0] * peer.config.joint_scale
    between = torch.tensor([7 / 8, 7 / 8, 1 - 1 / DEPTH_BINS]) * CUBE_MM
    torch.testing.assert_close(joints[10], between)
    assert joints[[0, 5]].abs().max() < 1e-3


@each_peer
def test_a_recipe_trains_evaluates_and_saves_a_peer(name, recipe):
    result = train(recipe, model=build_peer(name, recipe))
    assert result.metrics["eval_mpjpe"] > 0.0 and result.metrics["eval_recall"] == 1.0
    loaded = PEERS[name].from_pretrained(result.folder).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = result.model.eval()(pixels).pred_joints
        torch.testing.assert_close(loaded(pixels).pred_joints, expected)


def test_unknown_peers_are_named(recipe):
    with pytest.raises(ValueError, match="got 'heatmap'"):
        build_peer("heatmap", recipe)


def test_the_command_takes_finished_runs_over_and_puts_peers_beside_jointdetr(recipe_values, tmp_path, capsys):
    recipe_values["schedule"] = {"max_steps": 1, "warmup_steps": 1}
    recipe_values["model"]["config"]["decoder_layers"] = 3
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_values))
    output = tmp_path / "runs"
    started = train(build(Recipe, {**recipe_values, "evaluation": {}, "output": str(tmp_path / "start")})).folder
    arguments = ["--start-from", str(started)]
    for name, seed, error in (("jointdetr", 0, 80.0), ("jointdetr", 1, 90.0), ("volumetric", 0, 70.0)):
        folder = output / f"{name}-{seed}"
        folder.mkdir(parents=True)
        metrics = dict.fromkeys(("mpjpe", "pa_mpjpe", "mpjpe_visible", "mpjpe_occluded", "recall"), error)
        result = {"name": name, "seed": seed, "parameters": 1_200_000, "seconds": 1.0, "metrics": metrics}
        (folder / "result.json").write_text(json.dumps(result))
    arguments += ["--config", str(tmp_path / "recipe.yaml"), "--output", str(output), "--seeds", "1"]
    main([*arguments, "schedule.max_steps=2", "--only", "l1", "--only", "jointdetr"])
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((output / "peers.json").read_text())
    assert {name: len(runs) for name, runs in results.items()} == {
        "baseline": 0,
        "jointdetr": 2,
        "l1": 1,
        "rle": 0,
        "volumetric": 1,
    }
    means = {variant.name: [line for line in lines if f"| {variant.meaning} |" in line] for variant in CONTESTANTS}
    assert "85.0 ± 7.1" in means["jointdetr"][0] and "70.0" in means["volumetric"][0] and means["rle"] == []
    assert yaml.safe_load((output / "l1-0" / "recipe.yaml").read_text())["schedule"]["max_steps"] == 2
    assert (output / "peers.png").stat().st_size > 1000 and (output / "peers.md").read_text().count("\n") >= 4
    with pytest.raises(ValueError, match="got \\['heatmap'\\]"):
        main([*arguments, "--only", "heatmap"])
