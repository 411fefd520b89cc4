"""portal.asgi:gateway with nothing written down: what the same calls cost without durable reserve and settle."""

from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

from portal import asgi  # isort: skip  it sets Django up

from billing.metering import Call, Receipt, Settlement
from billing.posting import LetIn
from gateway import runtime


class MemoryBatcher:
    """What gateway.runtime asks of billing.batching.Batcher, answered at once."""

    def __init__(self, conninfo: str) -> None:
        self._calls: dict[UUID, Call] = {}

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def reserve(self, call: Call) -> LetIn:
        self._calls[call.id] = call
        return LetIn(capped=True)

    async def settle(self, settlement: Settlement) -> Receipt:
        call = self._calls.pop(settlement.id)
        cost = sum((call.prices[meter] * many for meter, many in settlement.quantities.items() if many), Decimal(0))
        return Receipt(settlement.id, cost, ())

    async def void(self, reservation_id: UUID) -> None:
        self._calls.pop(reservation_id, None)

    async def renew(self, ids_to_estimates: Mapping[UUID, Mapping[str, Decimal]], lease_s: int) -> None: ...


runtime.Batcher = MemoryBatcher  # type: ignore[assignment,misc]
gateway = asgi.gateway
