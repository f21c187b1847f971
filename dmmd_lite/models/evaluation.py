"""Sample a model and measure it: records with their whole context."""

import math
from collections.abc import Iterable
from dataclasses import replace

from dmmd_lite.denoisers.base import NOT_FINITE, NonFinitePrediction
from dmmd_lite.denoisers.sharpening import Sharpened
from dmmd_lite.metrics.exact_laws import exact_metrics
from dmmd_lite.metrics.judges import Judge
from dmmd_lite.metrics.suite import METRICS, check_features, evaluate_samples, metrics_for, needing
from dmmd_lite.models.judging import check_judge
from dmmd_lite.models.loading import load_judge, load_model
from dmmd_lite.models.model import Model
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.sampling import Samples
from dmmd_lite.utils.checks import Count, PositiveFraction, PositiveOrZero, Seed, checked
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.records import Record, encode_tokens
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.scales import SCALES
from dmmd_lite.utils.tensors import Device
from dmmd_lite.worlds.base import World

SAMPLES, PUBLISHED_SAMPLES = 1000, 50_000  # numbers of samples: by default, and for FID at scale "paper"
FRONTIER = ("perplexity", "gradient_moment", "sample_entropy", "distinct_4grams")


def default_num(scale: str, names: Iterable[str]) -> int:
    """Return how many samples metrics are measured on: 50,000 for FID at scale "paper", else 1,000."""
    return PUBLISHED_SAMPLES if scale == "paper" and "fid" in names else SAMPLES


def judged_at(recipe: Recipe) -> str:
    """Return the scale of a model's judge: that of its recipe, or "laptop" for a custom model."""
    return recipe.scale if recipe.scale in SCALES else "laptop"


def check_metrics(names: list[str], world: World) -> None:
    """Raise ValueError unless every name is a metric that applies to the world."""
    allowed = metrics_for(world)
    for name in names:
        if name in allowed:
            require(*METRICS[name].packages)
        else:
            known = "does not apply to" if name in METRICS else "is not a metric for"
            raise ValueError(f"metrics: {name!r} {known} {world.name}; choose from {allowed}")


def judge_for(
    judge: Judge | str | None, names: Iterable[str], recipe: Recipe | None, world: World, device="cpu"
) -> Judge | None:
    """Load the judge of a recipe's model if one of the metrics `names` needs it; None if none does."""
    if not needing(names, "judge", "gradients"):
        return None
    scale = judged_at(recipe) if recipe else "laptop"
    return judge if isinstance(judge, Judge) else load_judge(judge, world, scale, device)


@checked
def evaluate(
    model: Model,
    names: Iterable[str],
    *,
    steps: Count | None = None,
    num: Count | None = None,
    seed: Seed = 0,
    temperature: PositiveOrZero = 1.0,
    top_p: PositiveFraction = 1.0,
    device: Device = "cpu",
    samples: Samples | None = None,
    split: str = "test",
    judge: Judge | str | None = None,
    features: str | None = None,
    **options,
) -> list[Record]:
    """Measure a model at some number of steps by the metrics `names`; the records are in that order.

    Args:
    steps: of the sampler; None: `Model.default_steps`.
    num: samples; None: `default_num`. Metrics of exact distributions do not draw samples.
    seed: of the samples, and of what metrics draw to compare with.
    temperature, top_p: of the sharpening.
    samples: drawn earlier with the same arguments, to be measured in the place of new ones.
    split: of the data that samples are compared with.
    judge: a judge or its name (`load_judge`, at the model's scale; None: the world's default); it is loaded
        only for the metrics that need one.
    features: of the metrics that compare images (`load_features`; None: the world's extractor).
    options: those of `sampling.sample`; records name a `greedy_tail`. Worlds of puzzles hold the clues of the
        first `num` puzzles of the split.
    Errors: ValueError for a metric that does not apply, a judge that is the model or its origin, and features
    that are missing or need more samples; NonFinitePrediction for a model whose predictions are NaN.
    """
    require(*model.world.packages)
    names, steps = list(dict.fromkeys(names)), model.default_steps if steps is None else steps
    num = default_num(model.recipe.scale, names) if num is None else num
    if num < 2 and needing(names, "denoiser"):
        raise ValueError(f"num: {num} is not allowed; an interval needs at least 2 sequences")
    check_metrics(names, model.world)
    check_features(names, model.world, num if samples is None else len(samples.tokens), features, device)
    if "held" not in options and (condition := model.world.conditions(num, split)) is not None:
        options["held"], options["tokens"] = condition
    world, process = model.world, model.process
    of_laws, of_denoiser = needing(names, "law"), needing(names, "denoiser")
    drawless = sorted(metric.name for metric in [*of_laws, *of_denoiser])
    on_samples = [name for name in names if name not in drawless]
    greedy_tail = options.get("greedy_tail", False)
    if process is None and of_denoiser:
        raise ValueError(f"metrics: {of_denoiser[0].name!r} does not apply to autoregressive models")
    judge = judge_for(judge, names, model.recipe, world, device)
    if judge is not None:
        check_judge(judge, model)
    if greedy_tail and drawless:
        raise ValueError(f"greedy_tail: True is not allowed for {drawless}, which draw no samples")
    sharpened = Sharpened(model.denoiser, temperature, top_p, -LOG_ZERO) if drawless else None
    records, evaluations = [], {}
    if of_laws:
        functions = {metric.name: metric.function for metric in of_laws}
        with model.named_errors():
            records += exact_metrics(
                sharpened, process, world, steps, seed=seed, device=device, metrics=functions
            )
    for metric in of_denoiser:
        generator = generator_for(device, seed)
        data = world.sample(num, generator, split).to(device)
        records.append(metric.function(sharpened, process, data, time_grid(steps)[:-1].tolist(), generator))
    if on_samples:
        if samples is None:
            sharpening = {"temperature": temperature, "top_p": top_p}
            samples = model.sample(num, steps, seed=seed, device=device, **sharpening, **options)
        evaluations = {name: samples.evaluations for name in on_samples}
        records += evaluate_samples(
            samples.tokens.cpu(), world, on_samples, seed, split, judge, features, device
        )
    for r in records:
        if math.isnan(r.value):
            raise NonFinitePrediction(f"{model.name}: {r.name} is NaN in {steps} steps; {NOT_FINITE}")
    context = {
        "model": model.name,
        "world": world.name,
        "weights": model.weights,
        "steps": steps,
        "seed": seed,
        "temperature": temperature,
        "top_p": top_p,
        "provenance": {**model.provenance, "measured": {**machine(device), **world.provenance}},
    }
    if greedy_tail:
        records = [replace(r, details={**r.details, "greedy_tail": True}) for r in records]
    records = [replace(r, **context, evaluations=evaluations.get(r.name)) for r in records]
    return sorted(records, key=lambda r: names.index(r.name))


