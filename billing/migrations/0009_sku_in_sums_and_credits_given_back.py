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
        migrations.RemoveConstraint(model_name="ledgerentry", name="entry_says_what_it_is_about"),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("corrects", None), ("credit", None), ("kind", "usage")),
                    models.Q(
                        ("credit", None),
                        ("kind", "correction"),
                        models.Q(("event__isnull", False), ("corrects__isnull", False), _connector="OR"),
                    ),
                    models.Q(
                        ("credit__isnull", False),
                        ("event", None),
                        ("kind", "credit"),
                        models.Q(
                            models.Q(("amount__lt", 0), ("corrects", None)),
                            models.Q(("amount__gt", 0), ("corrects__isnull", False)),
                            _connector="OR",
                        ),
                    ),
                    _connector="OR",
                ),
                name="entry_says_what_it_is_about",
            ),
        ),
    ]
