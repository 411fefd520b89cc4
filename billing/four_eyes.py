"""Who drafts what changes bills does not decide about it alone, where somebody else could."""

from django.contrib.auth.models import Permission
from django.db.models import Q

from accounts.models import User


def others(actor: str, *, permission: str) -> bool:
    """Whether another active admin than this one (an e-mail) may do it: `billing.change_pricedraft`, say."""
    app, _, name = permission.partition(".")
    wanted = Permission.objects.filter(content_type__app_label=app, codename=name)
    may = Q(is_superuser=True) | Q(user_permissions__in=wanted) | Q(groups__permissions__in=wanted)
    return User.objects.filter(may, is_staff=True, is_active=True).exclude(email=actor).exists()
