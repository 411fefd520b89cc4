"""tus 1.0 on a real socket: each case's status, and what is on the disk afterwards."""

import hashlib
import itertools
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.test import Client
from django.utils import timezone
from tusclient.client import TusClient

from accounts import keys
from accounts.models import Role
from catalog.uploads.models import Upload
from tests.catalog.uploads.conftest import CHUNK, TUS, UPLOADS, Tus, checksum, metadata
from tests.factories.accounts import MembershipFactory, TeamFactory

BODY = bytes(range(256)) * 4096  # 1 MiB
BAD_CREATIONS: list[tuple[dict[str, str], int]] = [
    ({"Upload-Length": "-1"}, 400),
    ({"Upload-Length": "ten"}, 400),
    ({"Upload-Length": ""}, 400),
    ({"Upload-Length": "1e3"}, 400),
    ({"Upload-Length": "9" * 30}, 413),
    ({"Upload-Length": str(1024**4 + 1)}, 413),
    ({"Upload-Length": "5", "Upload-Defer-Length": "1"}, 400),
    ({"Upload-Metadata": "filename !!!"}, 400),
    ({"Upload-Metadata": "filename //79"}, 400),  # not UTF-8
    ({"Upload-Metadata": "a YQ==,a YQ=="}, 400),
    ({"Upload-Metadata": ""}, 400),
    ({"Upload-Metadata": metadata({"weights": "mine"})}, 400),
    ({"Upload-Metadata": metadata({"filename": "model.gguf"})}, 400),
    ({"Upload-Metadata": metadata({"filename": "model.gguf", "weights": "A name!"})}, 400),
    ({"Upload-Metadata": metadata({"filename": "model.gguf", "weights": "a" * 60})}, 400),
    ({"Upload-Metadata": metadata({"filename": "model.gguf", "weights": "mine", "sha256": "abc"})}, 400),
    ({"Upload-Metadata": "x" * 9000}, 400),
]
BAD_CHUNKS: list[tuple[dict[str, str], int]] = [
    ({"Content-Type": "application/octet-stream"}, 415),
    ({"Upload-Offset": "-1"}, 400),
    ({"Upload-Offset": "x"}, 400),
    ({"Upload-Offset": ""}, 400),
    ({"Upload-Offset": "5"}, 409),
    ({"Upload-Offset": "9" * 30}, 413),
    ({"Upload-Checksum": "md5 1B2M2Y8AsgTpgAmY7PhCfg=="}, 400),
    ({"Upload-Checksum": "sha256 !!!"}, 400),
    ({"Upload-Checksum": "sha256 AAAA"}, 400),
    ({"Upload-Checksum": checksum(b"other")}, 460),
    ({"Upload-Checksum": checksum(b"other", "sha1")}, 460),
]


def on_disk(folder: Path) -> bytes:
    (path,) = folder.iterdir()
    return path.read_bytes()


def test_options_say_what_is_offered_to_anybody(tus: Tus) -> None:
    answer = httpx.options(tus.url + UPLOADS)
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,checksum,termination,expiration"
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert int(answer.headers["tus-max-size"]) == 1024**4


def test_a_file_in_two_chunks(tus: Tus, uploads_dir: Path) -> None:
    made = tus.create(len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
    assert made.status_code == 201
    address = made.headers["location"]
    first = tus.patch(address, BODY[:1000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "1000")
    assert "upload-expires" in first.headers
    head = tus.http.head(address, headers=TUS)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("1000", str(len(BODY)))
    assert head.headers["cache-control"] == "no-store"
    assert head.headers["upload-metadata"].startswith("filename ")
    last = tus.patch(address, BODY[1000:], offset=1000, upload_checksum=checksum(BODY[1000:]))
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(BODY)))
    assert on_disk(uploads_dir) == BODY
    row = Upload.objects.get()
    assert (row.state, row.filename, row.draft.name, row.draft.team) == ("complete", "model.gguf", "mine", tus.team)


