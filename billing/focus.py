"""A month as FOCUS 1.2, the FinOps Foundation's open format for cost and usage.

One row per day (of the team's time zone, its bounds in UTC), sku, meter, price, model, deployment, key, member
and tag. A credit, what is given back of one (an Adjustment, too) and a correction are rows of their own, without
quantities: a correction's "price" may be negative, which FOCUS has no room for. ChargeClass is "Correction" where what
it corrects stood on an earlier invoice. InvoiceId is empty until the month is closed. Numbers are decimals with a point
and never an exponent; what is absent is empty.

What is claimed: CRITERIA. A deployment is a resource; the price list is the price book's; team discounts are the
negotiated prices.
"""

from collections.abc import Iterator
from datetime import datetime

from psycopg import sql

from billing import copying
from billing.scope import Day, Scope

CRITERIA = (
    "ACCOUNT_NAMING_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
)
_USAGE = "g.kind = 'usage'"
# A column's name and the SQL of its cell, over a group g of ledger rows and its day d; {...} are filled in by query().
CELLS = {
    "BillingAccountId": "{account}",
    "BillingAccountName": "{account_name}",
    "BillingCurrency": "g.currency",
    "BillingPeriodStart": "{begins}",
    "BillingPeriodEnd": "{ends}",
    "InvoiceId": "{invoice}",
    "InvoiceIssuerName": "{issuer}",
    "ProviderName": "{issuer}",
    "PublisherName": "{issuer}",
    "ChargePeriodStart": "d.begins",
    "ChargePeriodEnd": "d.ends",
    "ChargeCategory": (
        "CASE WHEN g.kind = 'usage' THEN 'Usage' WHEN g.kind = 'credit' AND g.amount < 0 THEN 'Credit' "
        "ELSE 'Adjustment' END"
    ),
    "ChargeClass": "CASE WHEN g.corrects_billed THEN 'Correction' END",
    "ChargeDescription": "{description}",
    "ChargeFrequency": f"CASE WHEN {_USAGE} THEN 'Usage-Based' ELSE 'One-Time' END",
    "ServiceCategory": "'AI and Machine Learning'",
    "ServiceSubcategory": "'Generative AI'",
    "ServiceName": (
        "CASE g.path WHEN 'hosted' THEN 'Hosted models' WHEN 'serverless' THEN 'Serverless deployments' "
        "ELSE 'Modelport' END"
    ),
    "SkuId": "{sku}",
    "SkuMeter": "CASE WHEN g.sku <> '' THEN nullif(g.meter, '') END",
    "SkuPriceId": "{sku}",
    "SkuPriceDetails": "NULL",
    "PricingCategory": f"CASE WHEN {_USAGE} THEN 'Standard' END",
    "PricingQuantity": f"CASE WHEN {_USAGE} THEN {{quantity}} END",
    "PricingUnit": f"CASE WHEN {_USAGE} THEN {{unit}} END",
    "PricingCurrency": "g.currency",
    "PricingCurrencyListUnitPrice": f"CASE WHEN {_USAGE} THEN {{list_price}} END",
    "PricingCurrencyContractedUnitPrice": f"CASE WHEN {_USAGE} THEN {{price}} END",
    "PricingCurrencyEffectiveCost": "{cost}",
    "ListUnitPrice": f"CASE WHEN {_USAGE} THEN {{list_price}} END",
    "ListCost": "{list_cost}",
    "ContractedUnitPrice": f"CASE WHEN {_USAGE} THEN {{price}} END",
    "ContractedCost": "{cost}",
    "EffectiveCost": "{cost}",
    "BilledCost": "{cost}",
    "ConsumedQuantity": f"CASE WHEN {_USAGE} THEN {{quantity}} END",
    "ConsumedUnit": f"CASE WHEN {_USAGE} THEN {{unit}} END",
    "CommitmentDiscountStatus": "NULL",
    "ResourceId": "{deployment}",
    "ResourceName": "{deployment}",
    "ResourceType": "CASE WHEN g.deployment_name <> '' THEN 'Model deployment' END",
    "Tags": "CASE WHEN g.tag <> '' THEN jsonb_build_object('tag', g.tag)::text END",
    "x_Path": "nullif(g.path, '')",
    "x_ModelName": "{model}",
    "x_ApiKeyName": "{key}",
    "x_Member": "{member}",
    "x_SourceName": "{source}",
    "x_Kind": "g.kind",
    "x_Reason": "{reason}",
    "x_Day": "d.day",
    "x_TimeZone": "{zone}",
    "x_LedgerEntries": "g.entries",
    "x_MeasuredPercent": f"CASE WHEN {_USAGE} THEN {{measured}} END",
}
COLUMNS = tuple(CELLS)
UNITS = {"tokens": "Tokens", "compute": "Seconds", "requests": "Requests"}


def as_csv(scope: Scope) -> Iterator[bytes]:
    """The file in pieces. The same bytes each time, once the month is closed."""
    return copying.as_chunks(COLUMNS, copying.rows(query(scope)))


