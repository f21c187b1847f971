"""Judges: language models with gradients, by which samples are compared with real text.

A judge is one of our autoregressive models, a causal language model of Hugging Face's `transformers`, or the
first-order chain of the Markov world. Values under different judges are not comparable.
"""

import os
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dmmd_lite.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.recipes import RECIPES, get_recipe, judge_of
from dmmd_lite.rng import float64_device
from dmmd_lite.store import Model, load_model, recipe_of, weights_sha256
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.markov import Markov

CHAIN, HUGGING_FACE = "chain", "hf:"  # names of judges that are no recipes: one, and a prefix


@dataclass(frozen=True)
class Judge:
    """A model p_theta of token sequences. Judges are equal when their name, weights and device are.

    module.nll(tokens [B, L]) gives -log p(token | the tokens before) in nats, [B, L], differentiable in
    module.parameters(). sha256 is that of the weights.
    """

    name: str
    sha256: str
    vocab_size: int
    module: nn.Module = field(compare=False, repr=False)
    device: torch.device = torch.device("cpu")

    @classmethod
    def of(cls, name: str, module: nn.Module, vocab_size: int, device="cpu", sha256: str = "") -> "Judge":
        """A judge that owns `module`, moved to `device`; every parameter of it counts."""
        digest, device = sha256 or weights_sha256(module), torch.device(device)
        return cls(name, digest, vocab_size, module.to(device).eval().requires_grad_(True), device)


class Chain(nn.Module):
    """The Markov world's law; parameters are log-probabilities, [V] and [V, V], float64.

    Both are normalised in `nll`, so gradients are the scores of unconstrained logits.
    """

    def __init__(self, world: Markov):
        super().__init__()
        self.first = nn.Parameter(world.stationary.log())
        self.onward = nn.Parameter(world.table.log())

    def nll(self, tokens: Tensor) -> Tensor:
        """-log p(token | the token before) of tokens [B, L], in nats [B, L]."""
        first = self.first.log_softmax(-1)[tokens[:, :1]]
        return -torch.cat([first, self.onward.log_softmax(-1)[tokens[:, :-1], tokens[:, 1:]]], 1)


class CausalLM(nn.Module):
    """A `transformers` causal language model. It reads the sequence moved one place to the right behind its
    own first token (`bos_token_id`), so that every token is scored, the first one too."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def nll(self, tokens: Tensor) -> Tensor:
        """-log p(token | the tokens before) of tokens [B, L], in nats [B, L]."""
        first = torch.full_like(tokens[:, :1], self.model.config.bos_token_id)
        logits = self.model(torch.cat([first, tokens[:, :-1]], 1), use_cache=False).logits
        return cross_entropy(logits.transpose(1, 2), tokens, reduction="none")


def chain_judge(world: Markov, device: torch.device | str = "cpu") -> Judge:
    """The exact law of a Markov world as a judge; on the CPU where `device` has no float64."""
    return Judge.of(CHAIN, Chain(world), world.vocab_size, float64_device(device))


def model_judge(model: Model) -> Judge:
    """A stored autoregressive model as a judge, on its device; ValueError for another kind of model."""
    _check_autoregressive(model.recipe)
    module = deepcopy(model.denoiser)  # the model itself keeps its parameters frozen
    device = next(module.parameters()).device
    return Judge.of(model.name, module, model.world.vocab_size, device, model.provenance["sha256"])


def transformers_judge(name: str, device: torch.device | str = "cpu", download: bool = False) -> Judge:
    """A causal language model of `transformers`, in float32: a folder, or a name in the local hub cache.

    Only safetensors are read. Nothing is downloaded unless download=True and HF_HUB_OFFLINE is unset.
    Errors: ValueError without the library or the weights, or for a model without a `bos_token_id`.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise ValueError(f"judge: {name!r} is not allowed here; it needs the package transformers") from None
    offline = not download or "HF_HUB_OFFLINE" in os.environ
    try:
        model = AutoModelForCausalLM.from_pretrained(name, local_files_only=offline, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"judge: {name!r} is not allowed; its weights are not here ({reason})") from None
    if model.config.bos_token_id is None:
        raise ValueError(f"judge: {name!r} is not allowed; its configuration has no bos_token_id")
    return Judge.of(HUGGING_FACE + name, CausalLM(model.float()), model.config.vocab_size, device)


def default_judge(world: World) -> str:
    """Name of the judge of a world's text: the chain for Markov text, else its autoregressive judge.

    ValueError for a world that has no judge of its own.
    """
    name = CHAIN if isinstance(world, Markov) else judge_of(world.name)
    if name != CHAIN and name not in RECIPES:
        raise ValueError(f"judge: None is not allowed for {world.name}, which has none of its own; name one")
    return name


def load_judge(
    name: str | None, world: World, scale: str = "laptop", device: torch.device | str = "cpu"
) -> Judge:
    """The judge called `name` (None: the world's own) for samples of `world`.

    Names: "chain"; a recipe or a folder of an autoregressive model, as for `load_model`; or "hf:" and a
    `transformers` model. ValueError for another model, or one that reads other symbols than the world's.
    """
    name = default_judge(world) if name is None else name
    if name == CHAIN:
        judge = chain_judge(world if isinstance(world, Markov) else get_world("markov"), device)
    elif name.startswith(HUGGING_FACE):
        judge = transformers_judge(name.removeprefix(HUGGING_FACE), device)
    else:
        recipe = recipe_of(name, scale)
        _check_autoregressive(recipe)
        _check_symbols(name, get_world(recipe.world).vocab_size, world)
        judge = model_judge(load_model(name, scale, device=device))
    check_judge(judge, world)
    return judge


def check_judge(judge: Judge, world: World, generator: Model | None = None) -> None:
    """ValueError for a judge of other symbols than the world's, and for one that is or began the generator.

    The latter goes by weights and by the names of the recipes the generator starts from or is taught by. A
    judge that a generator comes from prefers its text to any other, so its verdict means nothing.
    """
    _check_symbols(judge.name, judge.vocab_size, world)
    if generator is None:
        return
    if judge.name in _origins(generator.recipe) or judge.sha256 == generator.provenance.get("sha256"):
        raise ValueError(
            f"judge: {judge.name!r} is not allowed for {generator.name!r}; it is the generator or its origin"
        )


def _origins(recipe: Recipe) -> set[str]:
    """Names of a recipe and of all those it starts from or is taught by."""
    earlier = [get_recipe(name, recipe.scale) for name in (recipe.start, recipe.teacher) if name]
    return {recipe.name}.union(*map(_origins, earlier))


def _check_autoregressive(recipe: Recipe) -> None:
    if recipe.process != AUTOREGRESSIVE:
        raise ValueError(f"judge: {recipe.name!r} is not allowed; it must be an autoregressive model")


def _check_symbols(name: str, vocab_size: int, world: World) -> None:
    if vocab_size != world.vocab_size:
        raise ValueError(
            f"judge: {name!r} is not allowed for {world.name}; "
            f"it reads {vocab_size} symbols, the samples have {world.vocab_size}"
        )
