"""Usage by member and tag; what the files and the pages need of an event stands on its ledger rows."""

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


class Migration(migrations.Migration):
    dependencies = [
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
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
