"""How publishers of prices call the models that are hosted here."""

from collections.abc import Mapping

from catalog.models import Offer


def skus() -> Mapping[str, str]:
    """A published name -> our sku: the provider's own id for the model, alone and after the provider's name."""
    offers = Offer.objects.filter(path=Offer.Path.HOSTED).exclude(upstream_model="").select_related("model", "provider")
    found: dict[str, str] = {}
    for offer in offers:
        assert offer.provider is not None  # noqa: S101 - the database's own constraint
        found.setdefault(offer.upstream_model, offer.model.sku)
        found[f"{offer.provider.slug}/{offer.upstream_model}"] = offer.model.sku
    return found
