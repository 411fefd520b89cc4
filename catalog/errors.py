"""What can go wrong with the library.

CatalogError
    BadStarter   the starter catalog or the weights that it names are not what they should be
    BadWeights   a file that no engine should be given; the text says what is wrong with it
"""


class CatalogError(Exception):
    """The root of this app's errors; its text is for people."""


class BadStarter(CatalogError):
    pass


class BadWeights(CatalogError):
    pass
