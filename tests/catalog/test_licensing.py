"""Licence x use -> allow, ask or deny: the table, a team's own rules, and what an agreement is to."""

import hashlib
import itertools

import pytest
from django.db import IntegrityError, transaction

from catalog.licensing import agreements, stating
from catalog.licensing.models import LicenceAgreement, LicenceText
from catalog.licensing.policy import DEFAULTS, Kind, Policy, Terms, Use, Verdict, of_kind
from catalog.models import Licence, Weights
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import own_weights, smollm2

LLAMA = Terms("llama", "Llama", Kind.CONDITIONS, "words", "", "text", "a" * 64)
# kind -> what it means for internal, product and resale use where a team has said nothing.
TABLE = {
    "permissive": "allow allow allow",
    "provider": "allow allow allow",
    "conditions": "ask ask ask",
    "noncommercial": "ask deny deny",
    "unknown": "ask ask ask",
    "own": "allow allow allow",
}


def terms(kind: str, sha256: str = "a" * 64) -> Terms:
    return Terms("some", "Some", kind, "", "", "text", sha256)


@pytest.mark.parametrize(("kind", "verdicts"), TABLE.items())
def test_each_kind_has_its_default_for_each_use(kind: str, verdicts: str) -> None:
    policy = Policy()
    assert [policy.verdict(terms(kind), use) for use in Use] == verdicts.split()
    assert set(TABLE) == set(Kind.values) == set(DEFAULTS)


CASES = itertools.product(Kind.values, Use.values, ["", *Verdict.values], ["", *Verdict.values], [False, True])


def test_the_licences_own_rule_counts_before_its_kinds_and_that_before_the_default() -> None:
    for kind, use, rule, by_kind, agreed in CASES:
        said = {("some", use): rule, (of_kind(kind), use): by_kind}
        rules = {key: verdict for key, verdict in said.items() if verdict}
        policy = Policy(rules=rules, agreed=frozenset({("some", use, "a" * 64)} if agreed else ()))
        counts = rule or by_kind or TABLE[kind].split()[Use.values.index(use)]
        assert policy.verdict(terms(kind), use) == counts
        is_open = counts == "allow" or (counts == "ask" and agreed)
        assert policy.is_open([terms(kind)], use) is is_open, (kind, use, rule, by_kind, agreed)
        assert (policy.refusal([terms(kind)], use, model="m") is None) is is_open


def test_an_agreement_is_for_one_use_to_one_text() -> None:
    policy = Policy(agreed=frozenset({("llama", "internal", LLAMA.sha256)}))
    changed = Terms("llama", "Llama", Kind.CONDITIONS, "words", "", "another text", "b" * 64)
    assert policy.is_open([LLAMA], "internal")
    assert not policy.is_open([LLAMA], "product")
    assert not policy.is_open([changed], "internal")
    assert policy.standing(changed, "internal").changed
    assert not policy.standing(LLAMA, "product").changed
    refusal = policy.refusal([changed], "internal", model="llama-8b")
    assert refusal
    assert "has changed" in refusal.text()
    assert "/licences/agree/?model=llama-8b&use=internal" in refusal.text()


def test_of_several_licences_all_must_be_open_and_a_denied_one_is_named_first() -> None:
    banned = terms("noncommercial")
    refusal = Policy().refusal([LLAMA, banned], "product", model="m")
    assert refusal
    assert (refusal.code, refusal.standing.terms) == ("licence_denied", banned)
    assert not Policy(agreed=frozenset({("llama", "product", LLAMA.sha256)})).is_open([LLAMA, banned], "product")


def test_a_use_is_the_aliass_then_the_models_then_the_teams() -> None:
    policy = Policy(default_use="resale", uses={"team/chat": "product", "gpt": "internal"})
    assert [policy.use_of("team/chat", "gpt"), policy.use_of("", "gpt"), policy.use_of("", "other")] == [
        "product",
        "internal",
        "resale",
    ]


