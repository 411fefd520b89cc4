"""The SQL that moves money, in full. Parameters are JSON texts and lists, so both of psycopg's cursors take them."""

LOCK = """
SELECT id, team_id, state, path, sku, source, model_name, deployment_name, api_key_name,
       member, tag, prices::text, amount, month, started_at, api_key_id, alias, fixed_budgets
FROM billing_reservation WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

STORED_COST = "SELECT cost FROM billing_usageevent WHERE id = %s AND started_at = %s"
STORED_LINES = """
SELECT meter, quantity, unit_price, amount, list_price, discount FROM billing_ledgerentry
WHERE event_id = %s AND kind = 'usage' ORDER BY id
"""


def _covers(row: str) -> str:
    """The budget b is about this row (a call, a reservation, an event)."""
    return f"""b.team_id = {row}.team_id AND CASE b.scope
        WHEN 'team' THEN true
        WHEN 'key' THEN b.subject = {row}.api_key_id::text
        WHEN 'deployment' THEN b.subject = {row}.deployment_name
        WHEN 'alias' THEN b.subject = {row}.alias END"""


def _fixed(row: str) -> str:
    """The fixed budgets that count this row."""
    return f"""ARRAY(
        SELECT b.id FROM billing_budget b
        WHERE b.period = 'fixed' AND b.starts_at <= {row}.started_at AND {row}.started_at < b.ends_at
        AND {_covers(row)})"""  # noqa: S608


# From rows of (team, key, deployment, alias, month, fixed budgets, settled, held) in `moved` to the counters: the Spend
# rows are touched once and in order, the Counter rows after them.
_COUNT = """
spend AS (
    INSERT INTO billing_spend AS s (team_id, month, settled, held)
    SELECT team_id, month, sum(settled), sum(held) FROM moved GROUP BY team_id, month ORDER BY team_id, month
    ON CONFLICT (team_id, month) DO UPDATE SET settled = s.settled + excluded.settled, held = s.held + excluded.held
    RETURNING s.team_id, s.month, s.settled + s.held AS committed
), counted AS (
    SELECT team_id, 'key' AS scope, api_key_id::text AS subject, month::text AS period, settled, held
    FROM moved WHERE api_key_id IS NOT NULL
    UNION ALL SELECT team_id, 'deployment', deployment_name, month::text, settled, held
    FROM moved WHERE deployment_name <> ''
    UNION ALL SELECT team_id, 'alias', alias, month::text, settled, held FROM moved WHERE alias <> ''
    UNION ALL SELECT b.team_id, b.scope, b.subject, 'budget ' || b.id, m.settled, m.held
    FROM moved m JOIN billing_budget b ON b.id = ANY(m.fixed)
), counter AS (
    INSERT INTO billing_counter AS n (team_id, scope, subject, period, settled, held)
    SELECT team_id, scope, subject, period, sum(settled), sum(held) FROM counted
    WHERE (settled <> 0 OR held <> 0) AND (SELECT count(*) FROM spend) > 0
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (team_id, scope, subject, period)
    DO UPDATE SET settled = n.settled + excluded.settled, held = n.held + excluded.held
    RETURNING n.team_id, n.scope, n.subject, n.period, n.settled + n.held AS committed
), reached AS (
    SELECT team_id, 'team' AS scope, '' AS subject, month::text AS period, committed FROM spend
    UNION ALL SELECT team_id, scope, subject, period, committed FROM counter
)
"""

# Calls, events, entries, closings and renewals in; out comes, for each call, a row for each hard budget that it is held
# against, or one row with none: (id, amount, was there room, was it new, team, scope, subject, period, what that
# counter has settled and held now, its cap, whose budget it is and for how long).
POST = f"""
WITH call AS (
    SELECT * FROM json_to_recordset(%s::json) AS c(
        id uuid, team_id uuid, path text, sku text, source text, model_name text, deployment_name text,
        api_key_name text, api_key_id uuid, member text, tag text, alias text, prices jsonb, estimate jsonb,
        amount numeric, month date, started_at timestamptz, lease_until timestamptz)
), capped AS (
    SELECT c.id AS call_id, c.amount, b.team_id, b.scope, b.subject, p.period, b.label, b.period AS recurs, b.usd,
           coalesce(s.settled + s.held, n.settled + n.held, 0) AS committed,
           b.usd + CASE WHEN b.credit_until <= c.started_at THEN 0 ELSE b.credit_usd END AS cap
    FROM call c JOIN billing_budget b ON b.hard AND {_covers("c")}
        AND (b.period = 'monthly' OR (b.starts_at <= c.started_at AND c.started_at < b.ends_at))
    CROSS JOIN LATERAL (
        SELECT CASE b.period WHEN 'monthly' THEN c.month::text ELSE 'budget ' || b.id END AS period
    ) p
    LEFT JOIN billing_spend s
        ON b.scope = 'team' AND b.period = 'monthly' AND s.team_id = c.team_id AND s.month = c.month
    LEFT JOIN billing_counter n
        ON n.team_id = b.team_id AND n.scope = b.scope AND n.subject = b.subject AND n.period = p.period
), roomy AS (
    SELECT c.*, NOT EXISTS (
        SELECT FROM capped k WHERE k.call_id = c.id AND k.committed + k.amount > k.cap) AS affordable
    FROM call c
), fresh AS (
    INSERT INTO billing_reservation (id, team_id, state, path, sku, source, model_name, deployment_name,
                                     api_key_name, api_key_id, member, tag, alias, fixed_budgets, prices, estimate,
                                     amount, month, started_at, lease_until)
    SELECT id, team_id, 'open', path, sku, source, model_name, deployment_name,
           api_key_name, api_key_id, member, tag, alias, {_fixed("r")}, prices, estimate, amount, month, started_at,
           lease_until
    FROM roomy r WHERE affordable ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, team_id, api_key_id, deployment_name, alias, fixed_budgets, month, amount
), used AS (
    SELECT * FROM json_to_recordset(%s::json) AS e(
        id uuid, team_id uuid, api_key_id uuid, alias text, month date, started_at timestamptz, ended_at timestamptz,
        recorded_at timestamptz, path text, sku text, source text, model_name text, deployment_name text,
        api_key_name text, member text, tag text, quality text, quantities jsonb, raw_usage jsonb, cost numeric)
), event AS (
    INSERT INTO billing_usageevent (id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name,
                                    deployment_name, api_key_name, member, tag, quality, quantities, raw_usage, cost)
    SELECT id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name,
           deployment_name, api_key_name, member, tag, quality, quantities, raw_usage, cost
    FROM used ORDER BY id
    ON CONFLICT (id, started_at) DO NOTHING RETURNING id
), entry AS (
    INSERT INTO billing_ledgerentry (team_id, event_id, kind, at, path, sku, source, model_name, deployment_name,
                                     api_key_name, member, tag, meter, quantity, unit_price, list_price, discount,
                                     amount, currency, reason, quality, calls, uncached_price)
    SELECT u.team_id, u.id, 'usage', u.started_at, u.path, u.sku, u.source, u.model_name, u.deployment_name,
           u.api_key_name, u.member, u.tag, l.meter, l.quantity, l.unit_price, l.list_price, l.discount, l.amount,
           'USD', '', u.quality, l.calls, l.uncached_price
    FROM json_to_recordset(%s::json) AS l(
        event_id uuid, meter text, quantity numeric, unit_price numeric, list_price numeric, discount numeric,
        amount numeric, calls smallint, uncached_price numeric)
    JOIN event ON event.id = l.event_id
    JOIN used u ON u.id = l.event_id
), closing AS (
    SELECT * FROM json_to_recordset(%s::json) AS c(
        id uuid, state text, closed_at timestamptz, team_id uuid, api_key_id uuid, deployment_name text, alias text,
        fixed_budgets bigint[], month date, amount numeric)
), closed AS (
    UPDATE billing_reservation r SET state = c.state, closed_at = c.closed_at
    FROM closing c WHERE r.id = c.id
), renewed AS (
    UPDATE billing_reservation r SET lease_until = n.lease_until, estimate = n.estimate
    FROM json_to_recordset(%s::json) AS n(id uuid, lease_until timestamptz, estimate jsonb)
    WHERE r.id = n.id AND NOT EXISTS (SELECT 1 FROM closing c WHERE c.id = n.id)
), moved AS (
    SELECT team_id, api_key_id, deployment_name, alias, month, fixed_budgets AS fixed, 0 AS settled, amount AS held
    FROM fresh
    UNION ALL SELECT u.team_id, u.api_key_id, u.deployment_name, u.alias, u.month, {_fixed("u")}, u.cost, 0
    FROM used u JOIN event ON event.id = u.id
    UNION ALL SELECT team_id, api_key_id, deployment_name, alias, month, fixed_budgets, 0, -amount FROM closing
), {_COUNT}
SELECT r.id, r.amount, r.affordable, fresh.id IS NOT NULL, k.team_id, k.scope, k.subject, k.period,
       reached.committed, k.cap, k.usd, k.label, k.recurs
