"""Usage by member and tag; what the files and the pages need of an event stands on its ledger rows."""

import django.db.models.deletion
from django.db import migrations, models

# Rows of before get what their events know. The form of the chain has changed with its columns, so all is sealed anew.
FILL = """
ALTER TABLE billing_ledgerentry DISABLE TRIGGER ledger_append_only;
UPDATE billing_ledgerentry e SET quality = v.quality FROM billing_usageevent v WHERE v.id = e.event_id;
UPDATE billing_ledgerentry e SET calls = 1 FROM (
    SELECT min(id) AS id FROM billing_ledgerentry
    WHERE kind = 'usage' AND meter NOT LIKE 'compute.%' GROUP BY event_id
) AS f WHERE f.id = e.id;
ALTER TABLE billing_ledgerentry ENABLE TRIGGER ledger_append_only;
ALTER TABLE billing_chainseal DISABLE TRIGGER billing_chainseal_append_only;
DELETE FROM billing_chainseal;
ALTER TABLE billing_chainseal ENABLE TRIGGER billing_chainseal_append_only;
ALTER TABLE billing_sealrun DISABLE TRIGGER billing_sealrun_append_only;
DELETE FROM billing_sealrun;
ALTER TABLE billing_sealrun ENABLE TRIGGER billing_sealrun_append_only;
"""

# A table for each month that has events, and for those to come (billing.partitions makes the later ones).
_MONTHS = """
DO $$
DECLARE first timestamp;
BEGIN
    FOR first IN
        SELECT DISTINCT date_trunc('month', started_at AT TIME ZONE 'UTC') FROM billing_usageevent_before
        UNION SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month' FROM generate_series(-1, 3) n
    LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF billing_usageevent FOR VALUES FROM (%L) TO (%L)',
            'billing_usageevent_' || to_char(first, 'YYYY_MM'),
            to_char(first, 'YYYY-MM-DD') || ' 00:00Z', to_char(first + interval '1 month', 'YYYY-MM-DD') || ' 00:00Z');
    END LOOP;
END $$;
"""
_INDEXES = """
CREATE INDEX usage_by_team ON billing_usageevent (team_id, started_at);
CREATE INDEX estimated_usage ON billing_usageevent (team_id, started_at) WHERE quality = 'estimated';
ALTER TABLE billing_usageevent ADD CONSTRAINT billing_usageevent_team_id_fk_accounts_team_id
    FOREIGN KEY (team_id) REFERENCES accounts_team (id) DEFERRABLE INITIALLY DEFERRED;
CREATE TRIGGER usage_append_only BEFORE UPDATE OR DELETE ON billing_usageevent
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER usage_no_truncate BEFORE TRUNCATE ON billing_usageevent
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
"""
_GUARDS = """
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'billing_usageevent'::regclass
    LOOP
        EXECUTE format(
            'CREATE TRIGGER usage_no_truncate BEFORE TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change()', part);
    END LOOP;
END $$;
"""
_BEFORE = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE billing_usageevent RENAME TO billing_usageevent_before;
"""
_MOVED = """
INSERT INTO billing_usageevent SELECT * FROM billing_usageevent_before;
DROP TABLE billing_usageevent_before;
"""
PARTED = (
    _BEFORE
    + """
CREATE TABLE billing_usageevent (LIKE billing_usageevent_before INCLUDING DEFAULTS INCLUDING STORAGE)
    PARTITION BY RANGE (started_at);
