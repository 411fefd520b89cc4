from django.db import migrations, models

# The digests of subjects go over the sku from now on, so the sums are made anew, beside the calls: until that is done
# pages read the ledger, are slower, and are right.
ANEW = """
DELETE FROM billing_rollupday;
DELETE FROM billing_rollupquarter;
DELETE FROM billing_rolluplate;
DELETE FROM billing_rollupsubject;
UPDATE billing_rollupmark SET through = 0, turn = turn + 1, looked_at = NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_statement_heads")]

    operations = [
        migrations.RunSQL(ANEW, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="rollupsubject",
            name="sku",
            field=models.CharField(blank=True, max_length=160),
        ),
    ]
