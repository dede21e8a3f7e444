"""What a loopback Hub holds, in memory: repositories with commits, branches and tags, and the content of files."""

import hashlib
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import count

LARGE_FILE_PATTERNS = ("*.safetensors", "*.bin", "*.npz", "*.parquet", "*.onnx", "*.glb", "*.mp4", "*.png", "*.jpg")
GIT_ATTRIBUTES = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_FILE_PATTERNS).encode()
_NUMBERS = count()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit: where its content is, and the hash that git knows it by."""

    sha256: str
    size: int
    git_hash: str
    pointer_size: int | None = None  # of a large file, of which git holds a pointer alone
    xet_hash: str | None = None

    @classmethod
    def regular(cls, content: bytes) -> "StoredFile":
        return cls(sha256(content), len(content), _git_hash(content))

    @classmethod
    def large(cls, digest: str, size: int, xet_hash: str | None) -> "StoredFile":
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n".encode()
        return cls(digest, size, _git_hash(pointer), len(pointer), xet_hash)

    @property
    def is_large(self) -> bool:
        return self.pointer_size is not None

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.git_hash

    def description(self, path: str) -> dict:
        """The file in the Hub's lists."""
        entry = {"type": "file", "oid": self.git_hash, "size": self.size, "path": path}
        if self.is_large:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": self.pointer_size}
        return entry | ({"xetHash": self.xet_hash} if self.xet_hash else {})


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    files: dict[str, StoredFile]
    date: str


@dataclass
class Repository:
    """A model or a Space."""

    kind: str  # "model" or "space"
    name: str  # "user/name"
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    sdk: str | None = None

    def find(self, revision: str) -> Commit | None:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(sha)

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]

    def add_commit(self, title: str, files: dict[str, StoredFile]) -> Commit:
        sha = hashlib.sha1(f"{next(_NUMBERS)} {title}".encode()).hexdigest()
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        self.commits[sha] = Commit(sha, title, dict(files), date)
        self.branches["main"] = sha
        return self.commits[sha]


class Storage:
    """All repositories, and the content of all files by its sha256."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}

    def keep(self, content: bytes) -> str:
        digest = sha256(content)
        self.contents[digest] = content
        return digest

    def create(self, repository: Repository) -> None:
        self.repositories[repository.kind, repository.name] = repository
        self.keep(GIT_ATTRIBUTES)
        repository.add_commit("initial commit", {".gitattributes": StoredFile.regular(GIT_ATTRIBUTES)})

    def model(self, name: str) -> Repository:
        return self.repositories["model", name]

    def space(self, name: str) -> Repository:
        return self.repositories["space", name]

    def text(self, repository: Repository, path: str) -> str:
        return self.contents[repository.head.files[path].sha256].decode()


def is_large(path: str) -> bool:
    """Whether the Hub takes a file of this name as a large one."""
    return any(fnmatch(path.rpartition("/")[2], pattern) for pattern in LARGE_FILE_PATTERNS)


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
