"""Screenshots of every page, 1440 and 390 px wide, light and dark, into shots/TEAM/ (ignored by git).

.venv/bin/python scripts/shots.py http://127.0.0.1:8000 EMAIL PASSWORD [--team sample] [PAGE ...]
"""

import argparse
import re
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

PAGES = {
    "home": "/",
    "library": "/models/",
    "model-open": "/models/smollm2-135m-instruct/",
    "model-closed": "/models/claude-opus-4.7/",
    "model-open-no-key": "/models/deepseek-v4-pro/",
    "model-use": "/models/smollm2-135m-instruct/?tab=use",
    "model-versions": "/models/smollm2-135m-instruct/?tab=versions",
    "model-licence": "/models/llama-3.3-70b/?tab=licence",
    "model-usage": "/models/smollm2-135m-instruct/?tab=usage",
    "library-list": "/models/?view=list&available=deploy",
    "library-nothing": "/models/?q=qqqqzzzz&path=hosted",
    "compare": "/models/compare?m=claude-opus-4.7&m=deepseek-v4-pro&m=smollm2-135m-instruct",
    "compare-empty": "/models/compare",
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
    "budget-new": "/budgets/new/",
    "team-new": "/team/new/",
    "second-factor": "/accounts/2fa/",
    "second-factor-app": "/accounts/2fa/totp/activate/",
    "passkey-new": "/accounts/2fa/webauthn/add/",
    "email": "/accounts/email/",
    "password": "/accounts/password/change/",
    "sessions": "/accounts/sessions/",
    "aliases": "/aliases/",
    "alias-new": "/aliases/new/",
    "limits": "/limits/",
    "requests": "/requests/",
    "prompt-logging": "/requests/prompts/",
    "missing": "/no-such-page/",
}
OUTSIDE = {
    "login": "/accounts/login/",
    "signup": "/accounts/signup/",
    "password-lost": "/accounts/password/reset/",
    "join-dead": "/join/no-such-invitation/",
}
"""Pages of those who are not signed in."""
FOUND = {
    "deployment": ("/deployments/", r"/deployments/[0-9a-f-]{36}/$"),
    "request": ("/requests/", r"/requests/\d+/$"),
    "key": ("/keys/", r"/keys/[0-9a-f-]{36}/$"),
    "budget": ("/budgets/", r"/budgets/\d+/$"),
    "alias": ("/aliases/", r"/aliases/[0-9a-f-]{36}/$"),
    "invoice": ("/billing/invoices/", r"/billing/invoices/[^/]*\d[^/]*/$"),
    "prompt": ("/playground/prompts/", r"/playground/prompts/[0-9a-f-]{36}/$"),
    "prompt-set": ("/deployments/prompt-sets/", r"/prompt-sets/[0-9a-f-]{36}/$"),
    "weights-one": ("/weights/", r"/weights/[0-9a-f-]{36}$"),
}
"""Pages with an id in their address: where a link to one stands, and what it looks like."""
OF_DEPLOYMENT = ("logs", "validation", "versions", "settings", "cost")
WIDTHS = {1440: 900, 390: 844}
FOLDER = Path(__file__).resolve().parent.parent / "shots"


def main() -> None:
    asked = _asked()
    folder = FOLDER / asked.team
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
        )
        for width, height in WIDTHS.items():
            for scheme in ("light", "dark"):
                page = _page(browser, width=width, height=height, scheme=scheme)
                shown = f"{width}-{scheme}.png"
                _shoot_all(page, asked, OUTSIDE, folder=folder, shown=shown)
                _shoot_all(page, asked, _inside(page, asked), folder=folder, shown=shown)
                page.context.close()
        browser.close()


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("email")
    parser.add_argument("password")
    parser.add_argument("--team", default="demo", help="the slug of the team that is looked at")
    parser.add_argument("pages", nargs="*")
    return parser.parse_args()


def _page(browser: Browser, *, width: int, height: int, scheme: str) -> Page:
    return browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    ).new_page()


def _inside(page: Page, asked: argparse.Namespace) -> dict[str, str]:
    """Signs in, twice as some pages ask for, takes the team, and says all pages there are: those of PAGES, and those
    that are found by a link."""
    page.goto(f"{asked.url}/accounts/login/")
    page.fill("input[type=email], input[name=login]", asked.email)
    page.fill("input[type=password]", asked.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "login" not in address)
    page.goto(f"{asked.url}/accounts/reauthenticate/")
    page.fill("input[type=password]", asked.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "reauthenticate" not in address)
    page.locator("details.menu > summary").click()
    page.locator(f"form:has(input[name=team][value='{asked.team}']) button").click()
    found = {name: path for name, (where, looks) in FOUND.items() if (path := _link(page, asked.url + where, looks))}
    if deployment := found.get("deployment"):
        found |= {f"deployment-{tab}": f"{deployment}{tab}/" for tab in OF_DEPLOYMENT}
    return PAGES | found


def _link(page: Page, where: str, looks: str) -> str:
    page.goto(where)
    hrefs = page.eval_on_selector_all("main a[href]", "links => links.map((link) => link.getAttribute('href'))")
    return next((href for href in hrefs if re.search(looks, href)), "")


def _shoot_all(page: Page, asked: argparse.Namespace, pages: dict[str, str], *, folder: Path, shown: str) -> None:
    for name, path in pages.items():
        if not asked.pages or name in asked.pages:
            _shoot(page, asked.url + path, folder / f"{name}-{shown}")


def _shoot(page: Page, address: str, file: Path) -> None:
    page.goto(address)
    page.wait_for_timeout(600)
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.screenshot(path=file, full_page=True)
    print(f"{file.stem}{'  SCROLLS SIDEWAYS' if wide else ''}", flush=True)


if __name__ == "__main__":
    main()
