"""The Hub's client: what a repository has, whose a token is, and the bytes of a file. Everything that goes wrong is
Refused, with what to do, or HubError. A token goes to the Hub alone, and stands in no text that comes from here.
"""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx2
from django.conf import settings
from huggingface_hub import HfApi, constants, get_session, hf_hub_url, set_client_factory
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status

from accounts import addresses
from catalog.errors import HubError, Refused

ASK_TIMEOUT_S = 15.0
MOST_REDIRECTS = 5
LARGEST_TEXT = 16 * 1024 * 1024
PUBLIC = ("huggingface.co", "www.huggingface.co", "hf.co")
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[\w][\w./-]{0,99}", re.ASCII)
TOKEN = re.compile(r"[\x21-\x7e]{8,300}")
WRITE_SO = "Write it as org/name, or as org/name@revision."


@dataclass(frozen=True, slots=True)
class Place:
    """What somebody pasted: a repository, and as much of the rest as they said."""

    repo: str
    revision: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file of a repository at one commit, with what the Hub promises of its content: one of the two hashes."""

    name: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one commit. `licence` and `base_models` are as its card says, empty where it does not."""

    id: str
    commit: str
    files: tuple[RepoFile, ...]
    is_gated: bool = False
    is_private: bool = False
    licence: str = ""
    licence_name: str = ""
    base_models: tuple[str, ...] = ()
    task: str = ""
    parameters: int | None = None
    context_tokens: int | None = None
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Hub:
    """The Hub that HUB_URL names, asked with a token or with none. The token is never shown."""

    token: str = field(default="", repr=False)

    def repo(self, name: str, revision: str = "") -> Repo:
        """The repository at that revision, pinned to its commit. Whether its files may be read is not asked yet."""
        with _said(name, revision, has_token=bool(self.token)):
            info = self._api().model_info(name, revision=revision or None, files_metadata=True, timeout=ASK_TIMEOUT_S)
            return _repo(name, info)

    def check_access(self, name: str) -> None:
        """Its files may be read with this token, or Refused: no token, or the terms were not accepted."""
        with _said(name, "", has_token=bool(self.token)):
            self._api().auth_check(name)

    def text(self, name: str, commit: str, file: RepoFile) -> bytes:
        """A small file whole."""
        if file.size_bytes > LARGEST_TEXT:
            raise Refused(f"{file.name} has {file.size_bytes} bytes, more than such a file has.", code="bad_config")
        content = b""
        with self.opened(name, commit, file, offset=0) as (_, blocks):
            for block in blocks:
                content += block
                if len(content) > file.size_bytes:
                    raise HubError(f"The Hub sends more of {file.name} than it said.")
        return content

    def account(self) -> str:
        """Whose token this is, as the Hub says, or Refused."""
        with _said("", "", has_token=True):
            try:
                said = self._api().whoami()
            except HfHubHTTPError as error:
                if error.response.status_code in {401, 403}:
                    text = "The Hub does not know this token. Copy it whole, or make a new one there."
                    raise Refused(text, code="bad_token", field="token") from None
                raise
            return str(said.get("name") or said.get("fullname") or "")[:100]

    @contextmanager
    def opened(
        self, name: str, commit: str, file: RepoFile, *, offset: int, timeout_s: float = ASK_TIMEOUT_S
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """From which byte on they come, `offset` or 0 if the Hub can't begin there; and the bytes."""
        url = hf_hub_url(name, file.name, revision=commit, endpoint=endpoint())
        headers = build_hf_headers(token=self.token or False) | {"accept-encoding": "identity"}
        if offset:
            headers["range"] = f"bytes={offset}-"
        with ExitStack() as stack:
            with _said(name, commit, has_token=bool(self.token)):
                answer = stack.enter_context(_following(url, headers, timeout_s))
            begins = offset if answer.status_code == httpx2.codes.PARTIAL_CONTENT else 0
            if begins and not answer.headers.get("content-range", "").startswith(f"bytes {begins}-"):
                raise HubError("The Hub sends another part of the file than was asked for.")
            yield begins, self._blocks(answer, name, commit)

    def _blocks(self, answer: httpx2.Response, name: str, commit: str) -> Iterator[bytes]:
        """As they come; only what goes wrong on the line is the Hub's error, not what its reader does with them."""
        with _said(name, commit, has_token=bool(self.token)):
            yield from answer.iter_raw()

    def _api(self) -> HfApi:
        return HfApi(endpoint=endpoint(), token=self.token or False, library_name="modelport")


def endpoint() -> str:
    return settings.HUB_URL.rstrip("/")


def page_of(repo: str, commit: str = "") -> str:
    """Where people read about it."""
    return f"{endpoint()}/{repo}" + (f"/tree/{commit}" if commit else "")


def parse(text: str) -> Place:
    """`org/name`, `org/name@revision`, or an address of the Hub; else Refused. No other address is ever asked."""
    text = text.strip()
    if "://" in text:
        return _parse_url(text)
    repo, _, revision = text.partition("@")
    return _place(repo.strip("/"), revision)


def _parse_url(text: str) -> Place:
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Refused(f"This is no address. {WRITE_SO}", code="bad_repo") from error
    own = urlsplit(endpoint())
    is_hub = (host, port) == (own.hostname, own.port) or (host in PUBLIC and port in {None, 443})
    if parts.scheme not in {"http", "https"} or parts.username or not is_hub:
        private = " A private address is never asked." if _may_be_private(host) else ""
        raise Refused(
            f"Weights come from {own.hostname}, and this address is elsewhere.{private} {WRITE_SO}", code="bad_repo"
        )
    pieces = [unquote(piece) for piece in parts.path.split("/") if piece]
    if len(pieces) > 3 and pieces[2] in {"tree", "blob", "resolve", "raw", "commit"}:
        file = "/".join(pieces[4:]) if pieces[2] in {"blob", "resolve", "raw"} else ""
        return _place("/".join(pieces[:2]), pieces[3], file)
    return _place("/".join(pieces[:2]), "")


def _place(repo: str, revision: str, file: str = "") -> Place:
    if not NAME.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".")):
        raise Refused(f"{repo[:80]!r} is not the name of a repository. {WRITE_SO}", code="bad_repo")
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise Refused("A revision is a branch, a tag or a commit.", code="bad_revision", field="revision")
    return Place(repo, revision, file)


