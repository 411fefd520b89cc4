"""What can go wrong with accounts.

AccountError
    UnknownTeam         no team has this slug
    UnknownKey          no key has this prefix
    NotAllowed          the role of who asks may not do this
    LastOwner           the team would have no owner left
    AlreadyThere        the person is a member, or invited, already
    DeadInvitation      the invitation is unknown, used up, taken back or too old
    TwoFactorRequired   the team asks its members for a second factor, and this one has none
    QuotaReached        the team has as much of something as it may
    NameTaken           a team that may not be touched has this name
"""


class AccountError(Exception):
    """The root of this app's errors; its text is for people."""


class UnknownTeam(AccountError):
    pass


class UnknownKey(AccountError):
    pass


class NotAllowed(AccountError):
    pass


class LastOwner(AccountError):
    pass


class AlreadyThere(AccountError):
    pass


class DeadInvitation(AccountError):
    pass


class TwoFactorRequired(AccountError):
    pass


class QuotaReached(AccountError):
    """`what` is the quota's name (accounts.models.Quota.What)."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__(text)
        self.what = what


class NameTaken(AccountError):
    pass
