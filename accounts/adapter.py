"""allauth's hooks: a new user gets a team of their own, so that the first page is never a dead end."""

from allauth.account.adapter import DefaultAccountAdapter


class AccountAdapter(DefaultAccountAdapter):
    pass