def test_another_version_of_the_protocol_is_not_processed(tus: Tus) -> None:
    address = tus.begun(10)
    headers = {"Upload-Length": "10", "Upload-Offset": "0", "Upload-Metadata": metadata({"weights": "x"})} | CHUNK
    for method, version in itertools.product(["POST", "HEAD", "PATCH", "DELETE"], ["", "0.2.2", "2.0.0"]):
        body = b"x" * 10 if method == "PATCH" else None
        where = UPLOADS if method == "POST" else address
        answer = tus.http.request(method, where, headers=headers | {"Tus-Resumable": version}, content=body)
        assert answer.status_code == 412, (method, version)
        assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert tus.offset(address) == 0


def test_a_creation_that_is_not_right_is_refused(tus: Tus, uploads_dir: Path) -> None:
    right = {"Upload-Length": "5", "Upload-Metadata": metadata({"weights": "mine", "filename": "model.gguf"})}
    for headers, status in BAD_CREATIONS:
        answer = tus.http.post(UPLOADS, headers=TUS | right | headers)
        assert answer.status_code == status, (headers, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.json()["detail"]) > 20
    assert not Upload.objects.exists()
    assert not uploads_dir.exists() or not list(uploads_dir.iterdir())


def test_a_chunk_that_is_not_right_changes_nothing(tus: Tus, uploads_dir: Path) -> None:
    address = tus.begun(10)
    for headers, status in BAD_CHUNKS:
        answer = tus.http.patch(address, content=b"0123456789", headers=_first_chunk() | headers)
        assert answer.status_code == status, (headers, answer.text)
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert len(answer.json()["detail"]) > 20
        assert tus.offset(address) == 0
        assert on_disk(uploads_dir) == b""
    assert tus.patch(address, b"0123456789").status_code == 204


def test_a_chunk_longer_than_the_file_is_refused_before_it_has_come(tus: Tus, uploads_dir: Path) -> None:
    address = tus.begun(10)
    with _raw_patch(tus, address, length=10**12) as line:
        assert line.recv(4000).startswith(b"HTTP/1.1 413 ")
    assert tus.http.patch(address, content=iter([b"x" * 8, b"x" * 8]), headers=_first_chunk()).status_code == 413
    assert on_disk(uploads_dir) == b""


def test_a_replayed_chunk_is_a_conflict_that_says_where_to_go_on(tus: Tus, uploads_dir: Path) -> None:
    address = tus.begun(10)
    assert tus.patch(address, b"01234").status_code == 204
    again = tus.patch(address, b"01234")
    assert (again.status_code, again.headers["upload-offset"]) == (409, "5")
    assert tus.patch(address, b"56789", offset=5).status_code == 204
    whole = tus.patch(address, b"56789", offset=5)
    assert (whole.status_code, whole.headers["upload-offset"]) == (409, "10")
    assert on_disk(uploads_dir) == b"0123456789"


@pytest.mark.parametrize("vouched", [False, True])
def test_of_a_cut_chunk_is_kept_what_came_or_nothing_if_a_checksum_vouched_for_it(
    tus: Tus, uploads_dir: Path, vouched: bool
) -> None:
    address = tus.begun(len(BODY))
    extra = f"Upload-Checksum: {checksum(BODY)}\r\n" if vouched else ""
    with _raw_patch(tus, address, length=len(BODY), extra=extra) as line:
        line.sendall(BODY[:600_000])
        assert tus.patch(address, BODY).status_code == 423
        line.shutdown(socket.SHUT_WR)
        line.recv(4000)
    _wait_for(lambda: not _is_written(tus, address))
    came = tus.offset(address)
    assert came == 0 if vouched else 0 < came <= 600_000
    assert tus.patch(address, BODY[came:], offset=came).status_code == 204
    assert on_disk(uploads_dir) == BODY


