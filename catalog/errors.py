"""What can go wrong with the library.

CatalogError
    BadStarter    the starter catalog or the weights that it names are not what they should be
    BadWeights    a file that no engine should be given; the text says what is wrong with it
    IllegalMove   somebody else moved the weights first, or the move does not exist
    Refused       weights that the portal won't take; the text says why and what to do
        OverQuota     they are larger than what the team may still store
    InUse         weights that something still needs
    BadPolicy     a licence policy names what does not exist; `field` says where
    LicenceRefused  the team's licence policy does not let a model be used so; `refusal` says why and what to do
    BucketAway    the bucket that keeps all content could not be read or written
    HubError      the Hub could not be asked, or did not answer as it should
        Stalled       it sent nothing for too long, or broke off again and again
"""

from catalog.licensing.policy import Refusal


class CatalogError(Exception):
    """The root of this app's errors; its text is for people."""


class BadStarter(CatalogError):
    pass


class BadWeights(CatalogError):
    pass


class IllegalMove(CatalogError):
    pass


class Refused(CatalogError):
    """`code` is for programs, `field` names what was asked for wrongly."""

    def __init__(self, text: str, *, code: str = "refused", field: str = "repo") -> None:
        super().__init__(text)
        self.code = code
        self.field = field


class OverQuota(Refused):
    pass


class InUse(CatalogError):
    pass


class BadPolicy(CatalogError):
    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class LicenceRefused(CatalogError):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text())
        self.refusal = refusal


class BucketAway(CatalogError):
    pass


class HubError(CatalogError):
    pass


class Stalled(HubError):
    pass
