# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The paper against us
#
# Every figure and table of the paper (arXiv 2603.20155v1), what it claims, where this book takes it up, and whether it came
# out the same. Nothing here is typed in: each line is a comparison of committed records, made while this page ran. **What
# the paper says is marked as the paper's**; its numbers are on CIFAR-10 and OpenWebText and never compare with ours in
# height, only in kind.
#
# *Reproduced* means: in every comparison that could be made, and in every training seed of it, and with 95 % intervals apart.
# *Within intervals* means that values are as claimed in every seed, but some intervals overlap. *In part*: in some seeds or
# worlds. *Not run yet*: no committed records decide it. Scales are those of the
# [models' recipes](cost.py): most records here come from a laptop.

# %% tags=["parameters"]
parts: list[str] = []  # parts of the paper to show in full, such as "Table 1"; none: all of them

# %%
from IPython.display import HTML

from dmmd_lite.pages.links import code_link
from dmmd_lite.report.cells import as_html
from dmmd_lite.report.claim_tables import claim_section, parts_table
from dmmd_lite.report.paper import CLAIMS, claims_of, items

found = {claim: claim.findings() for claim in CLAIMS}
HTML(as_html(parts_table(found), "in this book"))

# %% [markdown]
# ## Claim by claim
#
# One table a claim; every line names the file of records it was read from. A claim that concerns several parts of the
# paper stands at the first of them. "As in the paper" counts training seeds; where means over them are compared (students
# against their steps), or single models, it is 1 of 1.

# %%
chosen = [claim for part in items() if not parts or part.name in parts for claim in claims_of(part)]
HTML("".join(claim_section(claim, found[claim]) for claim in dict.fromkeys(chosen)))

# %% [markdown]
# ## How this is decided

# %%
HTML(
    f"The comparisons are in {code_link('report.claims')}, the paper's numbers and what it claims in {code_link('report.paper')}. "
    "The statements that pages make beyond these are compared with the same records by <code>tests/report/test_claims.py</code>."
)