def test_of_two_patches_at_once_the_second_is_told_to_wait(tus: Tus, uploads_dir: Path) -> None:
    address = tus.begun(10)
    with _raw_patch(tus, address, length=10) as line:
        line.sendall(b"01234")
        assert tus.patch(address, b"0123456789").status_code == 423
        assert tus.http.delete(address, headers=TUS).status_code == 423
        line.sendall(b"56789")
        assert line.recv(4000).startswith(b"HTTP/1.1 204 ")
    assert on_disk(uploads_dir) == b"0123456789"


def test_many_at_once_never_mix_bytes(tus: Tus, uploads_dir: Path) -> None:
    address = tus.begun(len(BODY))
    seen: list[int] = []

    def send() -> None:
        with httpx.Client(base_url=tus.url, headers=tus.door, timeout=30) as http:
            answer = http.patch(address, content=BODY, headers=_first_chunk())
            seen.append(answer.status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count(204) == 1
    assert set(seen) <= {204, 409, 423}
    assert on_disk(uploads_dir) == BODY


def test_a_given_up_upload_is_gone_at_once(tus: Tus, uploads_dir: Path) -> None:
    address = tus.begun(10)
    tus.patch(address, b"01234")
    answer = tus.http.delete(address, headers=TUS)
    assert (answer.status_code, answer.headers["tus-resumable"]) == (204, "1.0.0")
    assert list(uploads_dir.iterdir()) == []
    assert tus.http.head(address, headers=TUS).status_code == 410
    assert tus.patch(address, b"56789", offset=5).status_code == 410
    assert tus.http.delete(address, headers=TUS).status_code == 410


def test_an_expired_upload_is_gone(tus: Tus) -> None:
    address = tus.begun(10)
    Upload.objects.update(expires_at=timezone.now())
    assert tus.http.head(address, headers=TUS).status_code == 410
    assert tus.patch(address, b"01234").status_code == 410


def test_a_method_may_be_overridden(tus: Tus) -> None:
    address = tus.begun(10)
    headers = _first_chunk() | {"X-HTTP-Method-Override": "PATCH"}
    assert tus.http.post(address, content=b"0123456789", headers=headers).status_code == 204
    assert tus.http.post(address, headers=TUS | {"X-HTTP-Method-Override": "DELETE"}).status_code == 204


def test_a_second_upload_of_a_file_takes_the_first_one_s_place(tus: Tus, uploads_dir: Path) -> None:
    first = tus.begun(10)
    second = tus.begun(20)
    assert tus.http.head(first, headers=TUS).status_code == 410
    assert tus.patch(second, b"x" * 20).status_code == 204
    assert on_disk(uploads_dir) == b"x" * 20


def test_an_empty_file_is_complete_at_once(tus: Tus) -> None:
    tus.begun(0, filename="merges.txt")
    assert Upload.objects.get().state == "complete"


def test_a_team_s_quota_counts_what_is_still_to_come(tus: Tus, settings: Any) -> None:
    settings.WEIGHTS_TEAM_QUOTA = 100
    tus.begun(60, filename="a.gguf")
    refused = tus.create(41, filename="b.gguf")
    assert refused.status_code == 413
    assert "100 bytes" in refused.json()["detail"]
    tus.begun(40, filename="b.gguf")
    tus.begun(60, filename="a.gguf")  # in the place of the first
    assert tus.create(1, filename="c.gguf").status_code == 413
    other = Tus(tus.url, TeamFactory(), "")
    other.key = keys.issue(other.team, name="x")[1]
    other.__post_init__()
    assert other.create(100).status_code == 201


def test_a_file_that_the_disk_has_no_room_for_is_refused_at_once(tus: Tus, settings: Any) -> None:
    settings.UPLOADS_KEEP_FREE = 10**18
    answer = tus.create(1)
    assert answer.status_code == 507
    assert "operator" in answer.json()["detail"]


@pytest.mark.parametrize(("chunk_size", "vouched"), [(200_000, True), (2**40, False)])
def test_tuspy_works_unmodified(tus: Tus, uploads_dir: Path, tmp_path: Path, chunk_size: int, vouched: bool) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(BODY)
    client = TusClient(tus.url + UPLOADS, headers=tus.door)
    said = {"filename": "model.gguf", "weights": "mine"}
    uploader = client.uploader(str(path), chunk_size=chunk_size, metadata=said, upload_checksum=vouched)
    if chunk_size < len(BODY):
        uploader.upload_chunk()
        uploader = client.uploader(str(path), chunk_size=chunk_size, url=uploader.url, upload_checksum=vouched)
        assert uploader.offset == chunk_size
    uploader.upload()
    assert on_disk(uploads_dir) == BODY


def test_another_team_s_upload_is_not_there(tus: Tus) -> None:
    address = tus.begun(10)
    _, key = keys.issue(TeamFactory(), name="x")
    headers = _first_chunk() | {"Authorization": f"Bearer {key}"}
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        body = b"x" if method == "PATCH" else None
        assert httpx.request(method, tus.url + address, headers=headers, content=body).status_code == 404, method
    assert tus.offset(address) == 0


def test_nobody_comes_in_without_a_key(tus: Tus) -> None:
    address = tus.begun(10)
    doors: list[dict[str, str]] = [{}, {"Authorization": "Bearer mp_nonsense"}]
    for method, door in itertools.product(["POST", "HEAD", "PATCH", "DELETE"], doors):
        headers = _first_chunk() | {"Upload-Length": "1"} | door
        where = tus.url + (UPLOADS if method == "POST" else address)
        answer = httpx.request(method, where, headers=headers, content=b"x" if method == "PATCH" else None)
        assert answer.status_code == 401, (method, door)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_s_session_needs_a_role_and_its_csrf_token(tus: Tus) -> None:
    for role, token in itertools.product(Role, [True, False]):
        _try_a_session(tus, role, token=token)


def _try_a_session(tus: Tus, role: Role, *, token: bool) -> None:
    address = tus.begun(10)
    client = Client(enforce_csrf_checks=True)
    client.force_login(MembershipFactory(team=tus.team, role=role).user)
    client.get("/keys/")
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    csrf = next(value for name, value in cookies.items() if "csrf" in name)
    headers = _first_chunk() | ({"X-CSRFToken": csrf} if token else {}) | {"Upload-Length": "5"}
    headers |= {"Upload-Metadata": metadata({"weights": "other", "filename": "model.gguf"})}
    may = token and role in {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
    with httpx.Client(base_url=tus.url, cookies=cookies) as http:
        assert http.head(address, headers=TUS).status_code == 200
        assert http.post(UPLOADS, headers=headers).status_code == (201 if may else 403)
        assert http.patch(address, content=b"0123456789", headers=headers).status_code == (204 if may else 403)
        assert http.delete(address, headers=headers).status_code == (204 if may else 403)


def _first_chunk() -> dict[str, str]:
    return TUS | CHUNK | {"Upload-Offset": "0"}


def _raw_patch(tus: Tus, address: str, *, length: int, extra: str = "") -> socket.socket:
    """A PATCH that the server has let in (it says 100 Continue then) and whose body has not been sent."""
    parts = urlsplit(tus.url)
    line = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)
    head = "".join(f"{name}: {value}\r\n" for name, value in (_first_chunk() | tus.door).items())
    head += f"Content-Length: {length}\r\nExpect: 100-continue\r\n{extra}"
    line.sendall(f"PATCH {address} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())
    if length <= len(BODY):
        assert line.recv(4000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return line


def _is_written(tus: Tus, address: str) -> bool:
    """Whether another request has it: a chunk that fits nowhere is then told to wait, else that it doesn't fit."""
    return {423: True, 409: False}[tus.patch(address, b"", offset=10**9).status_code]


def _wait_for(fact: Any) -> None:
    for _ in range(500):
        if fact():
            return
        threading.Event().wait(0.02)
    pytest.fail("it never came true")