@pytest.mark.django_db
def test_what_a_team_has_said_is_read_as_it_was_written(django_assert_num_queries: object) -> None:
    team, other = TeamFactory(), TeamFactory()
    Licence.objects.create(slug="llama", name="Llama")
    agreements.set_rules(team, {("kind:unknown", "resale"): "deny", ("llama", "product"): "allow"}, actor="a")
    agreements.set_default_use(team, "product", actor="a")
    agreements.set_use(team, "gpt", "resale", actor="a")
    agreements.agree(team, LLAMA, use="internal", model="llama-8b", actor="ada@example.com")
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = agreements.policy_of(team.pk)
    assert found == Policy(
        "product",
        {("kind:unknown", "resale"): "deny", ("llama", "product"): "allow"},
        {"gpt": "resale"},
        frozenset({("llama", "internal", "a" * 64)}),
    )
    assert agreements.policy_of(other.pk) == Policy()
    verbs = set(team.audit_events.values_list("verb", flat=True))
    assert verbs == {"set the licence policy", "set the default use", "set the use of", "agreed to the licence"}


@pytest.mark.django_db
def test_an_agreement_is_kept_once_and_can_neither_be_changed_nor_removed() -> None:
    team = TeamFactory()
    first = agreements.agree(team, LLAMA, use="internal", model="m", actor="ada")
    assert agreements.agree(team, LLAMA, use="internal", model="n", actor="bob") == first
    assert (first.agreed_by, first.text, first.text_sha256) == ("ada", "text", LLAMA.sha256)
    with pytest.raises(IntegrityError), transaction.atomic():
        LicenceAgreement.objects.update(agreed_by="eve")
    with pytest.raises(IntegrityError), transaction.atomic():
        LicenceAgreement.objects.all().delete()


@pytest.mark.django_db
def test_terms_change_with_the_licences_text_and_with_the_weights_licence() -> None:
    smollm2()
    weights = Weights.objects.get()
    (before,) = stating.of_weights(weights)
    LicenceText(licence=Licence.objects.get(), text="The whole text.").save()
    (whole,) = stating.of_weights(Weights.objects.get())
    assert (before.is_whole, whole.is_whole, whole.text) == (False, True, "")
    assert stating.with_text(whole).text == "The whole text."
    assert whole.sha256 == hashlib.sha256(b"The whole text.").hexdigest() != before.sha256
    row = agreements.agree(TeamFactory(), whole, use="internal", model="m", actor="a")
    assert row.text == "The whole text."
    LicenceText.objects.get().delete()
    assert stating.of_weights(Weights.objects.get()) == (before,)
    weights.licence = Licence.objects.create(slug="nc", name="NC", commercial_use=False)
    assert [(one.licence, one.kind) for one in stating.of_weights(weights)] == [("nc", "noncommercial")]


@pytest.mark.django_db
def test_two_unknown_licences_are_not_one() -> None:
    smollm2()
    unknown = Licence.objects.create(slug="see-its-page", name="As its page says")
    one, two = Weights.objects.get(), Weights.objects.get()
    one.licence = two.licence = unknown
    one.facts, two.facts = {"licence_said": "house rules"}, {"licence_said": "other rules"}
    (first,), (second,) = stating.of_weights(one), stating.of_weights(two)
    assert (first.kind, first.name) == ("unknown", "As its page says: house rules")
    assert first.sha256 != second.sha256


@pytest.mark.django_db
def test_an_adapter_runs_under_its_bases_licence_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    smollm2()
    base = Weights.objects.get()
    Licence.objects.filter(slug="apache-2-0").update(commercial_use=None)
    adapter = own_weights(TeamFactory(), tmp_path / "lora", {"a.safetensors": b"x"}, base=base)
    adapter.licence = Licence.objects.create(slug="mine", name="Mine", commercial_use=True)
    adapter.base = Weights.objects.get(pk=base.pk)
    assert [one.licence for one in stating.of_weights(adapter)] == ["mine", "apache-2-0"]


@pytest.mark.django_db
def test_what_a_team_uploaded_with_no_licence_is_its_own(tmp_path) -> None:  # type: ignore[no-untyped-def]
    weights = own_weights(TeamFactory(), tmp_path / "mine", {"a.gguf": b"x"})
    weights.licence = Licence.objects.create(slug="not-stated", name="Not stated")
    weights.source_kind = Weights.SourceKind.UPLOAD
    assert [one.kind for one in stating.of_weights(weights)] == ["own"]
