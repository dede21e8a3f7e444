"""The Space's endpoint as programs use it: its schema, its answers, what it refuses, and what it leaves behind."""

import base64
import json
import time
from ast import literal_eval
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("gradio", exc_type=ImportError)
import httpx
from gradio_client import Client, handle_file

FILE = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def client(space_url: str) -> Client:
    return Client(space_url, verbose=False)


@pytest.fixture(scope="module")
def call(space_url: str):
    """Call the endpoint as curl does and return its answer, or the message of its error."""

    def call_endpoint(*data: Any, name: str = "estimate") -> Any:
        joined = httpx.post(f"{space_url}gradio_api/call/{name}", json={"data": list(data)}, timeout=60)
        assert joined.status_code == 200, joined.text
        events = httpx.get(f"{space_url}gradio_api/call/{name}/{joined.json()['event_id']}", timeout=60).text
        event, content = events.strip().split("\n")[-2:]
        answer = json.loads(content.removeprefix("data: "))
        return answer[0] if event == "event: complete" else answer["error"]

    return call_endpoint


@pytest.fixture(scope="module")
def upload(space_url: str):
    """Upload a file and return what stands for it in a call."""

    def upload_file(content: bytes, name: str = "picture.png") -> dict[str, Any]:
        answer = httpx.post(f"{space_url}gradio_api/upload", files={"files": (name, content)}, timeout=60)
        assert answer.status_code == 200, answer.text
        return {"path": answer.json()[0], "meta": FILE}

    return upload_file


def png(width: int, height: int) -> bytes:
    stream = BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


class TestSchema:
    def test_one_public_endpoint(self, client):
        endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        assert list(endpoints) == ["/estimate"]
        parameters = {entry["parameter_name"]: entry for entry in endpoints["/estimate"]["parameters"]}
        assert list(parameters) == ["picture", "threshold", "focal_px", "boxes", "people"]
        assert [name for name, entry in parameters.items() if not entry["parameter_has_default"]] == ["picture"]
        assert parameters["threshold"]["parameter_default"] == 0.5
        assert parameters["picture"]["python_type"]["type"] == "filepath"


class TestAnswer:
    def test_from_python(self, client, example_picture):
        answer = client.predict(handle_file(str(example_picture)), api_name="/estimate")
        assert answer["skeleton"]["joints"][:2] == ["pelvis", "right_hip"]
        with Image.open(example_picture) as image:
            assert answer["picture_size"] == list(image.size)
        [person] = answer["people"]
        assert len(person["joints"]) == len(person["joints_2d"]) == 17
        assert sum(person["detected"]) >= 15
        assert person["joints"][10][1] < -300, "the head is above the pelvis, and y points down"
        assert person["intrinsics_guessed"] and person["joints_camera"][0][2] > 500
        assert len(person["sigmas"]) == 17

    def test_same_joints_as_the_pipeline(self, client, example_picture, shipped_checkpoint):
        from transformers import pipeline

        import jointdetr  # noqa: F401  makes the task known

        expected = pipeline("pose-estimation-3d", model=str(shipped_checkpoint))(str(example_picture))[0]
        answer = client.predict(handle_file(str(example_picture)), api_name="/estimate")
        for got, wanted in zip(answer["people"][0]["joints"], expected["joints"], strict=True):
            assert got == pytest.approx(wanted, abs=0.1)

    def test_threshold_focal_length_and_boxes(self, client, example_picture):
        boxes = "40 30 200 350; 0 0 150 300"
        answer = client.predict(
            handle_file(str(example_picture)), threshold=1.0, focal_px=900, boxes=boxes, api_name="/estimate"
        )
        assert len(answer["people"]) == 2
        assert sum(answer["people"][0]["detected"]) < 9  # a joint or two have a score that rounds to 1
        answer = client.predict(handle_file(str(example_picture)), focal_px=900, api_name="/estimate")
        assert answer["people"][0]["joints_camera"][0][2] > 1000, "the person stands metres before the camera"

    def test_whole_picture_is_one_person(self, client, tmp_path):
        Image.new("RGB", (320, 240)).save(tmp_path / "black.png")
        answer = client.predict(handle_file(str(tmp_path / "black.png")), people="whole", api_name="/estimate")
        assert len(answer["people"]) == 1

    def test_from_mcp(self, space_url, example_picture):
        anyio = pytest.importorskip("anyio")
        pytest.importorskip("mcp")
        tools, answer = anyio.run(ask_over_mcp, space_url, example_picture)
        [tool] = tools
        assert tool.inputSchema["required"] == ["picture"]
        assert "millimetres" in tool.description
        assert not answer.isError, answer.content
        assert len(literal_eval(answer.content[0].text)["people"]) == 1


