"""Tables that compare the paper's claims with the committed records."""

import html
from collections import Counter

import pandas as pd
from pandas import DataFrame

from dmmd_lite.pages.links import page_link, record_link
from dmmd_lite.report.cells import as_html
from dmmd_lite.report.claims import Claim, Finding, verdict
from dmmd_lite.report.paper import claims_of, items


def parts_table(found: dict[Claim, list[Finding]]) -> DataFrame:
    """Return every part of the paper with its page in the book and the outcomes of its claims by scale."""
    rows = []
    for part in items():
        claims = claims_of(part)
        count = Counter(verdict(found[claim]) for claim in claims)
        scales = dict.fromkeys(f.scale for claim in claims for f in found[claim])
        done = page_link(part.page, part.page.replace("_", " ")) if part.page else "not done yet"
        rows.append(
            {
                "in the paper": part.name,
                "shows": part.shows,
                "in this book": done,
                "claims": "; ".join(f"{words}: {n}" for words, n in count.items()) or "none to count",
                "scales": ", ".join(scales),
            }
        )
    return pd.DataFrame(rows)


def claim_section(claim: Claim, findings: list[Finding]) -> str:
    """Return a claim as HTML: the paper's words, the outcome, and a table of the comparisons behind it."""
    rows = [
        {
            "compared": f.where,
            "here": f.numbers,
            "as in the paper": f"{f.agree} of {f.seeds}",
            "intervals apart": f"{f.apart} of {f.seeds}",
            "scale": f.scale,
            "records": record_link(f.file),
        }
        for f in findings
    ]
    source, words, paper = map(html.escape, (claim.source, claim.text, claim.paper))
    text = f"<p><b>{source}.</b> {words} <b>{verdict(findings).capitalize()}.</b><br>"
    text += f"<i>The paper's numbers:</i> {paper}.</p>"
    return text + (as_html(pd.DataFrame(rows), "records") if rows else "")


def claims_on(part: str) -> str:
    """Return the claims about a part of the paper ("Table 6") and all committed records on them, as HTML."""
    claims = claims_of(next(item for item in items() if item.name == part))
    return "".join(claim_section(claim, claim.findings()) for claim in claims)
