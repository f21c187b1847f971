"""The paper (arXiv 2603.20155v1): its numbers as printed, its claims, and the pages about them.

None of the numbers was measured here. The curves of Figures 1, 3, 4, 5 and 6 are pictures without numbers.
"""

from dataclasses import dataclass

from dmmd_lite.pages.source import page_names
from dmmd_lite.report.claims import (
    Claim,
    against_method,
    against_teacher,
    between_noises,
    delta_hardly_matters,
    diverges,
    drops_a_face,
    falls_with_fewer_steps,
    noise_input,
    not_monotone,
    turns,
)

TABLE_1 = {  # CIFAR-10, FID by sampling steps
    "Uniform teacher": {16: 36.3, 32: 17.1, 64: 10.7, 128: 8.6, 256: 7.9, 512: 7.6, 1024: 7.5},
    "Uniform D-MMD": {4: 7.1, 8: 5.0, 16: 4.1, 32: 3.7, 64: 3.8},
    "Masked teacher": {16: 122.9, 32: 47.1, 64: 20.0, 128: 11.1, 256: 7.8, 512: 6.7, 1024: 6.4},
    "Masked D-MMD": {4: 22.3, 8: 12.7, 16: 5.3, 32: 3.8, 64: 3.5},
}
TABLE_2 = {  # OpenWebText, gradient moment under GPT-2 by sampling steps
    "Uniform teacher (p = 0.50)": {32: 0.375, 64: 0.326, 128: 0.330, 256: 0.324, 512: 0.313},
    "Uniform D-MMD (p = 0.70/0.70)": {8: 0.337, 16: 0.310, 32: 0.307, 64: 0.316},
    "Masked teacher (p = 0.85)": {32: 0.402, 64: 0.307, 128: 0.297, 256: 0.275, 512: 0.275},
    "Masked D-MMD (p = 0.85)": {8: 0.456, 16: 0.236, 32: 0.225, 64: 0.231},
}
TABLE_2_AUTOREGRESSIVE = 0.061  # the autoregressive baseline, one value
TABLE_3 = {  # OpenWebText, blocks of 256 tokens, gradient moment by steps a block
    "256-block uniform teacher (p = 0.9)": {256: 0.225},
    "256-block uniform D-MMD (p = 0.7)": {16: 0.225},
}
TABLE_4 = [  # CIFAR-10: method, network evaluations, FID
    ("Di4C teacher", 40, 8.0),
    ("Di4C (hybrid)", 20, 9.5),
    ("Di4C", 10, 20.6),
    ("Uniform teacher", 512, 7.6),
    ("Uniform teacher", 64, 10.7),
    ("Uniform D-MMD", 8, 5.0),
    ("Uniform D-MMD", 16, 4.1),
    ("Uniform D-MMD", 32, 3.7),
    ("Masked teacher", 512, 6.7),
    ("Masked teacher", 64, 20.0),
    ("Masked D-MMD", 16, 5.3),
    ("Masked D-MMD", 32, 3.8),
    ("Masked D-MMD", 64, 3.5),
]
TABLE_5 = [  # OpenWebText: method, steps, gradient moment, perplexity, sample entropy in nats
    ("Duo + DCD", 4, None, 108.2, 4.82),
    ("Duo + Di4C", 4, None, 150.7, 4.81),
    ("MDLM + SDTT", 4, None, 339.7, 5.38),
    ("MDLM + Di4C", 4, None, 239.3, 5.40),
    ("FMLM", 4, None, 76.4, 5.05),
    ("Masked teacher (p = 0.85)", 256, 0.275, 22.5, 5.13),
    ("Masked teacher (p = 0.85)", 128, 0.295, 23.9, 5.17),
    ("Masked teacher (p = 0.85)", 64, 0.307, 26.0, 5.19),
    ("SDTT reimplemented (p = 0.85)", 64, 0.293, 26.9, 5.17),
    ("SDTT reimplemented (p = 0.85)", 32, 0.340, 30.4, 5.18),
    ("Masked D-MMD (p = 0.85)", 4, 0.820, 20.3, 4.60),
    ("Masked D-MMD (p = 0.85)", 16, 0.236, 17.2, 5.00),
    ("Masked D-MMD (p = 0.85)", 32, 0.225, 19.4, 5.05),
    ("Data", None, 0.000, 15.4, 5.44),
    ("Masked teacher (p = 1.0)", 256, 0.672, 85.9, 5.59),
    ("Masked teacher (p = 1.0)", 128, 0.711, 91.1, 5.61),
    ("Masked teacher (p = 1.0)", 64, 0.781, 101.0, 5.63),
    ("Masked D-MMD (p = 1.0)", 4, 0.719, 66.1, 5.44),
    ("Masked D-MMD (p = 1.0)", 16, 0.558, 67.7, 5.57),
    ("Masked D-MMD (p = 1.0)", 32, 0.578, 72.1, 5.57),
]
TABLE_6 = {  # CIFAR-10, masked D-MMD by sampling steps: FID, and entropy of the generator's output
    "without noise input, FID": {4: 151.0, 8: 37.0, 16: 14.7, 32: 7.7, 64: 6.0},
    "with noise input, FID": {4: 22.3, 8: 12.7, 16: 5.3, 32: 3.8, 64: 3.5},
    "without noise input, output entropy": {4: 1.26, 8: 1.37, 16: 1.57, 32: 1.86, 64: 1.91},
    "with noise input, output entropy": {4: 1.01, 8: 1.29, 16: 1.53, 32: 1.76, 64: 1.83},
}


