"""Tiny worlds whose distribution is a table: coins, parity, permutations. Everything about them is exact."""

import itertools

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Count, checked
from dmmd_lite.utils.rng import categorical
from dmmd_lite.utils.tensors import Integers
from dmmd_lite.worlds.base import ExactWorld, check_likelihood, check_shapes


class ListedWorld(ExactWorld):
    """A distribution given by its outcomes [N, L] and their probabilities [N]."""

    traits = frozenset({"listed"})

    def __init__(self, name: str, vocab_size: int, outcomes: Tensor, probs: list[float], symbols: str):
        self.name, self.vocab_size, self.length = name, vocab_size, outcomes.shape[1]
        self.outcomes, self.symbols = outcomes, symbols
        self.probs = torch.as_tensor(probs, dtype=torch.float64)

    @checked
    def sample(self, num: Count, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` independent samples [num, L]; all splits have the same distribution."""
        log_p = self.probs.log().to(generator.device).expand(num, -1)
        return self.outcomes.to(generator.device)[categorical(log_p, generator)]

    @checked
    def check_conditions(self, held: Tensor, tokens: Integers, name: str) -> None:
        """Raise ValueError for held tokens, [n, L] each, that no outcome has."""
        check_shapes(self, held, tokens, name)
        outcomes = self.outcomes[self.probs > 0]
        for number, (known, row) in enumerate(zip(held, tokens, strict=True), 1):
            if not (outcomes == row)[:, known].all(1).any():
                words = f"no outcome of {self.name} has these tokens"
                raise ValueError(f"{name}: sequence {number} is not allowed; {words}")

    def entropy(self) -> float:
        """Compute the entropy of the whole sequence in nats."""
        return float(-(self.probs * self.probs.log()).sum())

    def law(self) -> Tensor:
        """Return the probabilities of the outcomes, and 0 for all other sequences together, [N + 1]."""
        return torch.cat([self.probs, self.probs.new_zeros(1)])

    @checked
    def posterior(self, likelihood: Tensor) -> Tensor:
        """Compute posteriors by enumeration: p(x | z_t) is proportional to p(x) prod_l q(z_l | x_l).

        A z_t of probability zero (masked noise only: revealed tokens no outcome shares) has no posterior;
        its masked positions get the uniform distribution, the answer for a world mixed with a vanishing part
        of independent uniform tokens.
        """
        check_likelihood(likelihood, self.vocab_size)
        outcomes = self.outcomes.to(likelihood.device).T  # [L, N]
        per_token = [q.index_select(-1, x_l) for q, x_l in zip(likelihood.unbind(1), outcomes, strict=True)]
        joint = self.probs.to(likelihood.device) * torch.stack(per_token).prod(0)  # [B, N]
        evidence = joint.sum(-1)[:, None, None]
        zero = likelihood.new_zeros(len(likelihood), self.vocab_size)
        marginals = torch.stack([zero.index_add(-1, x_l, joint) for x_l in outcomes], 1)
        alone = likelihood / likelihood.sum(-1, keepdim=True)  # posterior under independent uniform tokens
        return torch.where(evidence > 0, marginals / evidence, alone)


class EnumerableWorld(ListedWorld):
    """A listed world of so few positions and symbols that all V^L sequences can be enumerated."""

    traits = frozenset({"listed", "enumerable"})

    def law(self) -> Tensor:
        """Compute the probability of each of the V^L sequences, in the order of `all_sequences`, float64."""
        index = (self.outcomes * self.vocab_size ** torch.arange(self.length - 1, -1, -1)).sum(-1)
        return torch.zeros(self.vocab_size**self.length, dtype=torch.float64).index_add(0, index, self.probs)

    def all_sequences(self) -> Tensor:
        """Return all V^L sequences in lexicographic order, [V^L, L]."""
        return torch.tensor(list(itertools.product(range(self.vocab_size), repeat=self.length)))


def coins() -> EnumerableWorld:
    """Make the world of two coins that always agree: P(HH) = 0.6, P(TT) = 0.4."""
    return EnumerableWorld("coins", 2, torch.tensor([[0, 0], [1, 1]]), [0.6, 0.4], "HT")


def parity() -> EnumerableWorld:
    """Make the world of three bits with an even sum, four equally likely outcomes."""
    outcomes = torch.tensor([bits for bits in itertools.product((0, 1), repeat=3) if sum(bits) % 2 == 0])
    return EnumerableWorld("parity", 2, outcomes, [1 / 4] * 4, "01")


def permutations() -> EnumerableWorld:
    """Make the world of the 24 orders of four symbols, equally likely."""
    outcomes = torch.tensor(list(itertools.permutations(range(4))))
    return EnumerableWorld("permutations", 4, outcomes, [1 / 24] * 24, "abcd")
