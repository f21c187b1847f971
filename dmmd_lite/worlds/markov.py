"""Markov text: a first-order chain of characters, fitted on the standard library's docstrings.

Sequences are long and their distribution is still known: posteriors under noise come from forward-backward,
the entropy and every n-gram distribution from the table.
"""

import json

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Count, checked
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.rng import categorical, float64_device
from dmmd_lite.utils.tensors import Integers
from dmmd_lite.worlds.base import ExactWorld, check_likelihood, tokens_of
from dmmd_lite.worlds.text import SYMBOLS, show_symbols

DATA_FILE = "markov.json"  # written by dmmd_lite.worlds.fit_markov


class Markov(ExactWorld):
    """A stationary chain over the space and a to z (values 0 and 1 … 26), of any length.

    table [V, V] holds P(next | current) in rows; stationary [V] is its stationary distribution, that of the
    first symbol; both are float64. Another table over the first V symbols makes another chain. The
    fitted table is smoothed (one half added to every count), so no z_t has probability zero. ValueError for a
    table of another shape or type, or whose rows are no distributions.
    """

    name, traits = "markov", frozenset({"chain", "judged"})

    @checked
    def __init__(self, length: Count = 64, table: Tensor | None = None):
        self.length, self.table = length, fitted_table() if table is None else table
        _check_table(self.table)
        self.vocab_size = len(self.table)
        equations = torch.eye(self.vocab_size, dtype=torch.float64) - self.table.T
        equations[-1] = 1  # pi = pi P in all rows follows from all but one; this row makes pi sum to 1
        last = torch.zeros(self.vocab_size, dtype=torch.float64)
        last[-1] = 1
        self.stationary, failed = torch.linalg.solve_ex(equations, last)
        if failed:
            raise ValueError("table: the chain has more than one stationary distribution")

    @checked
    def sample(
        self, num: Count, generator: torch.Generator, split: str = "train", length: Count | None = None
    ) -> Tensor:
        """Draw `num` independent samples [num, L] on the generator's device; all splits are the same."""
        log_table = self.table.log().to(generator.device)
        tokens = [categorical(self.stationary.log().to(generator.device).expand(num, -1), generator)]
        for _ in range((length or self.length) - 1):
            tokens.append(categorical(log_table[tokens[-1]], generator))
        return torch.stack(tokens, 1)

    @checked
    def show(self, tokens: Integers) -> list[str]:
        """Write tokens [B, L] as one string a sequence."""
        return show_symbols(tokens)

    @checked
    def parse(self, text: str) -> list[int]:
        """Return the tokens of a text of the 27 symbols; ValueError for others."""
        return tokens_of(text, SYMBOLS[: self.vocab_size], self.name)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Compute the log-probability of whole sequences [B, L] in nats, float64 [B]."""
        tokens = tokens.to(float64_device(tokens.device))
        log_first, log_table = self.stationary.log().to(tokens.device), self.table.log().to(tokens.device)
        return log_first[tokens[:, 0]] + log_table[tokens[:, :-1], tokens[:, 1:]].sum(-1)

    def entropy(self, length: int | None = None) -> float:
        """Compute the entropy of the whole sequence in nats: H(stationary) + (L - 1) H(next | current)."""
        first = -(self.stationary * self.stationary.log()).sum()
        later = -(self.stationary @ torch.xlogy(self.table, self.table)).sum()
        return float(first + ((length or self.length) - 1) * later)

    def trigram_law(self) -> Tensor:
        """Compute the probability of every three symbols in a row, float64 [V, V, V]."""
        return self.stationary[:, None, None] * self.table[:, :, None] * self.table

    @checked
    def posterior(self, likelihood: Tensor) -> Tensor:
        """Compute posteriors [B, L, V] by forward-backward; both directions run together.

        A message [2, B, V] is the normalised evidence about x_l from the positions to its left and to its
        right. The product of both times the likelihood at l is the posterior of x_l.
        """
        check_likelihood(likelihood, self.vocab_size)
        B, L, V = likelihood.shape
        seen = torch.stack([likelihood, likelihood.flip(1)]).movedim(2, 0)  # [L, 2, B, V]
        onward = torch.stack([self.table, self.table.T]).to(likelihood)  # [2, V, V]
        first = torch.stack([self.stationary, torch.full_like(self.stationary, 1 / V)])
        messages = [first.to(likelihood).unsqueeze(1).expand(2, B, V)]
        for seen_l in seen[:-1]:
            message = messages[-1] * seen_l
            messages.append(message / message.sum(-1, keepdim=True) @ onward)
        left, right = torch.stack(messages, 2)  # [B, L, V] each
        x = left * likelihood * right.flip(1)
        return x / x.sum(-1, keepdim=True)


def _check_table(table: Tensor) -> None:
    """Raise ValueError unless the rows of a table [V, V] are distributions over V symbols."""
    shape, kind = tuple(table.shape), table.dtype
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2 or kind != torch.float64:
        words = "it must be float64 [V, V] with V of at least 2"
        raise ValueError(f"table: {str(kind).removeprefix('torch.')} {list(shape)} is not allowed; {words}")
    if not ((table >= 0).all() and torch.allclose(table.sum(-1), torch.ones(1, dtype=kind))):
        raise ValueError("table: rows must be distributions: no negative numbers, and sums of 1")


def read_fit() -> dict:
    """Read the data file: counts [27][27] of symbol pairs, the smoothing to add, and where they come from."""
    return json.loads((data_dir() / DATA_FILE).read_text(encoding="utf-8"))


def fitted_table() -> Tensor:
    """Return the smoothed transition table of the data file, float64 [27, 27]."""
    fit = read_fit()
    counts = torch.tensor(fit["counts"], dtype=torch.float64) + fit["smoothing"]
    return counts / counts.sum(-1, keepdim=True)