FROM roomy r LEFT JOIN fresh ON fresh.id = r.id
LEFT JOIN capped k ON k.call_id = r.id
LEFT JOIN reached ON reached.team_id = k.team_id AND reached.scope = k.scope AND reached.subject = k.subject
    AND reached.period = k.period
"""  # noqa: S608 - made of this module's constants alone

# Calls that were held beyond a cap by this very transaction, which has their counters locked.
WITHDRAW = f"""
WITH gone AS (
    DELETE FROM billing_reservation WHERE id = ANY(%s::uuid[])
    RETURNING team_id, api_key_id, deployment_name, alias, fixed_budgets, month, amount
), moved AS (
    SELECT team_id, api_key_id, deployment_name, alias, month, fixed_budgets AS fixed, 0 AS settled, -amount AS held
    FROM gone
), {_COUNT}
SELECT count(*) FROM reached
"""  # noqa: S608 - made of this module's constants alone

# One row of (team, key, deployment, alias, month, started_at, settled) that no reservation held: a correction.
MOVE = f"""
WITH given AS (
    SELECT * FROM json_to_recordset(%s::json) AS g(
        team_id uuid, api_key_id uuid, deployment_name text, alias text, month date, started_at timestamptz,
        settled numeric)
), moved AS (
    SELECT team_id, api_key_id, deployment_name, alias, month, {_fixed("g")} AS fixed, settled, 0 AS held FROM given g
), {_COUNT}
SELECT count(*) FROM reached
"""  # noqa: S608 - made of this module's constants alone

EXPIRED = """
SELECT id, estimate::text, lease_until FROM billing_reservation
WHERE state = 'open' AND lease_until < %s ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
