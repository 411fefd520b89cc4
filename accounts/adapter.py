"""allauth's hooks: who may sign up, a team for each new user, mails that link to this portal alone, sealed secrets."""

from typing import Any
from urllib.parse import urljoin, urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from accounts import sealing, teams
from accounts.models import User

LINKS = ("password_reset_url", "activate_url", "signup_url", "join_url")


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGN_UP_OPEN)

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """The user with a team of their own, or neither."""
        with transaction.atomic():
            saved: User = super().save_user(request, user, form, commit)
            if commit:
                teams.create(saved, name=saved.email.split("@")[0])
        return saved

    def format_email_subject(self, subject: str) -> str:
        return f"[Modelport] {subject}"

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Links in mails lead to PUBLIC_URL: a forged Host header can't send their secrets elsewhere."""
        links = {name: _public(context[name]) for name in LINKS if context.get(name)}
        super().send_mail(template_prefix, email, context | links | {"public_url": settings.PUBLIC_URL})


class SocialAdapter(DefaultSocialAccountAdapter):
    """Who comes through the company's own provider may sign up where OIDC_SIGN_UP says so, SIGN_UP_OPEN or not."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return bool(settings.SIGN_UP_OPEN or settings.OIDC_SIGN_UP)

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """The user with a team of their own, or neither."""
        with transaction.atomic():
            saved: User = super().save_user(request, sociallogin, form)
            if not saved.teams.exists():
                teams.create(saved, name=saved.email.split("@")[0])
        return saved


class SecondFactorAdapter(DefaultMFAAdapter):
    """The secrets of second factors are sealed at rest."""

    def encrypt(self, text: str) -> str:
        return sealing.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.unseal(encrypted_text)


def _public(url: str) -> str:
    """The same path at PUBLIC_URL."""
    return urljoin(settings.PUBLIC_URL, urlsplit(url).path)
