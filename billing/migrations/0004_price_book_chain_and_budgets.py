"""Tiers, drafts and discounts of prices; corrections, credits and a chain in the ledger; budgets of all scopes."""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import billing.models.budgets

# What keys were capped at and have spent stays: their budgets and counters move to the tables of all scopes.
KEYS = """
INSERT INTO billing_budget (team_id, scope, subject, label, period, usd, hard, alert_percents, credit_usd, updated_at)
SELECT k.team_id, 'key', k.id::text, k.name, 'monthly', b.monthly_usd, true, '[50, 80, 100]', 0, b.updated_at
FROM billing_keybudget b JOIN accounts_apikey k ON k.id = b.api_key_id;
INSERT INTO billing_counter (team_id, scope, subject, period, settled, held)
SELECT k.team_id, 'key', k.id::text, s.month::text, s.settled, s.held
FROM billing_keyspend s JOIN accounts_apikey k ON k.id = s.api_key_id;
SET CONSTRAINTS ALL IMMEDIATE;
"""
# Whatever the bill is checked by is as unchangeable as the bill.
APPEND_ONLY = ("billing_creditgrant", "billing_chainseal", "billing_sealrun", "billing_discount")
FORWARD = "".join(
    f"""
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();"""
    for table in APPEND_ONLY
)
BACKWARD = "".join(f"DROP TRIGGER {table}_append_only ON {table};" for table in APPEND_ONLY)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("billing", "0003_key_budgets"),
    ]

    operations = [
        migrations.CreateModel(
            name="AlertSettings",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "emails",
                    models.JSONField(
                        default=list, help_text="Addresses; empty: the team's owners, admins and billing."
                    ),
                ),
                ("webhook_url", models.URLField(blank=True, max_length=500)),
                ("sealed_secret", models.TextField(blank=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.CreateModel(
            name="BudgetAlert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("period", models.CharField(max_length=28)),
                ("percent", models.PositiveSmallIntegerField()),
                ("spent", models.DecimalField(decimal_places=18, max_digits=38)),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="ChainSeal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField()),
                ("number", models.PositiveIntegerField()),
                ("begins", models.DateTimeField()),
                ("ends", models.DateTimeField()),
                ("after", models.BigIntegerField()),
                ("through", models.BigIntegerField()),
                ("entries", models.PositiveBigIntegerField(help_text="Rows of the month so far, these included.")),
                ("digest", models.CharField(max_length=64)),
                ("sealed_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["team", "month", "number"],
            },
        ),
        migrations.CreateModel(
            name="Counter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scope", models.CharField(max_length=10)),
                ("subject", models.CharField(blank=True, max_length=200)),
                ("period", models.CharField(max_length=28)),
                ("settled", models.DecimalField(decimal_places=18, default=0, max_digits=38)),
                ("held", models.DecimalField(decimal_places=18, default=0, max_digits=38)),
            ],
        ),
        migrations.CreateModel(
            name="CreditGrant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(help_text="What the team reads on its bill.", max_length=120)),
                ("usd", models.DecimalField(decimal_places=2, max_digits=14)),
                ("starts_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "expires_at",
                    models.DateTimeField(blank=True, help_text="Exclusive; empty: it never does.", null=True),
                ),
                ("granted_by", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("channel", models.CharField(choices=[("email", "E-mail"), ("webhook", "Webhook")], max_length=8)),
                ("address", models.CharField(max_length=500)),
                ("subject", models.CharField(max_length=200)),
                ("body", models.TextField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                (
                    "due_at",
                    models.DateTimeField(help_text="When it is tried next; empty: arrived, or given up.", null=True),
                ),
                ("delivered_at", models.DateTimeField(blank=True, null=True)),
                ("outcome", models.CharField(blank=True, help_text="What the last try met.", max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "ordering": ["-created_at"],
            },
        ),
        migrations.CreateModel(
            name="Discount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "pattern",
                    models.CharField(default="*", help_text="A sku, or its beginning and a *.", max_length=160),
                ),
                ("percent", models.DecimalField(decimal_places=2, max_digits=5)),
                ("valid_from", models.DateTimeField()),
                ("reason", models.CharField(max_length=200)),
                ("agreed_by", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["team", "pattern", "-valid_from"],
            },
        ),
        migrations.CreateModel(
            name="PriceDraft",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sku", models.CharField(max_length=160)),
                ("meter", models.CharField(max_length=40)),
                ("above_tokens", models.PositiveIntegerField(default=0)),
                ("amount", models.DecimalField(decimal_places=12, help_text="USD for one unit.", max_digits=24)),
                ("valid_from", models.DateTimeField()),
                ("source", models.CharField(max_length=200)),
                ("source_date", models.DateField()),
                ("batch", models.CharField(blank=True, max_length=80)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("draft", "Draft"),
                            ("reviewed", "Reviewed"),
                            ("active", "Active"),
                            ("rejected", "Rejected"),
                        ],
                        default="draft",
                        max_length=8,
                    ),
                ),
                (
                    "jump_confirmed",
                    models.BooleanField(
                        default=False,
                        help_text="It differs from the price in force a thousandfold or more, and that is meant.",
                    ),
                ),
                ("drafted_by", models.CharField(max_length=254)),
                ("drafted_at", models.DateTimeField(auto_now_add=True)),
                ("reviewed_by", models.CharField(blank=True, max_length=254)),
                ("decided_by", models.CharField(blank=True, max_length=254)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["sku", "meter", "above_tokens"],
            },
        ),
        migrations.CreateModel(
            name="RerateSum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("meter", models.CharField(max_length=40)),
                ("events", models.PositiveBigIntegerField()),
                ("quantity", models.DecimalField(decimal_places=6, max_digits=38)),
                (
                    "charged",
                    models.DecimalField(decimal_places=18, help_text="USD, as the ledger stands.", max_digits=38),
                ),
                ("right", models.DecimalField(decimal_places=18, help_text="USD, by the price book.", max_digits=38)),
            ],
            options={
                "ordering": ["team", "meter"],
            },
        ),
        migrations.CreateModel(
            name="Rerating",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("sku", models.CharField(max_length=160)),
                ("since", models.DateTimeField(help_text="Usage that began at or after this.")),
                ("until", models.DateTimeField(help_text="Usage that began before this.")),
                ("reason", models.CharField(help_text="What the teams read on their bills.", max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[("draft", "Drafted"), ("applied", "Applied"), ("rejected", "Rejected")],
                        default="draft",
                        max_length=8,
                    ),
                ),
                ("drafted_by", models.CharField(max_length=254)),
                ("drafted_at", models.DateTimeField(auto_now_add=True)),
                ("decided_by", models.CharField(blank=True, max_length=254)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-drafted_at"],
            },
        ),
        migrations.CreateModel(
            name="SealRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("through", models.BigIntegerField(unique=True)),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.AlterModelOptions(
            name="price",
            options={"ordering": ["sku", "meter", "above_tokens", "-valid_from"]},
        ),
        migrations.RemoveConstraint(
            model_name="price",
            name="one_price_per_moment",
        ),
        migrations.RenameField(
            model_name="budget",
            old_name="monthly_usd",
            new_name="usd",
        ),
        migrations.AddField(
            model_name="budget",
            name="alert_percents",
            field=models.JSONField(
                default=billing.models.budgets.alert_percents, help_text="Whole percents, each told once a period."
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="credit_until",
            field=models.DateTimeField(help_text="From then on they count only once looked at again.", null=True),
        ),
        migrations.AddField(
            model_name="budget",
            name="credit_usd",
            field=models.DecimalField(
                decimal_places=18, default=0, help_text="Credits on top, as of the last look at them.", max_digits=38
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="ends_at",
            field=models.DateTimeField(blank=True, help_text="Exclusive.", null=True),
        ),
        migrations.AddField(
            model_name="budget",
            name="hard",
            field=models.BooleanField(
                default=True, help_text="Refuse calls and put deployments to sleep; else only tell."
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="label",
            field=models.CharField(blank=True, help_text="What people call the subject.", max_length=200),
        ),
        migrations.AddField(
            model_name="budget",
            name="period",
            field=models.CharField(
                choices=[("monthly", "Each month"), ("fixed", "Once, from a start to an end")],
                default="monthly",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="scope",
            field=models.CharField(
                choices=[
                    ("team", "The whole team"),
                    ("key", "One API key"),
                    ("deployment", "One deployment"),
                    ("alias", "One alias"),
                ],
                default="team",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="starts_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="budget",
            name="subject",
            field=models.CharField(
                blank=True,
                help_text="The key's id, the deployment's name, TEAM/ALIAS; empty for the team.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="corrects",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="corrections",
                to="billing.ledgerentry",
            ),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="discount",
            field=models.DecimalField(decimal_places=2, help_text="Percent; empty: none.", max_digits=5, null=True),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="list_price",
            field=models.DecimalField(
                decimal_places=12,
                help_text="Before the team's discount; empty: the unit price.",
                max_digits=24,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="price",
            name="above_tokens",
            field=models.PositiveIntegerField(
                default=0, help_text="Only for calls whose prompt is longer than this; 0: for all."
            ),
        ),
        migrations.AddField(
            model_name="reservation",
            name="alias",
            field=models.CharField(blank=True, help_text="TEAM/ALIAS, if it was called by one.", max_length=200),
        ),
        migrations.AddField(
            model_name="reservation",
            name="fixed_budgets",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.BigIntegerField(),
                default=list,
                help_text="The fixed budgets whose counters hold it, too.",
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="budget",
            name="team",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="budgets", to="accounts.team"
            ),
        ),
        migrations.AlterField(
            model_name="ledgerentry",
            name="path",
            field=models.CharField(
                blank=True,
                choices=[("hosted", "Hosted"), ("serverless", "Serverless")],
                help_text="Empty: a credit.",
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="ledgerentry",
            name="unit_price",
            field=models.DecimalField(decimal_places=18, max_digits=38),
        ),
        migrations.AddIndex(
            model_name="price",
            index=models.Index(fields=["sku", "meter", "above_tokens", "-valid_from"], name="prices_in_force"),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(
                condition=models.Q(("period", "monthly")),
                fields=("team", "scope", "subject"),
                name="one_monthly_budget_each",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(condition=models.Q(("usd__gt", 0)), name="budget_more_than_nothing"),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("scope", "team"), ("subject", "")),
                    models.Q(models.Q(("scope", "team"), _negated=True), models.Q(("subject", ""), _negated=True)),
                    _connector="OR",
                ),
                name="budget_has_a_subject",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ends_at", None), ("period", "monthly"), ("starts_at", None)),
                    models.Q(("ends_at__gt", models.F("starts_at")), ("period", "fixed")),
                    _connector="OR",
                ),
                name="fixed_budget_has_a_window",
            ),
        ),
        migrations.AddField(
            model_name="alertsettings",
            name="team",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AddField(
            model_name="budgetalert",
            name="budget",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="alerts", to="billing.budget"
            ),
        ),
        migrations.AddField(
            model_name="chainseal",
            name="team",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
        migrations.AddField(
            model_name="counter",
            name="team",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
        migrations.AddField(
            model_name="creditgrant",
            name="team",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="credit",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="entries",
                to="billing.creditgrant",
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(
                condition=models.Q(("corrects__isnull", False)), fields=["corrects"], name="ledger_corrections"
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(condition=models.Q(("credit__isnull", False)), fields=["credit"], name="ledger_credits"),
        ),
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
                        ("amount__lt", 0),
                        ("corrects", None),
                        ("credit__isnull", False),
                        ("event", None),
                        ("kind", "credit"),
                    ),
                    _connector="OR",
                ),
                name="entry_says_what_it_is_about",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind", "usage"), models.Q(("reason", ""), _negated=True), _connector="OR"),
                name="entry_says_why",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="team",
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"),
        ),
        migrations.AddField(
            model_name="discount",
            name="team",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
        migrations.AddField(
            model_name="pricedraft",
            name="price",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="draft",
                to="billing.price",
            ),
        ),
        migrations.AddField(
            model_name="reratesum",
            name="team",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
        migrations.AddField(
            model_name="rerating",
            name="team",
            field=models.ForeignKey(
                blank=True,
                help_text="Empty: all teams.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.team",
            ),
        ),
        migrations.AddField(
            model_name="reratesum",
            name="rerating",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="sums", to="billing.rerating"
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetalert",
            constraint=models.UniqueConstraint(fields=("budget", "period", "percent"), name="one_alert_per_period"),
        ),
        migrations.AddIndex(
            model_name="chainseal",
            index=models.Index(fields=["-through"], name="seals_by_row"),
        ),
        migrations.AddConstraint(
            model_name="chainseal",
            constraint=models.UniqueConstraint(fields=("team", "month", "number"), name="one_seal_per_number"),
        ),
        migrations.AddConstraint(
            model_name="counter",
            constraint=models.UniqueConstraint(
                fields=("team", "scope", "subject", "period"), name="one_counter_per_period"
            ),
        ),
        migrations.AddConstraint(
            model_name="creditgrant",
            constraint=models.CheckConstraint(condition=models.Q(("usd__gt", 0)), name="credit_more_than_nothing"),
        ),
        migrations.AddConstraint(
            model_name="creditgrant",
            constraint=models.CheckConstraint(
                condition=models.Q(("expires_at", None), ("expires_at__gt", models.F("starts_at")), _connector="OR"),
                name="credit_expires_after_its_start",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(condition=models.Q(("due_at__isnull", False)), fields=["due_at"], name="deliveries_due"),
        ),
        migrations.AddConstraint(
            model_name="discount",
            constraint=models.CheckConstraint(
                condition=models.Q(("percent__gte", 0), ("percent__lte", 100)), name="discount_is_a_percentage"
            ),
        ),
        migrations.AddConstraint(
            model_name="pricedraft",
            constraint=models.CheckConstraint(condition=models.Q(("amount__gte", 0)), name="draft_price_not_negative"),
        ),
        migrations.AddConstraint(
            model_name="pricedraft",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("price__isnull", False), ("state", "active")),
                    models.Q(models.Q(("state", "active"), _negated=True), ("price", None)),
                    _connector="OR",
                ),
                name="active_draft_has_a_price",
            ),
        ),
        migrations.AddConstraint(
            model_name="pricedraft",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["draft", "reviewed"])),
                fields=("sku", "meter", "above_tokens", "valid_from"),
                name="one_open_draft_per_moment",
            ),
        ),
        migrations.AddConstraint(
            model_name="rerating",
            constraint=models.CheckConstraint(
                condition=models.Q(("until__gt", models.F("since"))), name="rerating_range_is_one"
            ),
        ),
        migrations.AddConstraint(
            model_name="rerating",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="rerating_says_why"
            ),
        ),
        migrations.RunSQL(KEYS, migrations.RunSQL.noop),
        migrations.RunSQL(FORWARD, BACKWARD),
        migrations.DeleteModel(name="KeySpend"),
        migrations.DeleteModel(name="KeyBudget"),
    ]
