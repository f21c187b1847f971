"""Judges: language models with gradients, by which samples are compared with real text.

A judge is an autoregressive model of this package, a causal language model of Hugging Face's `transformers`,
or the first-order chain of the Markov world. Values under different judges are not comparable.
"""

import os
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import weights_sha256
from dmmd_lite.utils.rng import float64_device
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.markov import Markov

CHAIN, HUGGING_FACE = "chain", "hf:"  # names of judges that are not recipes: a name, and a prefix


@dataclass(frozen=True)
class Judge:
    """A model p_theta of token sequences. Judges are equal if their names, weights and devices are.

    Args:
    sha256: of the weights.
    module: module.nll(tokens [B, L]) gives -log p(token | the tokens before) in nats, [B, L], differentiable
        in module.parameters().
    """

    name: str
    sha256: str
    vocab_size: int
    module: nn.Module = field(compare=False, repr=False)
    device: torch.device = torch.device("cpu")

    @classmethod
    def of(cls, name: str, module: nn.Module, vocab_size: int, device="cpu", sha256: str = "") -> "Judge":
        """Make a judge that owns `module`, moved to `device`, with gradients of every parameter."""
        digest, device = sha256 or weights_sha256(module), torch.device(device)
        return cls(name, digest, vocab_size, module.to(device).eval().requires_grad_(True), device)


class Chain(nn.Module):
    """The distribution of a Markov world; parameters are log-probabilities, [V] and [V, V], float64.

    Both are normalised in `nll`, so gradients are those of unconstrained logits.
    """

    def __init__(self, world: Markov):
        super().__init__()
        self.first = nn.Parameter(world.stationary.log())
        self.onward = nn.Parameter(world.table.log())

    def nll(self, tokens: Tensor) -> Tensor:
        """Compute -log p(token | the token before) of tokens [B, L], in nats [B, L]."""
        first = self.first.log_softmax(-1)[tokens[:, :1]]
        return -torch.cat([first, self.onward.log_softmax(-1)[tokens[:, :-1], tokens[:, 1:]]], 1)


class CausalLM(nn.Module):
    """A `transformers` causal language model. It reads its `bos_token_id` before the sequence, so that every
    token is scored, the first one too."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def nll(self, tokens: Tensor) -> Tensor:
        """Compute -log p(token | the tokens before) of tokens [B, L], in nats [B, L]."""
        first = torch.full_like(tokens[:, :1], self.model.config.bos_token_id)
        logits = self.model(torch.cat([first, tokens[:, :-1]], 1), use_cache=False).logits
        return cross_entropy(logits.transpose(1, 2), tokens, reduction="none")


def chain_judge(world: Markov, device: torch.device | str = "cpu") -> Judge:
    """Make a judge of a Markov world's exact distribution; on the CPU where `device` has no float64."""
    return Judge.of(CHAIN, Chain(world), world.vocab_size, float64_device(device))


def transformers_judge(name: str, device: torch.device | str = "cpu", download: bool = False) -> Judge:
    """Load a causal language model of `transformers`, in float32: a folder, or a name in the hub's cache.

    Only safetensors are read. Nothing is downloaded unless download=True and HF_HUB_OFFLINE is unset.
    Errors: ValueError without the library or the weights, or for a model without a `bos_token_id`.
    """
    require("transformers")
    from transformers import AutoModelForCausalLM

    offline = not download or "HF_HUB_OFFLINE" in os.environ
    try:
        model = AutoModelForCausalLM.from_pretrained(name, local_files_only=offline, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"judge: {name!r} is not allowed; its weights are not here ({reason})") from None
    if model.config.bos_token_id is None:
        raise ValueError(f"judge: {name!r} is not allowed; its configuration has no bos_token_id")
    return Judge.of(HUGGING_FACE + name, CausalLM(model.float()), model.config.vocab_size, device)


def check_symbols(name: str, vocab_size: int, world: World) -> None:
    """Raise ValueError for a judge whose vocabulary is not the size of the world's."""
    if vocab_size != world.vocab_size:
        raise ValueError(
            f"judge: {name!r} is not allowed for {world.name}; "
            f"it reads {vocab_size} symbols, the samples have {world.vocab_size}"
        )
