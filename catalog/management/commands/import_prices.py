import importlib
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import price_imports
from billing.errors import BadPrice
from billing.price_imports import Found
from catalog import price_names


class Command(BaseCommand):
    help = (
        "Draft prices of hosted models from LiteLLM's JSON file (--litellm FILE) or from the installed genai-prices "
        "(--genai). Nothing is in force before it is reviewed and made active in the administration."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--litellm", type=Path)
        what.add_argument("--genai", action="store_true")
        parser.add_argument("--read-on", type=date.fromisoformat, default=None, help="The file's day; today if absent.")

    def handle(self, *args: Any, **options: Any) -> None:
        found, source = _genai() if options["genai"] else _litellm(options["litellm"])
        read_on = options["read_on"] or timezone.now().date()
        outcome = price_imports.draft_all(
            found, skus=price_names.skus(), batch=f"{source} {read_on}", source=source, read_on=read_on,
            actor="manage.py",
        )  # fmt: skip
        for row in outcome.drafts:
            self.stdout.write(f"drafted: {row}")
        for one in outcome.skipped:
            self.stdout.write(f"left out: {one}")
        self.stdout.write(
            f"{len(outcome.drafts)} drafted, {outcome.unchanged} as they are, {len(outcome.skipped)} left out."
        )


def _litellm(path: Path) -> tuple[Found, str]:
    try:
        return price_imports.read_litellm(path.read_bytes()), f"LiteLLM {path.name}"
    except (OSError, BadPrice) as error:
        raise CommandError(f"{path}: {error}") from error


def _genai() -> tuple[Found, str]:
    try:
        providers = importlib.import_module("genai_prices.data").providers
    except ImportError as error:
        raise CommandError(
            "genai-prices is not installed here: scripts/install.py test brings the pinned one"
        ) from error
    return price_imports.read_genai(providers), f"genai-prices {metadata.version('genai-prices')}"
