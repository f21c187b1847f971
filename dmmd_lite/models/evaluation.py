"""Sample a model and measure it: records with their whole context."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from dmmd_lite.denoisers.sharpening import Sharpened, check_sharpening
from dmmd_lite.metrics.entropy import output_entropy
from dmmd_lite.metrics.exact_laws import exact_metrics
from dmmd_lite.metrics.judges import Judge
from dmmd_lite.metrics.suite import METRICS, OF_JUDGES, check_features, evaluate_samples, metrics_for
from dmmd_lite.models.judging import check_judge
from dmmd_lite.models.model import Model
from dmmd_lite.models.store import load_judge
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.sampling import Samples
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.scales import SCALES
from dmmd_lite.worlds.text import TextWorld

EXACT_METRICS = ("total_variation", "kl", "invalid_mass")
SAMPLES, PUBLISHED_SAMPLES = 1000, 50_000  # drawn by default; the latter for FID at paper scale
FRONTIER = ("perplexity", "gradient_moment", "sample_entropy", "distinct_4grams")


def default_num(scale: str, names: Iterable[str]) -> int:
    """How many samples metrics are measured on: 50,000 for FID at scale "paper", else 1,000."""
    return PUBLISHED_SAMPLES if scale == "paper" and "fid" in names else SAMPLES


def judged_at(model: Model) -> str:
    """The scale of the judge that goes with a model: the model's, or for one of your own "laptop"."""
    return model.recipe.scale if model.recipe.scale in SCALES else "laptop"


def check_metrics(names: list[str], world) -> None:
    """ValueError unless every name is a metric that applies to the world."""
    allowed = metrics_for(world)
    for name in names:
        if name not in allowed:
            known = "does not apply to" if name in METRICS else "is not a metric for"
            raise ValueError(f"metrics: {name!r} {known} {world.name}; choose from {allowed}")


def evaluate(
    model: Model,
    names: list[str],
    *,
    steps: int | None = None,
    num: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    device: torch.device | str = "cpu",
    samples: Samples | None = None,
    split: str = "test",
    judge: Judge | str | None = None,
    features: str | None = None,
    **options,
) -> list[Record]:
    """Records of the metrics `names`, in that order, for a model at some number of steps.

    num: samples (metrics of exact laws have a number of noise draws of their own); None: `default_num`.
    samples: measure these (drawn with the same arguments) instead of drawing. judge: of the metrics that need
    one, or its name (`load_judge`, at the model's scale; None: the world's own); loaded only for them.
    features: of the metrics that compare images (`load_features`; None: the world's own). Further options are
    those of `sampling.sample`; records name a `greedy_tail`.
    Errors: ValueError for a metric that does not apply, a judge that is or began the model, features that
    are not there or need more samples.
    """
    steps = model.default_steps if steps is None else steps
    num = default_num(model.recipe.scale, names) if num is None else num
    check_metrics(names, model.world)
    check_features(names, model.world, num if samples is None else len(samples.tokens), features, device)
    check_sharpening(temperature, top_p)
    world, process = model.world, model.process
    if process is None and "output_entropy" in names:
        raise ValueError("metrics: 'output_entropy' does not apply to autoregressive models")
    if set(names) & set(OF_JUDGES):
        judge = judge if isinstance(judge, Judge) else load_judge(judge, world, judged_at(model), device)
        check_judge(judge, model)
    of_laws = set(names) & {*EXACT_METRICS, "output_entropy"}
    sharpened = Sharpened(model.denoiser, temperature, top_p, -LOG_ZERO) if of_laws else None
    on_samples = [name for name in names if name not in (*EXACT_METRICS, "output_entropy")]
    greedy_tail = options.get("greedy_tail", False)
    if greedy_tail and of_laws:
        raise ValueError(f"greedy_tail: True is not allowed for {sorted(of_laws)}, which draw no samples")
    records, evaluations = [], {}
    if set(names) & set(EXACT_METRICS):
        exact = exact_metrics(sharpened, process, world, steps, seed=seed, device=device)
        records += [r for r in exact if r.name in names]
    if "output_entropy" in names:
        generator = generator_for(device, seed)
        data = world.sample(num, generator, split).to(device)
        records.append(output_entropy(sharpened, process, data, time_grid(steps)[:-1].tolist(), generator))
    if on_samples:
        if samples is None:
            sharpening = {"temperature": temperature, "top_p": top_p}
            samples = model.sample(num, steps, seed=seed, device=device, **sharpening, **options)
        evaluations = {name: samples.evaluations for name in on_samples}
        records += evaluate_samples(
            samples.tokens.cpu(), world, on_samples, seed, split, judge, features, device
        )
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


def evaluate_real(
    world: TextWorld,
    names: list[str],
    *,
    of: str,
    num: int = 1000,
    seed: int = 0,
    split: str = "test",
    judge: Judge | str | None = None,
) -> list[Record]:
    """Records of `num` random real windows of the split `of`, as if they were samples: the floor that the
    shift between splits sets to everything measured against `split`. Errors as for `evaluate`."""
    if set(names) & set(OF_JUDGES) and not isinstance(judge, Judge):
        judge = load_judge(judge, world)
    tokens = world.sample(num, generator_for("cpu", seed), of)
    context = {
        "model": f"real text, {of} split",
        "world": world.name,
        "seed": seed,
        "provenance": {"training_seed": 0, "measured": {**machine(), **world.provenance}},
    }
    return [replace(r, **context) for r in evaluate_samples(tokens, world, names, seed, split, judge)]


def frontier(
    model: Model,
    temperatures: Iterable[float] = (1.0,),
    top_ps: Iterable[float] = (1.0,),
    names: Iterable[str] | None = None,
    *,
    judge: Judge | str | None = None,
    device: torch.device | str = "cpu",
    **options,
) -> list[Record]:
    """Quality against diversity of a text model: records at every temperature with every top-p.

    names: metrics of samples; by default those of `FRONTIER` that apply to the world. Further options are
    those of `evaluate`; the judge is loaded, and reads the reference, once for all. Errors as there.
    """
    applicable = metrics_for(model.world)
    names = [name for name in FRONTIER if name in applicable] if names is None else list(names)
    if set(names) & set(OF_JUDGES) and not isinstance(judge, Judge):
        judge = load_judge(judge, model.world, judged_at(model), device)
    return [
        record
        for temperature in temperatures
        for top_p in top_ps
        for record in evaluate(
            model, names, temperature=temperature, top_p=top_p, judge=judge, device=device, **options
        )
    ]
