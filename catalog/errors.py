"""What can go wrong with the library.

CatalogError
    BadStarter   the starter catalog or the weights that it names are not what they should be
"""


class CatalogError(Exception):
    """The root of this app's errors; its text is for people."""


class BadStarter(CatalogError):
    pass
