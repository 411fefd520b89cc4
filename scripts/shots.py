"""Screenshots of every page, 1440 and 390 px wide, light and dark, into shots/ (ignored by git).

.venv/bin/python scripts/shots.py http://127.0.0.1:8000 EMAIL PASSWORD [PAGE ...]
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

PAGES = {
    "home": "/",
    "library": "/models/",
    "model-open": "/models/smollm2-135m-instruct/",
    "model-closed": "/models/claude-opus-4.7/",
    "model-open-no-key": "/models/deepseek-v4-pro/",
    "advisor": "/advisor/?model=smollm2-135m-instruct",
    "advisor-missing": "/advisor/?model=deepseek-v4-pro&volume=2+B",
    "advisor-choose": "/advisor/",
    "deploy": "/deployments/new?model=smollm2-135m-instruct",
    "deployments": "/deployments/",
    "prompt-set-new": "/deployments/prompt-sets/new/",
    "playground": "/playground/?model=smollm2-135m-instruct",
    "prompts": "/playground/prompts/",
    "costs": "/billing/",
    "costs-teams": "/billing/?scope=all",
    "costs-rows": "/billing/rows/",
    "costs-idle": "/billing/idle/",
    "costs-filters": "/billing/filters/",
    "upload": "/weights/upload",
    "weights": "/weights/",
    "weights-import": "/weights/import",
    "prompt-sets": "/deployments/prompt-sets/",
    "budgets": "/budgets/",
    "licences": "/licences/",
    "licence-asks": "/licences/agree/?model=llama-3.3-70b",
    "licence-denied": "/licences/agree/?model=aya-expanse-32b&use=product",
    "invoices": "/billing/invoices/",
    "keys": "/keys/",
    "team": "/team/",
    "audit": "/team/audit/",
    "second-factor": "/accounts/2fa/",
    "sessions": "/accounts/sessions/",
    "aliases": "/aliases/",
    "alias-new": "/aliases/new/",
    "limits": "/limits/",
    "requests": "/requests/",
    "request": "/requests/2/",
    "prompt-logging": "/requests/prompts/",
    "missing": "/no-such-page/",
}
WIDTHS = {1440: 900, 390: 844}
FOLDER = Path(__file__).resolve().parent.parent / "shots"


def main(url: str, email: str, password: str, *names: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
        )
        for width, height in WIDTHS.items():
            for scheme in ("light", "dark"):
                page = _signed_in(browser, url, email, password, width=width, height=height, scheme=scheme)
                pages = dict(PAGES)
                page.goto(f"{url}/deployments/")
                for link in page.locator("a[href^='/deployments/']").all():
                    href = link.get_attribute("href") or ""
                    if len(href) > len("/deployments/") + 30:
                        pages["deployment"] = href
                        break
                for name, path in pages.items():
                    if not names or name in names:
                        _shoot(page, f"{url}{path}", f"{name}-{width}-{scheme}")
                page.context.close()
        browser.close()


def _signed_in(browser: Browser, url: str, email: str, password: str, *, width: int, height: int, scheme: str) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(f"{url}/accounts/login/")
    page.screenshot(path=FOLDER / f"login-{width}-{scheme}.png")
    page.fill("input[type=email], input[name=login]", email)
    page.fill("input[type=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "login" not in address)
    return page


def _shoot(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.wait_for_timeout(600)
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
    print(f"{name}{'  SCROLLS SIDEWAYS' if wide else ''}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