CREATE TABLE billing_usageevent_default PARTITION OF billing_usageevent DEFAULT;
"""
    + _MONTHS
    + _MOVED
    + "ALTER TABLE billing_usageevent ADD PRIMARY KEY (id, started_at);"
    + _INDEXES
    + _GUARDS
)
WHOLE = (
    _BEFORE
    + "CREATE TABLE billing_usageevent (LIKE billing_usageevent_before INCLUDING DEFAULTS INCLUDING STORAGE);"
    + _MOVED
    + "ALTER TABLE billing_usageevent ADD PRIMARY KEY (id);"
    + _INDEXES
)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("billing", "0005_statements"),
    ]

    operations = [
        migrations.AddField(
            model_name="ledgerentry",
            name="calls",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="1 on one row of each call, so that calls are counted by adding; compute has none."
            ),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="member",
            field=models.CharField(blank=True, help_text="E-mail of who called, or who made the key.", max_length=254),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="quality",
            field=models.CharField(
                blank=True,
                choices=[("measured", "Measured"), ("estimated", "Estimated")],
                help_text="Empty: no usage.",
                max_length=9,
            ),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="tag",
            field=models.CharField(
                blank=True, help_text="The caller's own label: its header, or its key's.", max_length=64
            ),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="uncached_price",
            field=models.DecimalField(
                decimal_places=12,
                help_text="What a cached token costs when it is not cached.",
                max_digits=24,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="reservation",
            name="member",
            field=models.CharField(blank=True, help_text="E-mail of who called, or who made the key.", max_length=254),
        ),
        migrations.AddField(
            model_name="reservation",
            name="tag",
            field=models.CharField(
                blank=True, help_text="The caller's own label: its header, or its key's.", max_length=64
            ),
        ),
        migrations.AddField(
            model_name="usageevent",
            name="member",
            field=models.CharField(blank=True, help_text="E-mail of who called, or who made the key.", max_length=254),
        ),
        migrations.AddField(
            model_name="usageevent",
            name="tag",
            field=models.CharField(
                blank=True, help_text="The caller's own label: its header, or its key's.", max_length=64
            ),
        ),
        migrations.CreateModel(
            name="RollupZone",
            fields=[
                (
                    "team",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="accounts.team",
                    ),
                ),
                ("zone", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="RollupMark",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("through", models.BigIntegerField(default=0)),
                ("turn", models.BigIntegerField(default=0)),
                ("looked_at", models.DateTimeField(help_text="When there was last nothing left to sum.", null=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="one_rollup_mark")],
            },
        ),
        migrations.CreateModel(
            name="RollupSubject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.BinaryField(help_text="SHA-256 of everything below.", max_length=32, unique=True)),
                ("split", models.CharField(blank=True, max_length=10)),
                (
                    "path",
                    models.CharField(
                        blank=True, choices=[("hosted", "Hosted"), ("serverless", "Serverless")], max_length=10
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("usage", "Usage"), ("credit", "Credit"), ("correction", "Correction")], max_length=10
                    ),
                ),
                ("model_name", models.CharField(blank=True, max_length=160)),
                ("deployment_name", models.CharField(blank=True, max_length=160)),
                ("api_key_name", models.CharField(blank=True, max_length=100)),
                ("member", models.CharField(blank=True, max_length=254)),
                ("tag", models.CharField(blank=True, max_length=64)),
                ("meter", models.CharField(blank=True, max_length=40)),
                ("unit_price", models.DecimalField(decimal_places=18, max_digits=38)),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.team",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="RollupQuarter",
            fields=[
                ("quantity", models.DecimalField(decimal_places=6, max_digits=38)),
                ("amount", models.DecimalField(decimal_places=18, max_digits=38)),
                ("calls", models.BigIntegerField(help_text="Calls, each once.")),
                ("uses", models.BigIntegerField(help_text="Calls that used the meter.")),
                ("saved", models.DecimalField(decimal_places=18, max_digits=38)),
                ("entries", models.BigIntegerField(help_text="Ledger rows.")),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "team_id", "at", "subject_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField(help_text="When it begins.")),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.team",
                    ),
                ),
                (
                    "subject",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="billing.rollupsubject",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="RollupDay",
            fields=[
                ("quantity", models.DecimalField(decimal_places=6, max_digits=38)),
                ("amount", models.DecimalField(decimal_places=18, max_digits=38)),
                ("calls", models.BigIntegerField(help_text="Calls, each once.")),
                ("uses", models.BigIntegerField(help_text="Calls that used the meter.")),
                ("saved", models.DecimalField(decimal_places=18, max_digits=38)),
                ("entries", models.BigIntegerField(help_text="Ledger rows.")),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "team_id",
                        "split",
                        "day",
                        "subject_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("split", models.CharField(blank=True, max_length=10)),
                ("day", models.DateField()),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.team",
                    ),
                ),
                (
                    "subject",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="billing.rollupsubject",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="RollupLate",
            fields=[
                ("entry_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.team",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["team", "at"], name="late_by_team")],
            },
        ),
        migrations.AlterField(
            model_name="ledgerentry",
            name="event",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="entries",
                to="billing.usageevent",
            ),
        ),
        migrations.AlterField(
            model_name="ledgerentry",
            name="team",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AlterField(
            model_name="usageevent",
            name="team",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(
                condition=models.Q(("kind", "usage"), ("meter__startswith", "compute.")),
                fields=["team", "at"],
                name="ledger_compute",
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(PARTED, WHOLE),
    ]
