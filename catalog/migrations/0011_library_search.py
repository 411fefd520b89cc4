"""Search without an extension, which the embedded PostgreSQL does not have: columns that the database fills in itself.

And triggers that note each statement that changes what the library shows.
"""

import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

# "SmolLM2-135M" -> "smollm2 135m smol lm2 135m": as it is written, and parted where small letters meet large ones.
WORDS = r"""
CREATE FUNCTION catalog_words(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN trim(lower(regexp_replace(
    written || ' ' || regexp_replace(written, '([a-z])([A-Z])', '\1 \2', 'g'), '[^[:alnum:].]+', ' ', 'g')));
"""
# As pg_trgm has them, but for the blank at a word's end: who searches as they type has not come to it.
TRIGRAMS = """
CREATE FUNCTION catalog_trigrams(words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(array_agg(DISTINCT substr('  ' || word, place, 3)), '{}')
    FROM regexp_split_to_table(words, ' ') AS word, generate_series(1, length(word)) AS place;
END;
"""
COLUMNS = """
ALTER TABLE catalog_model
    ADD COLUMN search tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', catalog_words(name || ' ' || slug)), 'A') ||
        setweight(to_tsvector('simple', catalog_words(publisher)), 'B') ||
        setweight(to_tsvector('simple', catalog_words(description)), 'D')
    ) STORED,
    ADD COLUMN trigrams text[] GENERATED ALWAYS AS (
        catalog_trigrams(catalog_words(name || ' ' || slug || ' ' || publisher))
    ) STORED;
CREATE INDEX catalog_model_search ON catalog_model USING gin (search);
CREATE INDEX catalog_model_trigrams ON catalog_model USING gin (trigrams);
"""
NO_COLUMNS = "ALTER TABLE catalog_model DROP COLUMN search, DROP COLUMN trigrams;"
NOTE = """
CREATE FUNCTION catalog_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO catalog_change DEFAULT VALUES;
    RETURN NULL;
END $$;
"""
# Of weights only what a card shows: how far a download is would be a change each second.
WATCHED = {
    "catalog_model": "UPDATE",
    "catalog_offer": "UPDATE",
    "catalog_offer_hardware": "UPDATE",
    "catalog_provider": "UPDATE",
    "catalog_hardware": "UPDATE",
    "catalog_licence": "UPDATE",
    "catalog_weights": "UPDATE OF status, size_bytes",
    "billing_price": "UPDATE",
}


def _watch(table: str, update: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER library_changed AFTER INSERT OR DELETE OR TRUNCATE OR {update} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION catalog_note_change();",
        f"DROP TRIGGER library_changed ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0010_licence_gate"),
        ("billing", "0005_statements"),
    ]

    operations = [
        migrations.AddField(
            model_name="model",
            name="listed_at",
            field=models.DateTimeField(default=django.utils.timezone.now, help_text="When it came into this library."),
        ),
        migrations.CreateModel(
            name="Change",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.RunSQL(WORDS, "DROP FUNCTION catalog_words(text);"),
        migrations.RunSQL(TRIGRAMS, "DROP FUNCTION catalog_trigrams(text);"),
        migrations.RunSQL(COLUMNS, NO_COLUMNS),
        migrations.RunSQL(NOTE, "DROP FUNCTION catalog_note_change();"),
        *(_watch(table, update) for table, update in WATCHED.items()),
    ]
