"""Model cards: what the Hub reads of them, what people read, and what is refused."""

import json

import pytest
from huggingface_hub import ModelCard

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.hub import ModelCardDetails, ReportedEvaluation, write_model_card

PROTOCOL_RESULT = {
    "protocol": "h36m-p1",
    "metrics": {"mpjpe": 61.04, "pck_150": 0.95, "mpjpe_absolute": 150.0, "mrpe": 140.0, "placed": 1.0},
    "group_means": {"mpjpe": 62.0, "pck_150": None},
    "fine_print": {"complete": "yes", "frame step": "every 5th frame"},
}


@pytest.fixture
def write(model_folder, tmp_path):
    model = JointDetrForPoseEstimation.from_pretrained(model_folder)
    processor = JointDetrImageProcessor.from_pretrained(model_folder)

    def write(details: ModelCardDetails) -> ModelCard:
        write_model_card(tmp_path, model, processor, "me/poses", details)
        return ModelCard.load(tmp_path / "README.md")

    return write


@pytest.fixture
def protocol_file(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps(PROTOCOL_RESULT))
    return path


def test_a_protocols_numbers_stand_with_both_means_and_their_fine_print(write, protocol_file):
    evaluation = ReportedEvaluation.read(protocol_file, "Human3.6M")
    card = write(ModelCardDetails(license="cc-by-nc-4.0", evaluations=[evaluation]))
    values = {result.metric_name: (result.metric_type, result.metric_value) for result in card.data.eval_results}
    assert values == {
        "MPJPE (mm), mean over frames": ("mpjpe", 61.04),
        "PCK@150 mm (%), mean over frames": ("pck_150", 95.0),
        "MPJPE (mm), mean over groups": ("mpjpe", 62.0),
        "MPJPE in camera space (mm), mean over frames": ("mpjpe_absolute", 150.0),
        "MRPE (mm), mean over frames": ("mrpe", 140.0),
    }
    assert {result.dataset_name for result in card.data.eval_results} == {"Human3.6M"}
    for line in ("| MPJPE (mm), mean over frames | 61.0 |", "- protocol: h36m-p1", "- frame step: every 5th frame"):
        assert line in card.text


def test_a_card_says_what_the_model_is_and_what_is_not_known(write):
    card = write(ModelCardDetails(license="mit"))
    assert "17 joints of one person, in millimetres from the pelvis" in card.text
    assert "| Input | crop of one person, 128 x 128 pixels |" in card.text
    assert "Not stated by the authors of these weights." in card.text
    assert "None were published with these weights." in card.text
    assert not card.data.eval_results
    assert "{{" not in card.text and "{%" not in card.text


def test_the_example_of_a_card_is_python(write):
    card = write(ModelCardDetails(license="mit", revision="v1.0"))
    example = card.text.split("```python\n")[1].split("```")[0]
    compile(example, "card", "exec")
    assert len(example.splitlines()) <= 10
    assert 'revision="v1.0"' in example


def test_a_page_that_is_there_keeps_its_text_and_its_metadata(write, protocol_file, tmp_path):
    page = tmp_path / "own.md"
    page.write_text("---\nlicense: mit\npipeline_tag: other\nlanguage: en\n---\n# My model\n")
    card = write(ModelCardDetails(page=page, evaluations=[ReportedEvaluation.read(protocol_file, "Mine")]))
    assert card.text.strip() == "# My model"
    assert (card.data.pipeline_tag, card.data.library_name, card.data.license) == ("other", "transformers", "mit")
    assert card.data.language == "en"
    assert len(card.data.eval_results) == 5
    page.write_text("# Bare\n")
    assert write(ModelCardDetails(page=page, license="mit")).data.pipeline_tag == "keypoint-detection"
    with pytest.raises(ValueError, match="own.md must say `license`"):
        write(ModelCardDetails(page=page))


def test_details_that_would_go_nowhere_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`license`"):
        ModelCardDetails(training_data="Much.")
    with pytest.raises(ValueError, match="must stand in .*own.md itself"):
        ModelCardDetails(page=tmp_path / "own.md", training_data="Much.")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "no JSON",
        "{}",
        '{"metrics": 1, "group_means": {}, "protocol": "plain", "fine_print": {}}',
        '{"metrics": {}, "group_means": {}, "protocol": "plain", "fine_print": {}}',
    ],
)
def test_files_that_are_no_evaluation_are_refused(content, tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="numbers.json must"):
        ReportedEvaluation.read(path, "Mine")