async def ask_over_mcp(space_url: str, picture: Path) -> tuple[list[Any], Any]:
    """List the server's tools and call the first one with a picture as base64."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    encoded = "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode()
    async with (
        streamablehttp_client(f"{space_url}gradio_api/mcp/") as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        return tools, await session.call_tool(tools[0].name, {"picture": encoded})


def test_nobody_is_an_empty_list(client, tmp_path):
    Image.new("RGB", (320, 240)).save(tmp_path / "black.png")
    assert client.predict(handle_file(str(tmp_path / "black.png")), api_name="/estimate")["people"] == []


class TestRefusals:
    @pytest.mark.parametrize(
        "picture",
        [
            {"path": "/etc/passwd", "meta": FILE},
            {"path": "/etc/passwd"},
            {"path": "../../../etc/passwd", "meta": FILE},
            {"path": "http://127.0.0.1:9/picture.jpg", "meta": FILE},
            {"path": "https://example.com/picture.jpg"},
            {"path": "file:///etc/passwd", "meta": FILE},
            {"path": ["/etc/passwd"], "meta": FILE},
            {"path": str(Path(__file__)), "meta": FILE, "is_stream": True},
        ],
        ids=lambda picture: str(picture["path"]),
    )
    def test_paths_and_addresses_that_a_client_names(self, call, picture):
        assert "must be uploaded first" in call(picture, 0.5, None, "", "search")

    @pytest.mark.parametrize("picture", ["/etc/passwd", 5, {"url": "http://127.0.0.1:9/x.png", "meta": FILE}, []])
    def test_what_is_no_file(self, call, picture):
        message = call(picture, 0.5, None, "", "search")
        assert isinstance(message, str)
        assert "/" not in message, "names nothing of the server"

    @pytest.mark.parametrize(
        "address",
        [
            "file=/etc/passwd",
            f"file={Path(__file__)}",
            "file=http://example.com/",
            "file/https://example.com/",
            "proxy=http://example.com/",
        ],
    )
    def test_files_and_addresses_are_not_handed_on(self, space_url, address):
        assert httpx.get(f"{space_url}gradio_api/{address}").status_code in (400, 403, 404)

    def test_no_picture(self, call):
        assert call(None, 0.5, None, "", "search") == "Give a picture first"

    def test_files_that_are_no_pictures(self, call, upload, example_picture):
        for content in (
            b"not a picture",
            example_picture.read_bytes()[:4000],
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        ):
            assert call(upload(content), 0.5, None, "", "search") == "This file could not be read as a picture."

    def test_decompression_bombs(self, call, upload):
        bomb = png(20000, 20000)
        assert len(bomb) < 100_000
        assert "too many pixels" in call(upload(bomb), 0.5, None, "", "search")
        assert "at most 40 million pixels" in call(upload(png(9000, 9000)), 0.5, None, "", "search")

    def test_too_large_files_and_requests(self, space_url):
        too_large = httpx.post(
            f"{space_url}gradio_api/upload", files={"files": ("a.jpg", b"0" * 31_000_000)}, timeout=60
        )
        assert too_large.status_code == 413
        body = b'{"data": ["' + b"0" * 45_000_000 + b'"]}'
        headers = {"content-type": "application/json"}
        refused = httpx.post(f"{space_url}gradio_api/call/estimate", content=body, headers=headers, timeout=60)
        assert refused.status_code == 413

    @pytest.mark.parametrize(
        ("threshold", "focal_px", "boxes", "message"),
        [
            (7, None, "", "greater than maximum"),
            ("high", None, "", "not what this endpoint takes"),
            (0.5, -3, "", "A focal length must be"),
            (0.5, None, "1 2", "Boxes must be"),
            (0.5, None, "/etc/passwd", "Boxes must be numbers"),
            (0.5, None, "9000 9000 5 5", "must show some of the picture"),
            (0.5, None, "0 0 50 50;" * 13, "at most 12 people"),
        ],
    )
    def test_values_out_of_range(self, call, upload, example_picture, threshold, focal_px, boxes, message):
        assert message in call(upload(example_picture.read_bytes(), "a.jpg"), threshold, focal_px, boxes, "search")

    @pytest.mark.parametrize(
        ("boxes", "people", "message"),
        [("", "all", '"search" or'), ("1 1 9 9", "whole", "beside `boxes`")],
    )
    def test_people_as_in_python(self, call, upload, example_picture, boxes, people, message):
        assert message in call(upload(example_picture.read_bytes(), "a.jpg"), 0.5, None, boxes, people)


def test_files_are_removed_after_their_time(tiny_model_folder, tmp_path, monkeypatch, example_picture):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    from jointdetr.demo import DemoSettings
    from jointdetr.demo.app import launch

    app = launch(DemoSettings(model=str(tiny_model_folder), keep_files_seconds=2), "127.0.0.1", block=False)
    try:
        examples = kept_files(tmp_path)
        assert len(examples) >= 3
        client = Client(app.local_url, verbose=False)
        mine = tmp_path / "mine.png"
        mine.write_bytes(png(300, 300))
        for picture in (example_picture, mine):  # an example is kept though somebody uploads it too
            client.predict(handle_file(str(picture)), api_name="/estimate")
        assert len(kept_files(tmp_path) - examples) == 1
        deadline = time.monotonic() + 30
        while kept_files(tmp_path) != examples and time.monotonic() < deadline:
            time.sleep(0.2)
        assert kept_files(tmp_path) == examples
        time.sleep(2.5)
        assert kept_files(tmp_path) == examples
    finally:
        app.close()


def kept_files(folder: Path) -> set[Path]:
    return {path for path in (folder / "files").rglob("*") if path.is_file()}
