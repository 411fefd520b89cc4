"""An invoice as PDF, in A4. The same bytes each time.

The font is INVOICE_FONT, else the DejaVu Sans beside this file: Latin with all its marks, Greek, Cyrillic, Armenian and
Georgian. A letter that the font does not have becomes a question mark there, and only there.
"""

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from fpdf import FPDF, FontFace
from fpdf.enums import TableBordersLayout

from billing import heads, money
from billing.coverage import Coverage
from billing.invoice_lines import Shown, sections
from billing.models import Invoice

_OURS = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
INK, MUTED, LINE = (28, 29, 31), (92, 95, 101), (200, 200, 194)
HEADINGS = ("What", "Quantity", "Price", "Amount")
WIDTHS = (76, 44, 34, 26)


def render(invoice: Invoice) -> bytes:
    page = _Page(invoice)
    page.head()
    for title, lines in sections(invoice):
        page.table(title, lines)
    page.total()
    page.checks()
    return bytes(page.pdf.output())


def printable(text: str) -> str:
    """The text in letters that the font has."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(letter if letter == "\n" or ord(letter) in _letters() else "?" for letter in composed)


class _Page:
    def __init__(self, invoice: Invoice) -> None:
        self.invoice = invoice
        self.pdf = _Paper(f"{invoice.issuer} · {invoice.name}")
        self.pdf.set_title(invoice.name)
        self.pdf.set_author(invoice.issuer)
        self.pdf.set_creation_date(invoice.issued_at)
        self.pdf.add_page()

    def head(self) -> None:
        invoice, pdf = self.invoice, self.pdf
        pdf.write_line(invoice.issuer, size=11, bold=True)
        pdf.ln(8)
        top = pdf.get_y()
        pdf.write_line(f"Invoice {invoice.name}", size=22, bold=True, height=11)
        pdf.write_line(f"{invoice.month:%B %Y}", size=12, muted=True, height=7)
        pdf.set_xy(120, top)
        pdf.set_left_margin(120)
        pdf.write_line("To", size=8, muted=True)
        pdf.write_line(invoice.team_name, bold=True)
        for line in invoice.address.splitlines():
            pdf.write_line(line)
        pdf.set_left_margin(15)
        pdf.set_y(max(pdf.get_y() + 4, top + 24))
        zone = f"{invoice.begins:%Y-%m-%d %H:%M} to {invoice.ends:%Y-%m-%d %H:%M} UTC, days in {invoice.time_zone}"
        pdf.write_line(f"Issued {invoice.issued_at:%d %B %Y}. Period: {zone}.", size=9, muted=True)
        pdf.ln(5)

    def table(self, title: str, lines: list[Shown]) -> None:
        pdf = self.pdf
        pdf.write_line(title, size=11, bold=True, height=7)
        pdf.use(size=9)
        pdf.set_draw_color(*LINE)
        counted = bool(lines[0].quantity)  # a credit and a correction have an amount alone
        with pdf.table(
            col_widths=WIDTHS if counted else (sum(WIDTHS[:3]), WIDTHS[3]),
            text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT") if counted else ("LEFT", "RIGHT"),
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(color=MUTED, emphasis=None),
            line_height=4.6,
            padding=(1.2, 1),
        ) as table:
            row = table.row()
            for heading in HEADINGS if counted else (HEADINGS[0], HEADINGS[3]):
                row.cell(heading)
            for line in lines:
                row = table.row()
                row.cell(printable(f"{line.what}\n{line.meter}".strip()))
                for text in (line.quantity, line.price, line.amount) if counted else (line.amount,):
                    row.cell(printable(text))
        pdf.ln(4)

    def total(self) -> None:
        invoice, pdf = self.invoice, self.pdf
        if pdf.will_page_break(22):
            pdf.add_page()
        pdf.write_line(
            f"Amount due: {money.dollars(invoice.due)} {invoice.currency}", size=14, bold=True, height=9, align="R"
        )
        exact = f"The lines sum to exactly {money.plain(invoice.total)} {invoice.currency}; due are whole cents of it."
        pdf.write_line(exact, size=8, muted=True, align="R")
        pdf.ln(5)

    def checks(self) -> None:
        invoice, pdf = self.invoice, self.pdf
        pdf.write_line("Checked before it was issued", size=9, bold=True)
        for check in invoice.checks:
            pdf.write_line(f"{check['name']}: {check['says']}.", size=8, muted=True)
        said = Coverage(invoice.events, invoice.estimated).words
        pdf.write_line(said, size=8, muted=True)
        head = heads.of(invoice)
        pdf.write_line(f"Detail file: {head.rows:,} rows, last digest {head.digest}", size=8, muted=True)


class _Paper(FPDF):
    """A4 in one font, with the page's number at its foot."""

    def __init__(self, foot: str) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self.set_margins(15, 18, 15)
        self.set_auto_page_break(True, margin=20)
        regular, bold = _font()
        self.add_font("text", fname=str(regular))
        self.add_font("text", style="B", fname=str(bold))
        self.use()

    def use(self, *, size: float = 10, bold: bool = False, muted: bool = False) -> None:
        self.set_font("text", "B" if bold else "", size)
        self.set_text_color(*(MUTED if muted else INK))

    def write_line(self, text: str, *, height: float = 5, align: str = "L", **look: Any) -> None:
        self.use(**look)
        self.multi_cell(0, height, printable(text), align=align, new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        self.set_y(-14)
        self.use(size=8, muted=True)
        self.cell(0, 5, printable(f"{self._foot} · page {self.page_no()} of {{nb}}"), align="C")


@cache
def _font() -> tuple[Path, Path]:
    """The regular and the bold file, which is beside it and may be missing."""
    regular = Path(settings.INVOICE_FONT or _OURS)
    bold = regular.with_name(f"{regular.stem}-Bold{regular.suffix}")
    return regular, bold if bold.exists() else regular


@cache
def _letters() -> frozenset[int]:
    with TTFont(_font()[0], lazy=True) as font:
        return frozenset(font.getBestCmap())