def _may_be_private(host: str) -> bool:
    try:
        return not addresses.is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host


def _repo(name: str, info: Any) -> Repo:
    card: Mapping[str, Any] = info.card_data.to_dict() if info.card_data else {}
    gguf: Mapping[str, Any] = info.gguf or {}
    config: Mapping[str, Any] = info.config or {}
    counted = gguf.get("total") or (info.safetensors.total if info.safetensors else None)
    architectures = config.get("architectures")
    return Repo(
        id=str(info.id or name),
        commit=str(info.sha or ""),
        files=tuple(_file(sibling) for sibling in info.siblings or ()),
        is_gated=bool(info.gated),
        is_private=bool(info.private),
        licence=_text(card.get("license"))[:60],
        licence_name=_text(card.get("license_name"))[:120],
        base_models=tuple(_texts(card.get("base_model"))),
        task=_text(info.pipeline_tag),
        parameters=counted if isinstance(counted, int) and counted > 0 else None,
        context_tokens=context
        if isinstance(context := gguf.get("context_length"), int) and 0 < context < 2**31
        else None,
        architecture=_text(gguf.get("architecture")) or _text((_texts(architectures) or [""])[0]),
    )


def _file(sibling: Any) -> RepoFile:
    lfs = sibling.lfs
    size = sibling.size if isinstance(sibling.size, int) else 0
    return RepoFile(
        sibling.rfilename,
        int(lfs.size) if lfs else size,
        sha256=str(lfs.sha256) if lfs else "",
        git_sha1="" if lfs else str(sibling.blob_id or ""),
    )


def _texts(value: Any) -> list[str]:
    return [item for item in (value if isinstance(value, list) else [value]) if item and is_name(item)]


def _text(value: Any) -> str:
    return (_texts(value) or [""])[0]


def is_name(value: object) -> bool:
    """Text without what no name has and no database keeps: NUL, other control characters, halves of surrogates."""
    return isinstance(value, str) and value.isprintable()


