"""The SQL that moves money, in full. Parameters are JSON texts and lists, so both of psycopg's cursors take them."""

LOCK = """
SELECT id, team_id, state, path, sku, source, model_name, deployment_name, api_key_name,
       prices::text, amount, month, started_at, api_key_id
FROM billing_reservation WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

STORED_COST = "SELECT cost FROM billing_usageevent WHERE id = %s"
STORED_LINES = "SELECT meter, quantity, unit_price, amount FROM billing_ledgerentry WHERE event_id = %s ORDER BY id"

# Calls, events, entries, closings and renewals in; one row per call out: (id, team, key, month, amount, was there
# room, was it new, what the team's month has settled and held now, its cap, the same two of the key's month). The
# Spend rows are touched once and in order, the KeySpend rows after them.
POST = """
WITH call AS (
    SELECT * FROM json_to_recordset(%s::json) AS c(
        id uuid, team_id uuid, path text, sku text, source text, model_name text, deployment_name text,
        api_key_name text, api_key_id uuid, prices jsonb, estimate jsonb, amount numeric, month date,
        started_at timestamptz, lease_until timestamptz)
), roomy AS (
    SELECT c.*, b.monthly_usd AS cap, k.monthly_usd AS key_cap,
           (b.id IS NULL OR coalesce(s.settled + s.held, 0) + c.amount <= b.monthly_usd)
           AND (k.id IS NULL OR coalesce(t.settled + t.held, 0) + c.amount <= k.monthly_usd) AS affordable
    FROM call c
    LEFT JOIN billing_budget b ON b.team_id = c.team_id
    LEFT JOIN billing_spend s ON s.team_id = c.team_id AND s.month = c.month
    LEFT JOIN billing_keybudget k ON k.api_key_id = c.api_key_id
    LEFT JOIN billing_keyspend t ON t.api_key_id = c.api_key_id AND t.month = c.month
), fresh AS (
    INSERT INTO billing_reservation (id, team_id, state, path, sku, source, model_name, deployment_name,
                                     api_key_name, api_key_id, prices, estimate, amount, month, started_at,
                                     lease_until)
    SELECT id, team_id, 'open', path, sku, source, model_name, deployment_name,
           api_key_name, api_key_id, prices, estimate, amount, month, started_at, lease_until
    FROM roomy WHERE affordable ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id, team_id, api_key_id, month, amount
), used AS (
    SELECT * FROM json_to_recordset(%s::json) AS e(
        id uuid, team_id uuid, api_key_id uuid, month date, started_at timestamptz, ended_at timestamptz,
        recorded_at timestamptz,
        path text, sku text, source text, model_name text, deployment_name text, api_key_name text, quality text,
        quantities jsonb, raw_usage jsonb, cost numeric)
), event AS (
    INSERT INTO billing_usageevent (id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name,
                                    deployment_name, api_key_name, quality, quantities, raw_usage, cost)
    SELECT id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name,
           deployment_name, api_key_name, quality, quantities, raw_usage, cost
    FROM used ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id
), entry AS (
    INSERT INTO billing_ledgerentry (team_id, event_id, kind, at, path, sku, source, model_name, deployment_name,
                                     api_key_name, meter, quantity, unit_price, amount, currency, reason)
    SELECT u.team_id, u.id, 'usage', u.started_at, u.path, u.sku, u.source, u.model_name, u.deployment_name,
           u.api_key_name, l.meter, l.quantity, l.unit_price, l.amount, 'USD', ''
    FROM json_to_recordset(%s::json) AS l(
        event_id uuid, meter text, quantity numeric, unit_price numeric, amount numeric)
    JOIN event ON event.id = l.event_id
    JOIN used u ON u.id = l.event_id
), closing AS (
    SELECT * FROM json_to_recordset(%s::json) AS c(
        id uuid, state text, closed_at timestamptz, team_id uuid, api_key_id uuid, month date, amount numeric)
), closed AS (
    UPDATE billing_reservation r SET state = c.state, closed_at = c.closed_at
    FROM closing c WHERE r.id = c.id
), renewed AS (
    UPDATE billing_reservation r SET lease_until = n.lease_until, estimate = n.estimate
    FROM json_to_recordset(%s::json) AS n(id uuid, lease_until timestamptz, estimate jsonb)
    WHERE r.id = n.id AND NOT EXISTS (SELECT 1 FROM closing c WHERE c.id = n.id)
), moved AS (
    SELECT team_id, api_key_id, month, 0 AS settled, amount AS held FROM fresh
    UNION ALL SELECT u.team_id, u.api_key_id, u.month, u.cost, 0 FROM used u JOIN event ON event.id = u.id
    UNION ALL SELECT team_id, api_key_id, month, 0, -amount FROM closing
), spend AS (
    INSERT INTO billing_spend AS s (team_id, month, settled, held)
    SELECT team_id, month, sum(settled), sum(held) FROM moved GROUP BY team_id, month ORDER BY team_id, month
    ON CONFLICT (team_id, month) DO UPDATE SET settled = s.settled + excluded.settled, held = s.held + excluded.held
    RETURNING s.team_id, s.month, s.settled + s.held AS committed
), key_spend AS (
    INSERT INTO billing_keyspend AS s (api_key_id, month, settled, held)
    SELECT api_key_id, month, sum(settled), sum(held) FROM moved
    WHERE api_key_id IS NOT NULL AND (SELECT count(*) FROM spend) > 0
    GROUP BY api_key_id, month ORDER BY api_key_id, month
    ON CONFLICT (api_key_id, month) DO UPDATE SET settled = s.settled + excluded.settled, held = s.held + excluded.held
    RETURNING s.api_key_id, s.month, s.settled + s.held AS committed
)
SELECT r.id, r.team_id, r.api_key_id, r.month, r.amount, r.affordable, fresh.id IS NOT NULL,
       spend.committed, r.cap, key_spend.committed, r.key_cap
FROM roomy r LEFT JOIN fresh ON fresh.id = r.id
LEFT JOIN spend ON spend.team_id = r.team_id AND spend.month = r.month
LEFT JOIN key_spend ON key_spend.api_key_id = r.api_key_id AND key_spend.month = r.month
"""

# Calls that were held beyond the cap by this very transaction, which has their Spend rows locked.
WITHDRAW = """
WITH gone AS (
    DELETE FROM billing_reservation WHERE id = ANY(%s::uuid[]) RETURNING team_id, api_key_id, month, amount
), moved AS (
    SELECT team_id, month, sum(amount) AS held FROM gone GROUP BY team_id, month
), key_moved AS (
    SELECT api_key_id, month, sum(amount) AS held FROM gone WHERE api_key_id IS NOT NULL GROUP BY api_key_id, month
), key_spend AS (
    UPDATE billing_keyspend s SET held = s.held - m.held
    FROM key_moved m WHERE s.api_key_id = m.api_key_id AND s.month = m.month
)
UPDATE billing_spend s SET held = s.held - m.held FROM moved m WHERE s.team_id = m.team_id AND s.month = m.month
RETURNING s.team_id
"""

EXPIRED = """
SELECT id, estimate::text, lease_until FROM billing_reservation
WHERE state = 'open' AND lease_until < %s ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