def query(scope: Scope) -> sql.Composable:
    days = scope.days()
    filled = {
        "account": sql.Literal(str(scope.team_id)),
        "account_name": sql.Literal(copying.safe(scope.team_name)),
        "begins": sql.Literal(_utc(scope.begins)),
        "ends": sql.Literal(_utc(scope.ends)),
        "invoice": sql.Literal(scope.number or None),
        "issuer": sql.Literal(copying.safe(scope.issuer)),
        "zone": sql.Literal(scope.zone),
        "sku": sql.SQL("CASE WHEN g.sku <> '' THEN g.sku || '/' || g.meter END"),
        "description": _description(),
        "quantity": _decimal("g.quantity"),
        "price": _decimal("g.unit_price"),
        "list_price": _decimal("g.list_price"),
        "cost": _decimal("g.amount"),
        "list_cost": _decimal(f"CASE WHEN {_USAGE} THEN g.quantity * g.list_price ELSE g.amount END"),
        "measured": _decimal("trunc((g.entries - g.estimated) * 100.0 / g.entries, 1)"),
        "unit": _unit(),
        "deployment": copying.text("g.deployment_name"),
        "model": copying.text("g.model_name"),
        "key": copying.text("g.api_key_name"),
        "member": copying.text("g.member"),
        "source": copying.text("g.source"),
        "reason": copying.text("g.reason"),
    }
    cells = sql.SQL(", ").join(sql.SQL(cell).format(**filled) for cell in CELLS.values())
    return sql.SQL(
        "WITH g AS ({groups}), d(number, day, begins, ends) AS (VALUES {days}) "
        "SELECT {cells} FROM g JOIN d ON d.number = g.number ORDER BY g.number, g.first"
    ).format(groups=_groups(scope, days), days=_days(scope, days), cells=cells)


def _groups(scope: Scope, days: list[Day]) -> sql.Composable:
    """Usage by day and everything that a row names; each credit and each correction by itself."""
    found = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT e.* FROM billing_ledgerentry e WHERE {}").format(branch) for branch in scope.branches()
    )
    return sql.SQL(
        "SELECT greatest(1, width_bucket(e.at, ARRAY[{begins}])) AS number, e.path, e.sku, e.source, e.model_name,"
        " e.deployment_name, e.api_key_name, e.member, e.tag, e.meter, e.unit_price,"
        " coalesce(e.list_price, e.unit_price) AS list_price, e.currency, e.kind, e.reason,"
        " {corrects_billed} AS corrects_billed, min(e.id) AS first, count(*) AS entries,"
        " count(*) FILTER (WHERE e.quality = 'estimated') AS estimated,"
        " sum(e.quantity) AS quantity, sum(e.amount) AS amount "
        "FROM ({found}) e {joined} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,"
        " CASE WHEN e.kind = 'usage' THEN 0 ELSE e.id END"
    ).format(
        begins=copying.literals(moment for _, moment in days),
        found=found,
        joined=sql.SQL(_CORRECTED),
        corrects_billed=_corrects_billed(scope),
    )


# What a correction corrects, or is given back of: a ledger row, or all of an event.
_CORRECTED = """
LEFT JOIN billing_ledgerentry c ON c.id = e.corrects_id
LEFT JOIN billing_usageevent v ON e.kind = 'correction' AND v.id = e.event_id
"""


def _corrects_billed(scope: Scope) -> sql.Composable:
    """Whether it stands on an invoice of an earlier month: nothing that happens later changes that."""
    return sql.SQL(
        "e.kind <> 'usage' AND EXISTS (SELECT FROM billing_invoice i WHERE i.team_id = {team}"
        " AND i.month < {month} AND coalesce(c.at, v.started_at) < i.ends AND coalesce(c.id, 0) <= i.upto)"
    ).format(team=sql.Literal(scope.team_id), month=sql.Literal(scope.month.first))


def _days(scope: Scope, days: list[Day]) -> sql.Composable:
    ends = [*(begins for _, begins in days[1:]), scope.ends]
    return sql.SQL(", ").join(
        sql.SQL("({})").format(copying.literals((number, day.isoformat(), _utc(begins), _utc(end))))
        for number, ((day, begins), end) in enumerate(zip(days, ends, strict=True), start=1)
    )


def _description() -> sql.Composable:
    what = f"CASE WHEN {_USAGE} THEN g.meter ELSE g.reason END"
    said = f"concat_ws(': ', nullif(g.model_name, ''), nullif({what}, ''))"
    return copying.text(f"coalesce(nullif({said}, ''), g.kind)")


def _unit() -> sql.Composable:
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(family), sql.Literal(unit)) for family, unit in UNITS.items()
    )
    return sql.SQL("CASE split_part(g.meter, '.', 1) {} ELSE 'Units' END").format(cases)


def _decimal(number: str) -> sql.Composable:
    """Every digit and always a point: 1234567.0, so that no reader takes a column for whole numbers."""
    trimmed = f"trim_scale({number})"
    return sql.SQL(f"CASE WHEN scale({trimmed}) = 0 THEN {trimmed} || '.0' ELSE {trimmed}::text END")


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