@contextmanager
def _said(name: str, revision: str, *, has_token: bool) -> Iterator[None]:
    """The client's errors in the words of this portal. Its own texts are not shown: they hold addresses."""
    try:
        yield
    except GatedRepoError as error:
        raise _gated(name, has_token=has_token) from error
    except RevisionNotFoundError as error:
        text = f"{name} has no revision {revision!r}. Take a branch, a tag or a whole commit that its page shows."
        raise Refused(text, code="bad_revision", field="revision") from error
    except DisabledRepoError as error:
        raise Refused(f"The Hub has closed {name}: nobody can read it.", code="repo_disabled") from error
    except RepositoryNotFoundError as error:
        raise _missing(name, has_token=has_token) from error
    except RemoteEntryNotFoundError as error:
        raise HubError(f"The Hub no longer has a file of {name} that it listed.") from error
    except HFValidationError as error:
        raise Refused(f"{name[:80]!r} is not the name of a repository. {WRITE_SO}", code="bad_repo") from error
    except HfHubHTTPError as error:
        raise _refused_by(error.response.status_code, has_token=has_token) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise HubError(f"The Hub at {urlsplit(endpoint()).netloc} could not be asked: {_kind(error)}.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HubError("The Hub answered with something that is no description of a repository.") from error


def _gated(name: str, *, has_token: bool) -> Refused:
    if has_token:
        text = (
            f"{name} is gated, and the owner of the team's token has not been given access. Accept its terms at"
            f" {page_of(name)} with that account, then try again."
        )
        return Refused(text, code="gated_not_accepted")
    text = f"{name} is gated. Accept its terms at {page_of(name)}, then set the team's Hub token here and try again."
    return Refused(text, code="gated_needs_token")


def _missing(name: str, *, has_token: bool) -> Refused:
    hint = "that the team's token may read it" if has_token else "set the team's Hub token if it is private"
    return Refused(f"The Hub has no repository {name}. Check the name, and {hint}.", code="repo_missing")


def _refused_by(status: int, *, has_token: bool) -> Refused | HubError:
    if status in {401, 403} and has_token:
        text = "The Hub refuses the team's token. Set a new one that may read this repository."
        return Refused(text, code="bad_token", field="token")
    if status == httpx2.codes.TOO_MANY_REQUESTS:
        return HubError("The Hub asks this portal to slow down. Try again in a few minutes.")
    return HubError(f"The Hub answered with status {status}.")


def _kind(error: Exception) -> str:
    match error:
        case httpx2.TimeoutException():
            return "it did not answer in time"
        case httpx2.ConnectError():
            return "nothing answers there"
        case _:
            return "the connection broke"


@contextmanager
def _following(url: str, headers: Mapping[str, str], timeout_s: float) -> Iterator[httpx2.Response]:
    """The answer behind the Hub's redirects. What is elsewhere gets no token."""
    for _ in range(MOST_REDIRECTS):
        sent = dict(headers) if _origin(url) == _origin(endpoint()) else _without_token(headers)
        with get_session().stream("GET", url, headers=sent, timeout=timeout_s, follow_redirects=False) as answer:
            if not answer.has_redirect_location:
                hf_raise_for_status(answer)
                yield answer
                return
            url = urljoin(url, answer.headers["location"])
        check_target(url)
    raise HubError("The Hub sends this portal from one address to the next without an end.")


def _without_token(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def check_target(url: str) -> None:
    """A redirect leads out of one's own network only, unless the Hub itself is in it; and never to http from https."""
    if _origin(url) == _origin(endpoint()):
        return
    scheme, host, port = _origin(url)
    allowed = {"https"} if endpoint().startswith("https://") else {"http", "https"}
    if scheme not in allowed or not host:
        raise HubError("The Hub sends this portal to an address that it does not ask.")
    if not _is_global(host, port) and _is_global(*_origin(endpoint())[1:]):
        raise HubError(f"The Hub sends this portal to {host}, a private address, which is not asked.")


def _is_global(host: str, port: int) -> bool:
    found = {str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return all(addresses.is_public(one) for one in found)


def _client() -> httpx2.Client:
    """For huggingface_hub's own questions, too: none waits without an end."""
    return httpx2.Client(follow_redirects=True, timeout=ASK_TIMEOUT_S)


constants.HF_HUB_DISABLE_TELEMETRY = True
set_client_factory(_client)
