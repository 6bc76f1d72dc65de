"""A Hub of our own: serves the model folders of one directory as huggingface.co does."""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_ACCESS = re.compile(r"/api/models/([^/]+/[^/]+)/auth-check")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class HubServer(ThreadingHTTPServer):
    """Serves ``folder/ORG/NAME`` as the model ``ORG/NAME``.

    Args:
        folder: Where the models are.

    Attributes:
        gated: Models that are listed, and whose files nobody gets.
        bytes_sent: Of file contents, by path.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.gated: set[str] = set()
        self.bytes_sent: dict[str, int] = {}

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # http.server's name
        """Answers a request."""
        path = unquote(urlsplit(self.path).path)
        for pattern, answer in (
            (_ACCESS, self._access),
            (_INFO, self._info),
            (_TREE, self._tree),
            (_FILE, self._file),
        ):
            match = pattern.fullmatch(path)
            if match:
                answer(*match.groups())
                return
        self._refuse(404, "EntryNotFound")

    def do_HEAD(self) -> None:  # likewise
        """Answers a request without a body."""
        self.do_GET()

    def _model(self, repo: str, revision: str | None) -> Path | None:
        folder = self.server.folder / repo
        if not folder.is_dir():
            self._refuse(404, "RepoNotFound")
        elif revision not in (None, "main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            return folder
        return None

    def _access(self, repo: str) -> None:
        if repo in self.server.gated:
            self._refuse(403, "GatedRepo")
        else:
            self._send(b"{}")

    def _info(self, repo: str, revision: str | None) -> None:
        folder = self._model(repo, revision)
        if folder is None:
            return
        files = [{"rfilename": p.name, "size": p.stat().st_size} for p in sorted(folder.iterdir())]
        files.append({"rfilename": "original/consolidated.00.pth", "size": 1})
        gated = "manual" if repo in self.server.gated else False
        info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": files, "gated": gated}
        self._send(json.dumps(info).encode())

    def _tree(self, repo: str, revision: str) -> None:
        folder = self._model(repo, revision)
        if folder is not None:
            sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
            files = [
                {"type": "file", "path": name, "size": size, "oid": name}
                for name, size in sizes.items()
            ]
            self._send(json.dumps(files).encode())

    def _file(self, repo: str, revision: str, name: str) -> None:
        folder = self._model(repo, revision)
        if folder is None:
            return
        if not (folder / name).is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = (folder / name).read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        status = 206 if part else 200
        body = content[int(part[1]) : int(part[2]) + 1] if part else content
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if part:
            headers["Content-Range"] = f"bytes {part[1]}-{part[2]}/{len(content)}"
        if self.command == "GET":
            sent = self.server.bytes_sent
            sent[f"{repo}/{name}"] = sent.get(f"{repo}/{name}", 0) + len(body)
        self._send(body, status, **headers)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"{}", status, **{"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Keeps the terminal quiet."""