@dataclass(frozen=True)
class Item:
    """A figure, a table or another part of the paper.

    Args:
    name: "Figure 1".
    shows: its subject.
    page: name of the page of the book, "" where there is none.
    """

    name: str
    shows: str
    page: str


def items() -> list[Item]:
    """Return every figure, table and other part of the paper with its page."""
    return [Item(name, shows, _page(prefix)) for name, shows, prefix in PARTS]


def claims_of(item: Item) -> list[Claim]:
    """Return the claims about a part of the paper."""
    return [claim for claim in CLAIMS if item.name in claim.source]


def _page(prefix: str) -> str:
    """Return the first page whose name is `prefix` or contains it as a word; "" where there is none."""
    return next((name for name in page_names() if f"_{prefix}_" in f"_{name}_"), "")


PARTS = [  # name, what it shows, how the name of its page begins
    ("Figure 1", "text quality against sampling steps", "fig1"),
    ("Figure 2", "one random sample of the masked student of 16 steps", "fig2"),
    ("Figure 3", "perplexity and gradient moment as sampling gets sharper", "fig3"),
    ("Figure 4", "base models against sampling temperature and top-p", "fig4"),
    ("Figure 5", "students against the temperature of their teacher", "fig5"),
    ("Figure 6", "students against the top-p of their teacher", "fig6"),
    ("Table 1", "FID by steps on CIFAR-10", "table1"),
    ("Table 2", "gradient moment by steps on OpenWebText", "fig1"),
    ("Table 3", "block-autoregressive diffusion", "table3"),
    ("Table 4", "D-MMD beside Di4C on CIFAR-10", "table4"),
    ("Table 5", "text methods side by side", "table5"),
    ("Table 6", "input noise for masked students", "table6"),
    ("Section 3.1", "why earlier methods collapse", "collapse"),
    ("Algorithm 1", "the whole training step", "standalone"),
    ("Equations 6 to 12, appendices A, B, D", "the theory", "theory"),
]


def _at(row: dict[int, float], *steps: int) -> str:
    """Return the values of a row at some steps, "4.1 at 16, 3.7 at 32"."""
    return ", ".join(f"{row[k]:g} at {k}" for k in steps)


def _method(name: str, steps: int, column: int) -> float:
    """Return a cell of Table 4 or 5."""
    return next(row[column] for row in TABLE_4 + TABLE_5 if row[:2] == (name, steps))


