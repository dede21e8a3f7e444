"""docs/space.md keeps its promises: its Python and its curl are run against a server."""

import re
import shutil
import subprocess

import pytest
from documents import REPOSITORY, run_document

PAGE = REPOSITORY / "docs" / "space.md"
DOCUMENTED_ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture
def text(space_url: str) -> str:
    """The page with the address of the server that runs."""
    return PAGE.read_text(encoding="utf-8").replace(DOCUMENTED_ADDRESS, space_url.rstrip("/"))


def test_python_prints_what_is_promised(text, tmp_path, monkeypatch):
    pytest.importorskip("gradio_client")
    page = tmp_path / "space.md"
    page.write_text(text, encoding="utf-8")
    run_document(page, tmp_path, monkeypatch)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl_gets_the_same_answer(text):
    [script] = [
        block for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "curl" in block
    ]
    result = subprocess.run(["bash", "-eu", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("event: complete")
    assert '"right_hip"' in result.stdout


def test_every_setting_is_described():
    from dataclasses import fields

    from jointdetr.demo import DemoSettings

    text = PAGE.read_text(encoding="utf-8")
    for field in fields(DemoSettings):
        row = re.search(rf"\| `JOINTDETR_{field.name.upper()}` \| ([^|]+) \|", text)
        assert row, field.name
        assert field.type is str or float(row[1]) == field.default, field.name
