import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0009_reasons"),
        ("deployments", "0009_budget_reasons"),
    ]

    operations = [
        migrations.AlterField(
            model_name="versionadapter",
            name="weights",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="applications", to="catalog.weights"
            ),
        ),
    ]