IMAGES, TEXT = "frechet", "gradient_moment"  # metrics that replace the paper's FID and its gradient moment
STRINGS = (TEXT, "valid_unique", "solved")  # of all texts: molecules and puzzles are judged without a model
_UNIFORM_TEACHER, _UNIFORM, _MASKED_TEACHER, _MASKED = TABLE_2.values()
_BLOCK_TEACHER, _BLOCK = TABLE_3.values()
_FID_WITHOUT, _FID_WITH, _ENTROPY_WITHOUT, _ENTROPY_WITH = TABLE_6.values()
_SDTT, _TEACHER, _STUDENT = (
    f"{name} (p = 0.85)" for name in ("SDTT reimplemented", "Masked teacher", "Masked D-MMD")
)
CLAIMS = [
    Claim(
        "Figure 1, Table 2",
        "Text students of 16 steps and more beat their teacher at many more, or match it.",
        f"gradient moment, masked: student {_at(_MASKED, 16, 32)}, teacher {_at(_MASKED_TEACHER, 512)}; "
        f"uniform: student {_at(_UNIFORM, 16, 32)}, teacher {_at(_UNIFORM_TEACHER, 512)}",
        against_teacher(TEXT, most=True, at_least=16),
    ),
    Claim(
        "Table 2",
        "Text students beat their teacher at equal steps.",
        f"gradient moment, masked: student {_at(_MASKED, 32)}, teacher {_at(_MASKED_TEACHER, 32)}; uniform: "
        f"student {_at(_UNIFORM, 32)}, teacher {_at(_UNIFORM_TEACHER, 32)}",
        against_teacher(*STRINGS, most=False),
    ),
    Claim(
        "Table 2",
        "On text masked students are better than uniform ones from 16 steps on.",
        f"gradient moment, masked: {_at(_MASKED, 16, 32, 64)}; uniform: {_at(_UNIFORM, 16, 32, 64)}",
        between_noises(TEXT, "masked", lambda k: k >= 16),
    ),
    Claim(
        "Figure 3",
        "Sharper sampling always lowers the perplexity; the gradient moment falls first and then rises.",
        "curves only",
        turns(TEXT, always="perplexity"),
    ),
    Claim(
        "Figure 4",
        "Base models of images sample best a little sharper than plain, and worse when much sharper.",
        "curves only, and no optimum in words",
        turns(IMAGES),
    ),
    Claim(
        "Table 1",
        "Image students of 16 steps and more beat their teacher at many more.",
        f"FID, uniform: student {_at(TABLE_1['Uniform D-MMD'], 16, 32)}, teacher "
        f"{_at(TABLE_1['Uniform teacher'], 1024)}; masked: student {_at(TABLE_1['Masked D-MMD'], 16, 32)}, "
        f"teacher {_at(TABLE_1['Masked teacher'], 1024)}",
        against_teacher(IMAGES, most=True, at_least=16),
    ),
    Claim(
        "Table 1",
        "Image students beat their teacher at equal steps.",
        f"FID, uniform: student {_at(TABLE_1['Uniform D-MMD'], 16)}, teacher "
        f"{_at(TABLE_1['Uniform teacher'], 16)}; masked: student {_at(TABLE_1['Masked D-MMD'], 16)}, teacher "
        f"{_at(TABLE_1['Masked teacher'], 16)}",
        against_teacher(IMAGES, most=False),
    ),
    Claim(
        "Table 1",
        "On images uniform students are better than masked ones up to 16 steps.",
        f"FID, uniform: {_at(TABLE_1['Uniform D-MMD'], 4, 8, 16)}; masked: "
        f"{_at(TABLE_1['Masked D-MMD'], 4, 8, 16)}",
        between_noises(IMAGES, "uniform", lambda k: k <= 16),
    ),
    Claim(
        "Table 1, Table 2",
        "More steps are not always better: the best student is not the one of the most steps.",
        f"FID of uniform students {_at(TABLE_1['Uniform D-MMD'], 32, 64)}; gradient moment of masked ones "
        f"{_at(_MASKED, 32, 64)}",
        not_monotone(IMAGES, TEXT),
    ),
    Claim(
        "Table 3",
        "A block-autoregressive student of 16 steps a block is as good as its teacher at many more.",
        f"gradient moment: student {_at(_BLOCK, 16)}, teacher {_at(_BLOCK_TEACHER, 256)}",
        against_teacher(TEXT, most=True, at_least=16, blocks=True),
    ),
    Claim(
        "Table 4",
        "On images D-MMD is better than Di4C.",
        f"FID: Di4C {_method('Di4C', 10, 2)} at 10, uniform D-MMD {_method('Uniform D-MMD', 8, 2)} at 8",
        against_method(IMAGES, role="di4c"),
    ),
    Claim(
        "Table 5",
        "On text D-MMD is better than SDTT.",
        f"gradient moment at 32 steps: SDTT {_method(_SDTT, 32, 2)}, D-MMD {_method(_STUDENT, 32, 2)}",
        against_method(*STRINGS, role="sdtt"),
    ),
    Claim(
        "Table 5",
        "SDTT beats its teacher at equal steps.",
        f"gradient moment: SDTT {_method(_SDTT, 64, 2)} at 64, {_method(_SDTT, 32, 2)} at 32, teacher "
        f"{_method(_TEACHER, 64, 2)} at 64",
        against_teacher(*STRINGS, most=False, role="sdtt"),
    ),
    Claim(
        "Table 5",
        "Students of 16 steps and more have a lower perplexity than their teacher at many more, too.",
        f"student {_method(_STUDENT, 16, 3)} at 16, teacher {_method(_TEACHER, 256, 3)} at 256",
        against_teacher("perplexity", most=True, at_least=16),
    ),
    Claim(
        "Table 5",
        "The entropy of single samples falls when very few steps are left.",
        f"{_method(_STUDENT, 4, 4)} at 4 steps, {_method(_STUDENT, 32, 4)} at 32",
        falls_with_fewer_steps("sample_entropy"),
    ),
    Claim(
        "Table 6",
        "Under masked noise a student needs noise as an input.",
        f"FID with noise {_at(_FID_WITH, 4, 64)}; without {_at(_FID_WITHOUT, 4, 64)}",
        noise_input(IMAGES, "total_variation"),
    ),
    Claim(
        "Table 6",
        "The fewer the steps, the lower the entropy of the student's output.",
        f"with noise {_at(_ENTROPY_WITH, 4, 64)}; without {_at(_ENTROPY_WITHOUT, 4, 64)}",
        falls_with_fewer_steps("output_entropy"),
    ),
    Claim(
        "Table 6",
        "Noise input lowers the entropy of the student's output.",
        f"with noise {_at(_ENTROPY_WITH, 4, 64)}; without {_at(_ENTROPY_WITHOUT, 4, 64)}",
        noise_input("output_entropy"),
    ),
    Claim(
        "Section 3.3, Figure 6",
        "The value of Δ, what an excluded class loses of its log-probability, hardly matters.",
        "a statement, no number",
        delta_hardly_matters("frechet"),
    ),
    Claim(
        "Section 3.3, Figure 6",
        "With a hard exclusion, a log-probability of -1e20, training diverges.",
        "a statement, no number",
        diverges("frechet"),
    ),
    Claim(
        "Section 3.1",
        "One step of SDTT cannot make two correlated coins, and drops a face.",
        "an argument, no number",
        drops_a_face("sdtt"),
    ),
]
