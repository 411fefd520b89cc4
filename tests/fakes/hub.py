"""A Hub at the edge of our world: the answers that huggingface_hub's real client reads, over a real socket. Large files
come by a redirect to `localhost`, another host than the `127.0.0.1` of the Hub, as from the Hub's own storage."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from tests.fakes import openai_upstream

TOKENS = {"hf_accepted": "ada", "hf_stranger": "bob"}
BLOCK = 64 * 1024


@dataclass
class Repo:
    """A repository with one commit; `card` is what its page's header says, `instead` what it sends for a small file."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool | str = False
    private: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, bytes] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        whole = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            whole.update(name.encode() + b"\0" + content)
        return whole.hexdigest()


class TestHub:
    """`repos` by name. `asked` is every request as (host, path, range, token). What goes wrong is switched on:
    `bytes_per_s` slows large files down, `cut_after` breaks the line after so many bytes of each answer, `stalls` sends
    nothing at all, `spoil` changes the bytes of a large file, `is_down` answers 503."""

    __test__ = False

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.base_url = ""
        self.asked: list[tuple[str, str, str, str]] = []
        self.sent: dict[str, int] = defaultdict(int)
        self.reset()

    def reset(self) -> None:
        """Well behaved again, with nothing asked so far."""
        self.bytes_per_s = 0
        self.cut_after = 0
        self.stalls = False
        self.is_down = False
        self.no_ranges = False
        self.redirect_to = ""
        self.spoil: Callable[[bytes], bytes] = bytes
        self.asked.clear()
        self.sent.clear()

    @property
    def url(self) -> str:
        return self.base_url.removesuffix("/v1")

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> Repo:
        self.repos[name] = Repo(files, **more)
        return self.repos[name]

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/api/whoami-v2", self.whoami)
        app.router.add_get("/api/models/{org}/{name}", self.info)
        app.router.add_get("/api/models/{org}/{name}/revision/{revision:.+}", self.info)
        app.router.add_get("/api/models/{org}/{name}/auth-check", self.auth_check)
        app.router.add_get("/{org}/{name}/resolve/{revision}/{file:.+}", self.resolve)
        app.router.add_get("/lfs/{org}/{name}/{file:.+}", self.large)

    async def whoami(self, request: web.Request) -> web.Response:
        account = TOKENS.get(self._note(request))
        if account is None:
            return web.json_response({"error": "Invalid username or password."}, status=401)
        return web.json_response({"type": "user", "name": account, "auth": {"type": "access_token"}})

    async def info(self, request: web.Request) -> web.Response:
        found, refusal = self._found(request)
        if refusal or found is None:
            return refusal or web.Response(status=500)
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        siblings = [_sibling(file, content) for file, content in found.files.items()]
        body = {
            "_id": "1", "id": name, "modelId": name, "sha": found.commit, "private": found.private,
            "gated": found.gated, "disabled": False, "downloads": 1, "likes": 0, "tags": [],
            "cardData": found.card, "siblings": siblings, **found.more,
        }  # fmt: skip
        return web.json_response(body)

    async def auth_check(self, request: web.Request) -> web.Response:
        found, refusal = self._found(request)
        return refusal or self._gate(request, found) or web.json_response({})

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        found, refusal = self._found(request)
        if refusal or found is None:
            return refusal or web.Response(status=500)
        if refusal := self._gate(request, found):
            return refusal
        file = request.match_info["file"]
        content = found.files.get(file)
        if content is None:
            return _error(404, "EntryNotFound", "Entry not found")
        if not _is_large(file):
            return web.Response(body=found.instead.get(file, content))
        port = urlsplit(self.base_url).port
        path = f"/lfs/{request.match_info['org']}/{request.match_info['name']}/{file}"
        target = self.redirect_to or f"http://localhost:{port}{path}?signature=secret"
        return web.Response(status=302, headers={"location": target, "x-repo-commit": found.commit})

    async def large(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if self.stalls:
            await asyncio.sleep(60)
        found = self.repos[f"{request.match_info['org']}/{request.match_info['name']}"]
        file = request.match_info["file"]
        content = self.spoil(found.files[file])
        begins = 0 if self.no_ranges else (request.http_range.start or 0)
        if begins and begins >= len(content):
            return web.Response(status=416)
        headers = {"content-length": str(len(content) - begins), "accept-ranges": "bytes"}
        if begins:
            headers["content-range"] = f"bytes {begins}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if begins else 200, headers=headers)
        await response.prepare(request)
        await self._send(request, response, file, content[begins:])
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, file: str, content: bytes) -> None:
        end = self.cut_after or len(content)
        for start in range(0, min(end, len(content)), BLOCK):
            block = content[start : min(start + BLOCK, end)]
            await response.write(block)
            self.sent[file] += len(block)
            if self.bytes_per_s:
                await asyncio.sleep(len(block) / self.bytes_per_s)
        if end < len(content) and request.transport:
            request.transport.abort()

    def _note(self, request: web.Request) -> str:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append((request.host.split(":")[0], request.path, request.headers.get("range", ""), token))
        return token

    def _found(self, request: web.Request) -> tuple[Repo | None, web.Response | None]:
        token = self._note(request)
        if self.is_down:
            return None, web.json_response({"error": "down"}, status=503)
        found = self.repos.get(f"{request.match_info['org']}/{request.match_info['name']}")
        if found is None or (found.private and token != "hf_accepted"):
            if token in TOKENS:
                return None, _error(404, "RepoNotFound", "Repository not found")
            return None, _error(401, "RepoNotFound", "Repository not found")
        revision = request.match_info.get("revision", "main")
        if revision not in {"main", found.commit}:
            return None, _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found, None

    def _gate(self, request: web.Request, found: Repo | None) -> web.Response | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if found is None or not found.gated or token == "hf_accepted":
            return None
        status = 403 if token in TOKENS else 401
        return _error(status, "GatedRepo", "Access to this model is restricted.")


def _is_large(file: str) -> bool:
    return file.endswith((".gguf", ".safetensors", ".bin"))


def _sibling(file: str, content: bytes) -> dict[str, Any]:
    header = f"blob {len(content)}\0".encode()
    said: dict[str, Any] = {"rfilename": file, "size": len(content)}
    if _is_large(file):
        pointer = f"oid sha256:{hashlib.sha256(content).hexdigest()}".encode()
        said["blobId"] = hashlib.sha1(pointer, usedforsecurity=False).hexdigest()
        said["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    else:
        said["blobId"] = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
    return said


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response(
        {"error": message}, status=status, headers={"x-error-code": code, "x-error-message": message}
    )


@contextmanager
def running() -> Iterator[TestHub]:
    """The Hub on a free loopback port, in a thread of its own."""
    with openai_upstream.served(TestHub()) as hub:
        yield hub
