"""What can go wrong with accounts.

AccountError
    UnknownTeam   no team has this slug
    UnknownKey    no key has this prefix
    NameTaken     a team that may not be touched has this name
"""


class AccountError(Exception):
    """The root of this app's errors; its text is for people."""


class UnknownTeam(AccountError):
    pass


class UnknownKey(AccountError):
    pass


class NameTaken(AccountError):
    pass
