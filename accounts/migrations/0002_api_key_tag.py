from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="tag",
            field=models.CharField(
                blank=True, help_text="Label of its calls that bring none of their own.", max_length=64
            ),
        ),
    ]
