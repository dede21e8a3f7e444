"""A Hugging Face Hub on the loopback interface, small and strict, for the real clients to publish to and load from.

Files travel as with the real one: small ones inside the commit, large ones before it, by git-lfs or by Xet.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from loopback_storage import Commit, Repository, Storage, StoredFile, is_large
from loopback_xet import XetStore

USER = "tester"
TOKEN = "hf_loopback"


@dataclass(frozen=True)
class Request:
    """What a client asks: the named parts of the path, the query, the headers and the body."""

    parts: dict[str, str]
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    @property
    def is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    @property
    def repository(self) -> tuple[str, str]:
        return self.parts.get("kind", "models").rstrip("s"), f"{self.parts['user']}/{self.parts['name']}"


@dataclass(frozen=True)
class Reply:
    """What the Hub answers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Reply":
        return cls(json.dumps(content).encode(), status, {"Content-Type": "application/json"} | (headers or {}))


class Refusal(Exception):
    """An error answer; the client goes by its code."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None):
        super().__init__(message)
        names = {"X-Error-Code": code, "X-Error-Message": message, "X-Request-Id": "loopback"} | (headers or {})
        self.reply = Reply.of({"error": message}, status, {name: value for name, value in names.items() if value})


class LoopbackHub:
    """The Hub: its content in `storage`, what was asked in `requests`."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.xet = XetStore()
        self.requests: list[tuple[str, str, int]] = []  # method, path, status
        self.on_large_file: Callable[[], None] = lambda: None  # called before a large file is taken
        self.lock = threading.Lock()
        self.address = ""

    @property
    def failures(self) -> list[tuple[str, str, int]]:
        """Requests that this Hub could not serve."""
        return [request for request in self.requests if request[2] >= 500]

    def answer(self, method: str, path: str, request: Request) -> Reply:
        """Find the route, follow it, and take note."""
        try:
            reply = self._route(method, path, request)
        except Refusal as refusal:
            reply = refusal.reply
        self.requests.append((method, path, reply.status))
        return reply

    def _route(self, method: str, path: str, request: Request) -> Reply:
        for methods, pattern, function in ROUTES:
            found = pattern.fullmatch(path)
            if found and method in methods.split():
                request.parts.update({key: unquote(value) for key, value in found.groupdict().items() if value})
                return function(self, request)
        raise Refusal(501, f"the loopback Hub has no route {method} {path}")

    # Repositories

    def whoami(self, request: Request) -> Reply:
        self._require_user(request)
        token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
        return Reply.of({"type": "user", "id": "0", "name": USER, "fullname": USER, "orgs": [], "auth": token})

    def create_repository(self, request: Request) -> Reply:
        self._require_user(request)
        asked = request.json
        owner = asked.get("organization") or USER
        if owner != USER:
            raise Refusal(403, f"You don't have the rights to create a repository under the namespace {owner!r}")
        kind, name = asked.get("type") or "model", f"{owner}/{asked['name']}"
        if (kind, name) in self.storage.repositories:
            known = {"url": self._url(kind, name), "name": name, "id": name}
            return Reply.of({"error": f"You already created this {kind} repo"} | known, 409)
        private = asked.get("visibility") == "private"
        self.storage.create(Repository(kind, name, private, sdk=asked.get("sdk")))
        return Reply.of({"url": self._url(kind, name), "name": name, "id": name})

    def describe(self, request: Request) -> Reply:
        repository, commit = self._find(request)
        card = self._card(repository, commit)
        shared = {"tags": card.get("tags", []), "sdk": repository.sdk, "cardData": card}
        return Reply.of(
            shared
            | {"_id": "0", "id": repository.name, "sha": commit.sha, "private": repository.private, "gated": False}
            | {"lastModified": commit.date, "createdAt": commit.date, "disabled": False, "likes": 0, "downloads": 0}
            | {"pipeline_tag": card.get("pipeline_tag"), "library_name": card.get("library_name")}
            | {"siblings": [{"rfilename": path} for path in commit.files]}
        )

    def list_references(self, request: Request) -> Reply:
        repository, _ = self._find(request)
        lists = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
        found = {
            name: [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": sha} for n, sha in references.items()]
            for name, (folder, references) in lists.items()
        }
        return Reply.of(found | {"converts": []})

    def create_tag(self, request: Request) -> Reply:
        self._require_user(request)
        repository, commit = self._find(request)
        name = request.json["tag"]
        if name in repository.tags:
            raise Refusal(409, f"Tag reference exists already: {name}")
        repository.tags[name] = commit.sha
        return Reply.of({})

    def set_variable(self, request: Request) -> Reply:
        self._require_user(request)
        repository, _ = self._find(request)
        repository.variables[request.json["key"]] = request.json["value"]
        return Reply.of({key: {"key": key, "value": value} for key, value in repository.variables.items()})

    # Uploads

    def check_card(self, request: Request) -> Reply:
        metadata = _front_matter(request.json["content"])
        lacking = request.json.get("repoType") == "space" and "sdk" not in metadata
        errors = [{"message": "Missing configuration in README: sdk"}] if lacking else []
        return Reply.of({"errors": errors, "warnings": []}, 400 if errors else 200)

    def plan_upload(self, request: Request) -> Reply:
        self._require_user(request)
        _, commit = self._find(request)
        files = []
        for asked in request.json["files"]:
            present = commit.files.get(asked["path"])
            large = is_large(asked["path"]) or b"\0" in base64.b64decode(asked["sample"])
            files.append(
                {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                | {"oid": present and present.etag}
            )
        return Reply.of({"files": files})

    def plan_large_files(self, request: Request) -> Reply:
        self._require_user(request)
        objects = []
        for asked in request.json["objects"]:
            planned = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.storage.contents:
                planned["actions"] = {"upload": {"href": f"{self.address}/lfs/{asked['oid']}"}}
            objects.append(planned)
        return Reply.of({"transfer": "basic", "objects": objects})

    def take_large_file(self, request: Request) -> Reply:
        self.on_large_file()
        if self.storage.keep(request.body) != request.parts["digest"]:
            raise Refusal(422, "the content is not what its sha256 says")
        return Reply()

    def commit(self, request: Request) -> Reply:
        self._require_user(request)
        with self.lock:
            repository, parent = self._find(request)
            files, title = dict(parent.files), ""
            for line in request.body.splitlines():
                change = json.loads(line)
                if change["key"] == "header":
                    title = change["value"]["summary"]
                else:
                    self._apply(change["key"], change["value"], files)
            commit = repository.add_commit(title, files)
        url = f"{self._url(repository.kind, repository.name)}/commit/{commit.sha}"
        return Reply.of({"success": True, "commitOid": commit.sha, "commitUrl": url, "hookOutput": ""})

    def _apply(self, action: str, change: dict, files: dict[str, StoredFile]) -> None:
        """Follow one line of a commit."""
        path = change["path"]
        if action == "file":
            content = base64.b64decode(change["content"])
            self.storage.keep(content)
            files[path] = StoredFile.regular(content)
        elif action == "lfsFile":
            xet_hash = self.xet.hash_of_sha256.get(change["oid"])
            if xet_hash is None and change["oid"] not in self.storage.contents:
                raise Refusal(400, f"{path} was never uploaded")
            files[path] = StoredFile.large(change["oid"], change["size"], xet_hash)
        elif action == "deletedFile":
            files.pop(path)
        else:
            raise Refusal(501, f"the loopback Hub cannot do {action} in a commit")

    # Downloads

    def list_files(self, request: Request) -> Reply:
        _, commit = self._find(request)
        folder = request.parts.get("path", "")
        inside = {path: file for path, file in commit.files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not inside:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": commit.sha})
        depth = 1 + folder.count("/") + 1 if folder else 1
        if request.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            inside = {path: file for path, file in inside.items() if path.count("/") < depth}
        return Reply.of([file.description(path) for path, file in inside.items()])

    def describe_paths(self, request: Request) -> Reply:
        _, commit = self._find(request)
        is_form = "form" in request.headers.get("Content-Type", "")
        paths = parse_qs(request.body.decode())["paths"] if is_form else request.json["paths"]
        return Reply.of([commit.files[path].description(path) for path in paths if path in commit.files])

    def resolve(self, request: Request) -> Reply:
        repository, commit = self._find(request)
        file = commit.files.get(request.parts["path"])
        headers = {"X-Repo-Commit": commit.sha}
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        headers |= {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if not file.is_large:
            return Reply(self.storage.contents[file.sha256], 200, headers)
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
        if file.xet_hash:
            route = f"{self.address}/api/{repository.kind}s/{repository.name}/xet-read-token/{commit.sha}"
            headers |= {
                "X-Xet-Hash": file.xet_hash,
                "X-Xet-Refresh-Route": route,
                "Link": f'<{route}>; rel="xet-auth"',
            }
        # another host name, as the real one's: the client follows a redirect to the same one and loses these headers
        headers["Location"] = self.address.replace("127.0.0.1", "localhost") + f"/content/{file.sha256}"
        return Reply(b"", 302, headers)

    def content(self, request: Request) -> Reply:
        content = self.storage.contents.get(request.parts["digest"])
        if content is None:
            raise Refusal(501, "this file came by Xet, and the loopback Hub gives it by Xet alone")
        return Reply(content)

    # Xet

    def xet_token(self, request: Request) -> Reply:
        if request.parts["access"] == "write":
            self._require_user(request)
        self._find(request)
        expires = int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": self.address, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(expires)}
        return Reply.of({"casUrl": self.address, "exp": expires, "accessToken": "xet"}, 200, headers)

    def take_xorb(self, request: Request) -> Reply:
        self.on_large_file()
        is_new = request.parts["hash"] not in self.xet.xorbs
        self.xet.xorbs[request.parts["hash"]] = request.body
        return Reply.of({"was_inserted": is_new})

    def take_shard(self, request: Request) -> Reply:
        self.xet.add_shard(request.body)
        return Reply.of({"result": 1})

    def reconstruction(self, request: Request) -> Reply:
        if request.parts["hash"] not in self.xet.files:
            return Reply(status=404)
        found = self.xet.reconstruction(request.parts["hash"], request.headers.get("Range"), self.address)
        return Reply(status=416) if found is None else Reply.of(found)

    def xorb(self, request: Request) -> Reply:
        content = self.xet.xorbs[request.parts["hash"]]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range") or "")
        if not found:
            return Reply(content)
        first, last = int(found[1]), min(int(found[2]), len(content) - 1)
        return Reply(content[first : last + 1], 206, {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    def absent(self, request: Request) -> Reply:
        return Reply(status=404)

    # What they share

    def _require_user(self, request: Request) -> None:
        if not request.is_known:
            raise Refusal(401, "Invalid credentials in Authorization header")

    def _find(self, request: Request) -> tuple[Repository, Commit]:
        """The repository and the commit that a request names, if the client may see them."""
        repository = self.storage.repositories.get(request.repository)
        if repository is None or (repository.private and not request.is_known):
            raise Refusal(404 if request.is_known else 401, "Repository not found", "RepoNotFound")
        commit = repository.find(request.parts.get("revision", "main"))
        if commit is None:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        return repository, commit

    def _card(self, repository: Repository, commit: Commit) -> dict:
        file = commit.files.get("README.md")
        return _front_matter(self.storage.contents[file.sha256].decode()) if file else {}

    def _url(self, kind: str, name: str) -> str:
        return f"{self.address}/{'' if kind == 'model' else kind + 's/'}{name}"


def _front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---", 2)[1]) or {} if text.startswith("---") else {}


_NAME = r"(?P<user>[^/]+)/(?P<name>[^/]+)"
_API = rf"/api/(?P<kind>models|spaces)/{_NAME}"
_REVISION = r"(?P<revision>[^/]+)"
_HASH = r"(?P<hash>[0-9a-f]+)"
_KIND = r"/(?:(?P<kind>spaces)/)?"

ROUTES = [
    (methods, re.compile(pattern), function)
    for methods, pattern, function in (
        ("GET", "/api/whoami-v2", LoopbackHub.whoami),
        ("POST", "/api/repos/create", LoopbackHub.create_repository),
        ("POST", "/api/validate-yaml", LoopbackHub.check_card),
        ("GET", _API, LoopbackHub.describe),
        ("GET", f"{_API}/revision/{_REVISION}", LoopbackHub.describe),
        ("GET", f"{_API}/refs", LoopbackHub.list_references),
        ("POST", f"{_API}/tag/{_REVISION}", LoopbackHub.create_tag),
        ("POST", f"{_API}/variables", LoopbackHub.set_variable),
        ("POST", f"{_API}/preupload/{_REVISION}", LoopbackHub.plan_upload),
        ("POST", f"{_API}/commit/{_REVISION}", LoopbackHub.commit),
        ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?", LoopbackHub.list_files),
        ("POST", f"{_API}/paths-info/{_REVISION}", LoopbackHub.describe_paths),
        ("GET", rf"{_API}/xet-(?P<access>read|write)-token/{_REVISION}", LoopbackHub.xet_token),
        ("POST", rf"{_KIND}{_NAME}\.git/info/lfs/objects/batch", LoopbackHub.plan_large_files),
        ("PUT", "/lfs/(?P<digest>[0-9a-f]+)", LoopbackHub.take_large_file),
        ("GET HEAD", rf"{_KIND}{_NAME}/resolve/{_REVISION}/(?P<path>.+)", LoopbackHub.resolve),
        ("GET HEAD", "/content/(?P<digest>[0-9a-f]+)", LoopbackHub.content),
        ("POST PUT", f"/v1/xorbs/[^/]+/{_HASH}", LoopbackHub.take_xorb),
        ("POST", "/v1/shards", LoopbackHub.take_shard),
        ("GET", f"/v1/reconstructions/{_HASH}", LoopbackHub.reconstruction),
        ("GET", f"/xorbs/{_HASH}", LoopbackHub.xorb),
        ("GET HEAD POST", "/v[12]/.+", LoopbackHub.absent),  # newer interfaces, without which Xet's client falls back
    )
]


class _Handler(BaseHTTPRequestHandler):
    """Translates between HTTP and the Hub."""

    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def do_GET(self) -> None:  # noqa: N802
        parts = urlsplit(self.path)
        request = Request({}, parse_qs(parts.query), self.headers, self._body())
        reply = self.hub.answer(self.command, parts.path, request)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_HEAD = do_POST = do_PUT = do_GET

    def _body(self) -> bytes:
        """Read the body, of a known length or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *arguments: object) -> None:
        """Stay quiet: the Hub takes note itself."""


@contextmanager
def running_hub() -> Iterator[LoopbackHub]:
    """Serve a Hub on a free port of the loopback interface."""
    hub = LoopbackHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