def measure_again(records: list[Record], samples: Samples | None = None) -> list[Record]:
    """Measure records of one draw of samples again, from their fields alone.

    On the machine and PyTorch build that measured them, values repeat to the bit. Elsewhere a rounding may
    change a sample, and in the worst case all later ones: then values are those of an independent draw.
    Errors as for `evaluate`; a model that does not ship is trained.
    """
    first, num = records[0], max(record.n for record in records) or None
    model = load_model(first.model, seed=first.training_seed)
    options = {"temperature": first.temperature, "top_p": first.top_p, "seed": first.seed}
    options |= {"greedy_tail": True} if first.greedy_tail else {}
    shown = [len(record.details.get("samples", ())) for record in records]
    if samples is None and any(shown):
        samples = model.sample(num, first.steps, **options)
    names = [record.name for record in records]
    found = evaluate(model, names, steps=first.steps, num=num, split=first.split, samples=samples, **options)
    return [
        replace(r, details=r.details | {"samples": encode_tokens(samples.tokens[:k])}) if k else r
        for r, k in zip(found, shown, strict=True)
    ]


@checked
def evaluate_real(
    world: World,
    names: Iterable[str],
    *,
    of: str,
    num: Count = 1000,
    seed: Seed = 0,
    split: str = "test",
    judge: Judge | str | None = None,
) -> list[Record]:
    """Measure `num` random real windows of the split `of`, as if they were samples.

    The result is the floor that the difference between splits sets to everything measured against `split`.
    Errors as for `evaluate`.
    """
    judge = judge_for(judge, names, None, world)
    tokens = world.sample(num, generator_for("cpu", seed), of)
    context = {
        "model": f"real text, {of} split",
        "world": world.name,
        "seed": seed,
        "provenance": {"training_seed": 0, "measured": {**machine(), **world.provenance}},
    }
    return [replace(r, **context) for r in evaluate_samples(tokens, world, names, seed, split, judge)]


@checked
def frontier(
    model: Model,
    temperatures: Iterable[PositiveOrZero] = (1.0,),
    top_ps: Iterable[PositiveFraction] = (1.0,),
    names: Iterable[str] | None = None,
    *,
    judge: Judge | str | None = None,
    device: Device = "cpu",
    **options,
) -> list[Record]:
    """Measure quality and diversity of a text model at every temperature with every top-p.

    The judge is loaded, and scores the reference, once.

    Args:
    names: metrics of samples; None: those of `FRONTIER` that apply to the world.
    options: those of `evaluate`; errors as there.
    """
    applicable = metrics_for(model.world)
    names = [name for name in FRONTIER if name in applicable] if names is None else list(names)
    judge = judge_for(judge, names, model.recipe, model.world, device)
    return [
        record
        for temperature in temperatures
        for top_p in top_ps
        for record in evaluate(
            model, names, temperature=temperature, top_p=top_p, judge=judge, device=device, **options
        )
    ]
