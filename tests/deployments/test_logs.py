"""Logs: without secrets and colours, in pieces, searched, followed, kept after death."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts import keys, sealing
from deployments import logs, masking, operations
from deployments.backends import backends, local_shim
from deployments.models import Deployment, Replica
from tests.deployments.portals import Portal
from tests.deployments.processes import wait_until
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import smollm2

KEY = "kQ3-vY_9secretsecretsecretsecretsecretsecret"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m and \x1b[1;4mbold", "red and bold"),
        ("\x1b]0;a title\x07text\x00\x08", "text"),
        ("10 %\r55 %\rdone", "done"),
        ("a line\r", "a line"),
        (f"started with {KEY}!", "started with [secret]!"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [secret]"),
        ("api_key=zyx987654 next", "api_key=[secret] next"),
        ('"password": "hunter22"', '"password": "[secret]"'),
        ("token hf_ABCDEFGHIJKLMNOPQRST here", "token [secret] here"),
        ("mp_XxNajtrO_8Y5XecZKX0JwjqcFbumb", "[secret]"),
        ("eval time = 517.80 ms / 30 tokens", "eval time = 517.80 ms / 30 tokens"),
        ("n_tokens: 44, secrets of the trade", "n_tokens: 44, secrets of the trade"),
    ],
)
def test_what_a_line_looks_like(raw: str, shown: str) -> None:
    assert masking.clean(raw, secrets=[KEY]) == shown


@pytest.fixture
def row(db: None, small_portal: Portal) -> Deployment:
    model, hardware = smollm2()
    return operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="t", name="a")


def written(portal: Portal, row: Deployment, text: str, *, aside: str = "", before: int = 0, **fields: Any) -> Replica:
    """A replica with this log; `aside` is what was turned over last, after `before` bytes that are gone."""
    replica = Replica.objects.create(deployment=row, **fields)
    folder = portal.root / replica.name
    folder.mkdir(parents=True)
    (folder / "engine.log").write_text(text)
    if aside:
        (folder / "engine.log.1").write_text(aside)
        (folder / "log_at").write_text(json.dumps({"bytes": before + len(aside)}))
    return replica


def texts(part: logs.Part) -> list[str]:
    return [line.text for line in part.lines]


def test_it_is_read_backwards_in_pieces_that_add_up(
    small_portal: Portal, row: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"line {n} {'x' * (n % 90)}" for n in range(200)]
    cut = "\n".join(lines[:120]) + "\n"
    replica = written(small_portal, row, "\n".join(lines[120:]) + "\n", aside=cut, before=1000)
    for chunk in (64, 1000, 10**6):
        monkeypatch.setattr(logs, "CHUNK", chunk)
        found: list[str] = []
        before: int | None = None
        while True:
            part = logs.last(row, replica, lines=37, before=before)
            found = texts(part) + found
            before = part.begins
            if before is None:
                break
        assert found == lines
        assert part.lines[0].at == 1000


def test_a_search_finds_in_any_case_and_not_what_is_hidden(small_portal: Portal, row: Deployment) -> None:
    text = f"Loading A\nother\n\x1b[1mlo\x1b[0mading B\nkey {KEY}\n" + "noise\n" * 500
    replica = written(small_portal, row, text, sealed_key=sealing.seal(KEY))
    assert texts(logs.last(row, replica, lines=10, q="LOADING")) == ["Loading A", "loading B"]
    assert texts(logs.last(row, replica, lines=1, q="loading")) == ["loading B"]
    assert logs.last(row, replica, lines=10, q=KEY[:12]).lines == ()


def test_what_is_followed_is_given_once_in_whole_lines(small_portal: Portal, row: Deployment) -> None:
    replica = written(small_portal, row, "one\ntwo\nthr")
    part = logs.last(row, replica, lines=10)
    assert texts(part) == ["one", "two"]
    with (small_portal.root / replica.name / "engine.log").open("a") as file:
        file.write("ee\nfour\n")
    part = logs.after(row, replica, part.ends)
    assert texts(part) == ["three", "four"]
    assert logs.after(row, replica, part.ends).lines == ()


def test_a_dead_engines_last_words_are_shown_without_a_lines_end(small_portal: Portal, row: Deployment) -> None:
    replica = written(small_portal, row, "one\nterminate called", exited_at=row.created_at)
    assert texts(logs.last(row, replica, lines=10)) == ["one", "terminate called"]
    assert "".join(logs.whole(row, replica)) == "one\nterminate called\n"


def test_who_lags_behind_gets_the_end_and_is_told(
    small_portal: Portal, row: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "CHUNK", 100)
    replica = written(small_portal, row, "".join(f"line {n}\n" for n in range(100)))
    part = logs.after(row, replica, 0)
    assert part.skipped
    assert texts(part)[-1] == "line 99"
    assert all(text.startswith("line ") for text in texts(part))


def test_a_log_that_was_turned_over_keeps_its_positions(
    small_portal: Portal, row: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = written(small_portal, row, "one\ntwo\n")
    ends = logs.last(row, replica, lines=1).ends
    folder = small_portal.root / replica.name
    monkeypatch.chdir(folder)
    monkeypatch.setattr(local_shim, "LARGEST_LOG", 4)
    local_shim.keep_log_small()
    with (folder / "engine.log").open("a") as file:
        file.write("three\n")
    assert texts(logs.after(row, replica, ends)) == ["three"]
    assert texts(logs.last(row, replica, lines=9)) == ["one", "two", "three"]


@pytest.mark.django_db(transaction=True)
def test_the_engines_key_is_in_nothing_that_is_shown_or_kept(small_portal: Portal) -> None:
    small_portal.behave("--tell-key")
    row = small_portal.awake("a")
    replica = small_portal.live(row)[0]
    key = sealing.unseal(replica.sealed_key)
    path = small_portal.root / replica.name / "engine.log"
    assert key in path.read_text(), "or this test says nothing"
    assert key not in "".join(backends["local"].log(replica.name, lines=99))
    assert key not in "".join(logs.whole(row, replica))
    assert key not in "".join(logs.tail(row, replica, lines=99))
    operations.stop(row, actor="t")
    small_portal.settle(row)
    wait_until(lambda: not (path.parent / "key").exists())
    assert key not in path.read_text()
    assert "the key is ****" in path.read_text()


@pytest.fixture
def signed_in(client: Client, row: Deployment) -> Client:
    client.force_login(MembershipFactory(team=row.team).user)
    return client


def test_the_page_marks_what_was_searched_for_and_escapes_the_rest(
    signed_in: Client, small_portal: Portal, row: Deployment
) -> None:
    written(small_portal, row, "a <b>bold</b> line & more\nnothing\n")
    page = signed_in.get(f"/deployments/{row.pk}/logs/?q=BOLD").content.decode()
    assert "a &lt;b&gt;<mark>bold</mark>&lt;/b&gt; line &amp; more" in page
    assert "nothing" not in page.split('<pre id="log"')[1].split("</pre>")[0]


def test_a_dead_replicas_log_can_be_chosen_and_taken_along(
    signed_in: Client, small_portal: Portal, row: Deployment
) -> None:
    dead = written(small_portal, row, "the old one\n", exited_at=row.created_at)
    written(small_portal, row, "the new one\n", ordinal=1)
    assert "the new one" in signed_in.get(f"/deployments/{row.pk}/logs/").content.decode()
    old = signed_in.get(f"/deployments/{row.pk}/logs/?replica={dead.pk}").content.decode()
    assert "the old one" in old
    assert "This engine has ended. Its log is kept for 14 days." in old
    text = signed_in.get(f"/deployments/{row.pk}/logs/engine.log?replica={dead.pk}")
    assert b"".join(text.streaming_content) == b"the old one\n"  # type: ignore[attr-defined, arg-type]
    assert "attachment" in text.headers["content-disposition"]
    for bad in ("nonsense", "00000000-0000-0000-0000-000000000000"):
        assert signed_in.get(f"/deployments/{row.pk}/logs/engine.log?replica={bad}").status_code == 404


def test_a_page_without_a_stream_asks_for_more_lines(signed_in: Client, small_portal: Portal, row: Deployment) -> None:
    first = written(small_portal, row, "one\n")
    more = signed_in.get(f"/deployments/{row.pk}/logs/more?ends=0&of={first.pk}").json()
    assert ("one" in more["html"], more["ends"], more["replica"]) == (True, 4, str(first.pk))
    second = written(small_portal, row, "another\n", ordinal=1)
    more = signed_in.get(f"/deployments/{row.pk}/logs/more?ends=4&of={first.pk}").json()
    assert ("another" in more["html"], more["replica"]) == (True, str(second.pk))


def test_the_api_reads_logs_by_replica_by_word_and_backwards(
    client: Client, small_portal: Portal, row: Deployment
) -> None:
    dead = written(small_portal, row, "".join(f"line {n}\n" for n in range(10)), exited_at=row.created_at)
    _, key = keys.issue(row.team, name="k")

    def ask(query: str) -> Any:
        door = {"authorization": f"Bearer {key}"}
        return client.get(f"/api/v1/deployments/{row.pk}/logs{query}", headers=door)

    found = ask("?lines=3").json()
    assert (found["replica"], found["lines"]) == (str(dead.pk), ["line 7", "line 8", "line 9"])
    assert ask(f"?lines=2&before={found['before']}").json()["lines"] == ["line 5", "line 6"]
    assert ask(f"?replica={dead.pk}&q=LINE 4").json() == {"replica": str(dead.pk), "lines": ["line 4"], "before": None}
    assert ask("?lines=0").status_code == 400
    assert ask("?lines=1001").status_code == 400
    assert ask("?replica=00000000-0000-0000-0000-000000000000").status_code == 404
    Replica.objects.all().delete()
    assert ask("").json() == {"replica": None, "lines": [], "before": None}


def test_an_unknown_engine_has_an_empty_log(small_portal: Portal, row: Deployment, tmp_path: Path) -> None:
    replica = Replica.objects.create(deployment=row)
    assert logs.last(row, replica, lines=5).lines == ()
    assert list(logs.whole(row, replica)) == []


def test_a_secret_is_hidden_wherever_a_line_is_cut(small_portal: Portal, row: Deployment) -> None:
    text = "".join(f"{'x' * (300 - shift)}{KEY}\n" for shift in range(1, len(KEY)))
    replica = written(small_portal, row, text, sealed_key=sealing.seal(KEY))
    for lines in (1, 12, 40):
        found = logs.tail(row, replica, lines=lines)
        assert len(found) == lines
        assert {line.lstrip("x") for line in found} <= {masking.MASK[:n] for n in range(len(masking.MASK) + 1)}


def test_each_line_of_a_secret_of_several_lines_is_hidden(small_portal: Portal, row: Deployment) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n"
    assert row.version
    row.version.sealed_secrets = {"PEM": sealing.seal(pem)}
    row.version.save()
    replica = written(small_portal, row, f"read {pem} and {pem!r}\n", version=row.version)
    assert "MC4CAQ" not in "".join(texts(logs.last(row, replica, lines=10)) + logs.tail(row, replica, lines=9))
