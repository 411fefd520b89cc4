"""A team's policy, read in one query; agreeing, and changing the policy, each with its line in the audit trail."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from uuid import UUID

from django.db import transaction
from django.db.models import Value

from accounts import audit
from accounts.models import Team
from catalog.errors import BadPolicy, LicenceRefused
from catalog.licensing import stating
from catalog.licensing.models import LicenceAgreement, LicencePolicy, LicenceRule, LicensedUse
from catalog.licensing.policy import Kind, Policy, Standing, Terms, Use, Verdict, of_kind
from catalog.models import Licence

LONGEST_NAME = 200


def policy_of(team_id: UUID) -> Policy:
    """All that decides for this team, in one query."""
    rules = LicenceRule.objects.filter(team=team_id).annotate(what=Value("rule"))
    uses = LicensedUse.objects.filter(team=team_id).annotate(what=Value("use"), rest=Value(""))
    agreed = LicenceAgreement.objects.filter(team=team_id).annotate(what=Value("agreed"))
    default = LicencePolicy.objects.filter(team=team_id).annotate(what=Value("default"), name=Value(""), rest=Value(""))
    rows = rules.order_by().values_list("what", "subject", "use", "verdict").union(
        uses.order_by().values_list("what", "name", "use", "rest"),
        agreed.order_by().values_list("what", "licence", "use", "text_sha256"),
        default.order_by().values_list("what", "name", "default_use", "rest"),
        all=True,
    )  # fmt: skip
    found: dict[str, list[tuple[str, str, str]]] = {"rule": [], "use": [], "agreed": [], "default": []}
    for what, subject, use, rest in rows:
        found[what].append((subject, use, rest))
    return Policy(
        default_use=found["default"][0][1] if found["default"] else Use.INTERNAL,
        rules={(subject, use): verdict for subject, use, verdict in found["rule"]},
        uses={name: use for name, use, _ in found["use"]},
        agreed=frozenset(found["agreed"]),
    )


def require(
    team: Team, terms: Iterable[Terms], *, use: str, model: str, brought_by: Mapping[Terms, str] = MappingProxyType({})
) -> None:
    """Raises LicenceRefused unless the team may use all of them so; Policy.refusal says what it names. The
    portal's own team is its operator: what it runs was decided by who set it up."""
    if team.is_platform:
        return
    if refusal := policy_of(team.pk).refusal(terms, use, model=model, brought_by=brought_by):
        raise LicenceRefused(refusal)


def standings(policy: Policy, terms: Iterable[Terms], use: str) -> list[Standing]:
    """Each as a page shows it, with its text."""
    return [policy.standing(stating.with_text(one), use) for one in terms]


def agree(team: Team, terms: Terms, *, use: str, model: str, actor: str) -> LicenceAgreement:
    """Kept for ever: who, when, for which use, to which text. Agreeing again to the same changes nothing."""
    with transaction.atomic():
        row, made = LicenceAgreement.objects.get_or_create(
            team=team,
            licence=terms.licence,
            use=use,
            text_sha256=terms.sha256,
            defaults={
                "licence_name": terms.name[:120],
                "text": stating.with_text(terms).text,
                "url": terms.url,
                "model": model,
                "agreed_by": actor,
            },
        )
        if made:
            audit.record(
                team, actor=actor, verb="agreed to the licence", subject=f"{terms.name}, for {use} use",
                after={"licence": terms.licence, "use": use, "text sha256": terms.sha256, "model": model},
            )  # fmt: skip
    return row


def set_default_use(team: Team, use: str, *, actor: str) -> None:
    with transaction.atomic():
        before = policy_of(team.pk).default_use
        if before == use:
            return
        LicencePolicy.objects.update_or_create(team=team, defaults={"default_use": use, "set_by": actor})
        audit.record(
            team, actor=actor, verb="set the default use", subject=use, before={"use": before}, after={"use": use}
        )


def set_use(team: Team, name: str, use: str, *, actor: str) -> None:
    """What this name is used for from now on; empty: the team's default."""
    if not 0 < len(name) <= LONGEST_NAME:
        raise BadPolicy("uses", f"A name has 1 to {LONGEST_NAME} characters.")
    with transaction.atomic():
        before = LicensedUse.objects.filter(team=team, name=name).values_list("use", flat=True).first()
        if (before or "") == use:
            return
        if use:
            LicensedUse.objects.update_or_create(team=team, name=name, defaults={"use": use, "set_by": actor})
        else:
            LicensedUse.objects.filter(team=team, name=name).delete()
        audit.record(
            team, actor=actor, verb="set the use of", subject=f"{name}: {use or 'the default'}",
            before={"use": before or "the default"}, after={"use": use or "the default"},
        )  # fmt: skip


def set_rules(team: Team, wished: Mapping[tuple[str, str], str], *, actor: str) -> int:
    """(subject, use) -> verdict; empty: as its kind, or as the default. How many were changed. Raises BadPolicy."""
    _check_subjects({subject for subject, _ in wished})
    with transaction.atomic():
        rows = {(row.subject, row.use): row.verdict for row in LicenceRule.objects.filter(team=team)}
        changed = {key: verdict for key, verdict in wished.items() if rows.get(key, "") != verdict}
        for (subject, use), verdict in sorted(changed.items()):
            if verdict:
                LicenceRule.objects.update_or_create(
                    team=team, subject=subject, use=use, defaults={"verdict": Verdict(verdict)}
                )
            else:
                LicenceRule.objects.filter(team=team, subject=subject, use=use).delete()
            audit.record(
                team, actor=actor, verb="set the licence policy", subject=f"{subject}, {use}: {verdict or 'default'}",
                before={"verdict": rows.get((subject, use)) or "the default"},
                after={"verdict": verdict or "the default"},
            )  # fmt: skip
    return len(changed)


def _check_subjects(subjects: set[str]) -> None:
    kinds = {of_kind(kind) for kind in Kind.values}
    slugs = subjects - kinds
    known = set(Licence.objects.filter(slug__in=slugs).values_list("slug", flat=True))
    if unknown := sorted(slugs - known):
        raise BadPolicy("rules", f"There is no licence {unknown[0][:60]!r}, and no kind of that name.")
