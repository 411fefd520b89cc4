"""The playground in a browser: models side by side, a reload in mid-answer, stop, branches, and what a model that means
ill can't do."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import sign_in
from tests.fakes import openai_upstream
from tests.fakes.openai_upstream import Provider
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]
# What an answer may be made of.
BLOCKS = {"P", "H3", "H4", "H5", "H6", "HR", "UL", "OL", "LI", "BLOCKQUOTE", "DIV", "PRE", "TABLE", "THEAD", "TBODY"}
TAGS = BLOCKS | {"TR", "TH", "TD", "CODE", "BUTTON", "SPAN", "A", "STRONG", "EM", "S", "BR"}
OFFERS = """
from datetime import UTC, date, datetime
from decimal import Decimal
from accounts import sealing
from billing import pricing
from catalog.models import Licence, Model, Offer, Provider
key = sealing.seal("sk-provider-secret")
fake = Provider.objects.create(slug="play", name="Play", base_url="{url}", sealed_key=key)
for name in ("hostile", "endless"):
    model = Model.objects.create(
        slug=f"play-{{name}}", name=f"Play {{name}}", publisher="P", openness="closed", licence=Licence.objects.first(),
        modalities=["text"], source="t", source_date=date(2026, 1, 1),
    )
    Offer.objects.create(model=model, path="hosted", provider=fake, upstream_model=name)
    for meter in ("tokens.input", "tokens.output"):
        pricing.set_price(
            model.sku, meter=meter, amount=Decimal("0.00001"), valid_from=datetime(2026, 1, 1, tzinfo=UTC), source="t",
            source_date=date(2026, 1, 1),
        )
"""


@pytest.fixture
def provider(running_portal: RunningPortal) -> Iterator[Provider]:
    with openai_upstream.running() as fake:
        running_portal.manage("shell", "-c", OFFERS.format(url=fake.base_url))
        yield fake
        gone = "from catalog.models import Model, Offer, Provider\n" + "\n".join(
            f"{kind}.objects.filter({field}__startswith='play').delete()"
            for kind, field in (("Offer", "provider__slug"), ("Model", "slug"), ("Provider", "slug"))
        )
        running_portal.manage("shell", "-c", gone)


def test_models_side_by_side_outlive_a_reload_and_run_nothing_that_they_say(
    page: Page, running_portal: RunningPortal, provider: Provider
) -> None:
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    sign_in(page, running_portal)
    page.goto(f"{running_portal.url}/playground/?model=play-hostile&model=play-endless&model=smollm2-135m-instruct")
    hostile, endless, small = (page.locator(".column").nth(place) for place in range(3))
    page.get_by_label("Max tokens").fill("16")
    page.get_by_label("Message").fill("Show me what you can do.")
    page.get_by_role("button", name="Send").click()
    expect(endless.locator(".text")).to_contain_text("One two threeOne two three")

    page.reload()
    expect(endless.locator(".text")).to_contain_text("One two three" * 12)
    page.locator("h1").click()
    page.keyboard.press("Escape")
    expect(endless.locator(".receipt")).to_contain_text("Stopped: what came is billed")
    assert [call["model"] for call in provider.calls].count("endless") == 1, "the reload asked nothing anew"
    expect(small.locator(".receipt")).to_contain_text(re.compile("tokens in|nothing is billed"))

    expect(hostile.locator("[data-receipt]")).to_contain_text("$")
    answer = hostile.locator(".text")
    assert page.evaluate("window.hacked") is None
    expect(answer).to_contain_text("<script>window.hacked = 1</script>")
    assert set(answer.locator("*").evaluate_all("all => all.map(one => one.tagName)")) <= TAGS
    links = answer.locator("a").evaluate_all("all => all.map(one => one.href)")
    assert links == ["https://tracker.invalid/pixel.png", "https://example.com/a_b"]
    assert all(url.startswith((running_portal.url, "data:")) for url in asked_for), "no picture of theirs was fetched"

    hostile.locator(".again").click()
    expect(hostile.locator(".turn.assistant .branches")).to_contain_text("2 / 2")
    expect(hostile.locator("[data-receipt]")).to_be_visible()
    page.locator("h1").click()
    page.keyboard.press("[")
    expect(hostile.locator(".turn.assistant .branches")).to_contain_text("1 / 2")
    page.keyboard.press("c")
    expect(page.locator("#code-text")).to_contain_text('"model": "play-hostile"')
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
