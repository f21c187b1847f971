"""Claims held against the committed records: where each comes out as claimed, and by how much.

A claim is a question put to every file of committed records, so records that are added later are judged
without a change here. The claims of the paper are in `paper`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.recipes.cost import cost
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.report.leaderboard import NAMES
from dmmd_lite.studies.study import BASELINE, DIVERGED, NO_NOISE_INPUT, TEACHER_NETWORK
from dmmd_lite.studies.theory.limits import best_mixture
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.records import field_of, load_results, select, spread
from dmmd_lite.worlds import get_world

MANY_TIMES = 4  # times as many steps are many more
SHARPENING = ("temperature", "top_p")


# In the details of records of changed recipes or samplers:
CHANGED = {"changes", "trial", "clamp", "components", "greedy_tail", "swings", "variant"}
Series = dict[int, dict]  # records by training seed
Check = Callable[[list[dict]], Iterable["Finding"]]


@dataclass(frozen=True)
class Finding:
    """One comparison of records. where: what is compared; numbers: how it came out, in words.

    agree: of the `seeds` training seeds, those in which the values are as claimed; apart: of these, those
    whose 95 % intervals do not overlap. scale: of the models; file: of the records, in `data/results/`.
    """

    where: str
    numbers: str
    agree: int
    apart: int
    seeds: int
    scale: str
    file: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement of the paper in our words. source: where it stands there; paper: its own numbers.

    check(records) gives the findings of one file of records.
    """

    source: str
    text: str
    paper: str
    check: Check

    def findings(self) -> list[Finding]:
        """Of all committed records, by file."""
        files = sorted(path.stem for path in (data_dir() / "results").glob("*.json"))
        return [replace(found, file=name) for name in files for found in self.check(load_results(name))]


def verdict(findings: list[Finding]) -> str:
    """What the findings of a claim come to. Reproduced is in every comparison and training seed, by values;
    "within intervals" adds that some of the 95 % intervals overlap."""
    if not findings:
        return "not run yet"
    if all(f.apart == f.seeds for f in findings):
        return "reproduced"
    if all(f.agree == f.seeds for f in findings):
        return "reproduced, within intervals"
    return "reproduced in part" if any(f.agree for f in findings) else "not reproduced"


@cache
def scale_of(model: str, parameters: int | None) -> str:
    """The scale at which a recipe's network has so many parameters; "exact" for what was not trained."""
    if parameters is None:
        return "exact"
    for scale in ("laptop", "gpu", "paper", "smoke"):
        if cost(get_recipe(model, scale))["parameters"] == parameters:
            return scale
    return "other"


def _tested(records: Iterable[dict], metric: str, **wanted) -> list[dict]:
    """Records of a metric against test data, of models in the catalogue with their recipes unchanged."""
    found = select(map(_in_catalogue, records), name=metric, split="test", **wanted)
    return [r for r in select(found, model=RECIPES.__contains__) if not CHANGED & r["details"].keys()]


def _in_catalogue(record: dict) -> dict:
    """A study's record under its model's own name, where the catalogue has one."""
    student, names = record["model"].partition(": ")[0], {BASELINE: "", NO_NOISE_INPUT: "-nonoise"}
    if record["details"].get("variant") not in names:
        return record
    details = {key: value for key, value in record["details"].items() if key not in ("variant", "changes")}
    return record | {"model": student + names[record["details"]["variant"]], "details": details}


def _recipe(record: dict) -> Recipe:
    return get_recipe(record["model"])


def _scale(series: Series) -> str:
    record = next(iter(series.values()))
    return scale_of(record["model"], record["provenance"].get("parameters"))


def _series(records: Iterable[dict], *fields: str) -> dict[tuple, Series]:
    """Records by fields, then by training seed; of several for one seed the last counts."""
    found: dict[tuple, Series] = {}
    for r in records:
        key = tuple(field_of(r, field) for field in fields)
        found.setdefault(key, {})[field_of(r, "training_seed")] = r
    return found


def _spread(series: Series) -> str:
    return spread([r["value"] for r in series.values()])


def _apart(low: dict, high: dict) -> bool:
    """Whether the interval of the record `low` ends below that of `high`; exact values are points."""
    ends = (r["value"] if r[side] is None else r[side] for r, side in ((low, "high"), (high, "low")))
    return next(ends) < next(ends)


def _less(where: str, mine: Series, other: Series, names: tuple[str, str]) -> Finding:
    """Whether one series is below another, seed by seed; for a seed the other lacks, its last one serves."""
    last = list(other.values())[-1]
    pairs = [(r, other.get(seed, last)) for seed, r in mine.items()]
    below = [pair for pair in pairs if pair[0]["value"] < pair[1]["value"]]
    numbers = f"{names[0]} {_spread(mine)}, {names[1]} {_spread(other)}"
    return Finding(where, numbers, len(below), sum(_apart(*p) for p in below), len(mine), _scale(mine))


def against_teacher(
    metric: str, most: bool, at_least: int = 1, blocks: bool = False, role: str = "dmmd"
) -> Check:
    """Students of `at_least` so many steps are below their teacher at as many steps or, if `most`, at the
    most it was measured at, if those are many more.

    blocks: the block-autoregressive students, else the others. role: of the students. A teacher sampled at
    the student's top-p goes before the same at another.
    """

    def check(records):
        mine = [r for r in _tested(records, metric) if _recipe(r).role == role]
        mine = [r for r in mine if bool(_recipe(r).block) == blocks and not r["model"].endswith("-nonoise")]
        for (model, steps, top_p), series in _series(mine, "model", "steps", "top_p").items():
            teachers = _tested(records, metric, model=get_recipe(model).teacher)
            teachers = select(teachers, top_p=top_p) or teachers
            tried = {r["steps"] for r in teachers}
            many = max(tried, default=0) if most else steps
            if steps >= at_least and many in tried and (not most or many >= MANY_TIMES * steps):
                ((_, rival),) = _series(select(teachers, steps=many), "steps").items()
                where = f"{model}, {steps} steps" + (f", top-p {top_p:g}" if top_p < 1 else "")
                yield _less(where, series, rival, ("student", f"teacher at {many}"))

    return check


def against_method(metric: str, role: str) -> Check:
    """D-MMD is below another method's students of the same world, noise, steps and top-p."""

    def check(records):
        found = _tested(records, metric)
        for process in PROCESSES:
            theirs = [r for r in found if (_recipe(r).role, _recipe(r).process) == (role, process)]
            for (world, steps, top_p), rival in _series(theirs, "world", "steps", "top_p").items():
                mine = select(found, model=f"{world}-{process}-dmmd-{steps}", steps=steps, top_p=top_p)
                for series in _series(mine, "model").values():
                    where = f"{world}, {process}, {steps} steps"
                    yield _less(where, series, rival, ("D-MMD", NAMES[role]))

    return check


def noise_input(*metrics: str) -> Check:
    """Masked students with noise input are below those without."""

    def check(records):
        for metric in metrics:
            found = _series(_tested(records, metric), "model", "steps")
            for (model, steps), without in found.items():
                plain = model.removesuffix("-nonoise")
                if plain != model and get_recipe(model).process == "masked" and (plain, steps) in found:
                    where, names = f"{plain}, {steps} steps", ("with noise input", "without")
                    yield _less(where, found[plain, steps], without, names)

    return check


def _plain_students(records: list[dict], metric: str) -> dict[tuple[str, str], dict[int, Series]]:
    """D-MMD students without variant, each at the steps it is made for: (world, noise) -> steps -> series."""
    mine = [r for r in _tested(records, metric) if r["model"].endswith(f"-dmmd-{r['steps']}")]
    found: dict[tuple[str, str], dict[int, Series]] = {}
    for (model, steps), series in _series(mine, "model", "steps").items():
        recipe = get_recipe(model)
        found.setdefault((recipe.world, recipe.process), {})[steps] = series
    return found


def between_noises(metric: str, better: str, of_steps: Callable[[int], bool]) -> Check:
    """Students under one noise are below those under the other, at the same steps."""

    def check(records):
        found = _plain_students(records, metric)
        for (world, process), by_steps in found.items():
            worse = "masked" if better == "uniform" else "uniform"
            for k, series in by_steps.items() if process == better else ():
                if of_steps(k) and (rival := found.get((world, worse), {}).get(k)):
                    yield _less(f"{world}, {k} steps", series, rival, (better, worse))

    return check


def falls_with_fewer_steps(metric: str) -> Check:
    """Students of the fewest steps are below those of the most."""

    def check(records):
        for (world, process), by_steps in _plain_students(records, metric).items():
            few, many = min(by_steps), max(by_steps)
            if few < many:
                names = (f"{few} steps", f"{many} steps")
                yield _less(f"{world}, {process}", by_steps[few], by_steps[many], names)

    return check


def not_monotone(*metrics: str) -> Check:
    """Of three or more students, those of the most steps are not the best, by the mean over seeds."""

    def check(records):
        for metric in metrics:
            for (world, process), by_steps in _plain_students(records, metric).items():
                means = {k: sum(r["value"] for r in s.values()) / len(s) for k, s in by_steps.items()}
                if len(means) > 2:
                    best, most = min(means, key=means.get), max(means)
                    numbers = ", ".join(f"{means[k]:.3g} at {k}" for k in sorted(means))
                    agree = int(best != most)
                    low, high = by_steps[best], by_steps[most]
                    apart = agree and all(_apart(low[seed], high[seed]) for seed in low.keys() & high.keys())
                    yield Finding(f"{world}, {process}", numbers, agree, int(apart), 1, _scale(high))

    return check


def turns(metric: str, always: str = "") -> Check:
    """As a model is sampled more sharply, a metric has its least inside the range, below both ends; the
    metric `always`, if one is named, falls all the way."""

    def along(records, metric, knob, model, steps):
        """One record for every value of the knob, from the sharpest on."""
        mine = select(records, name=metric, model=model, steps=steps)
        return [next(iter(series.values())) for _, series in sorted(_series(mine, knob).items())]

    def check(records):
        for knob, other in (SHARPENING, SHARPENING[::-1]):
            plain = select(records, split="test", **{other: 1})
            for model, steps in _series(_tested(plain, metric), "model", "steps"):
                curve = along(plain, metric, knob, model, steps)
                if len(curve) < 3:
                    continue
                least, ends = min(curve[1:-1], key=lambda r: r["value"]), (curve[0], curve[-1])
                dull = [r["value"] for r in along(plain, always, knob, model, steps)]
                agree = dull == sorted(dull) and all(least["value"] < r["value"] for r in ends)
                apart = agree and all(_apart(least, r) for r in ends)
                numbers = ", ".join(f"{r['value']:.3g} at {r[knob]:g}" for r in (ends[0], least, ends[1]))
                where = f"{model}, {steps} steps, {knob.replace('_', '-')}"
                yield Finding(where, numbers, int(agree), int(apart), 1, _scale({0: least}))

    return check


@cache
def _best_product() -> float:
    return best_mixture(get_world("coins"), 1)[0]


def _by_delta(records: list[dict], metric: str) -> dict[str, dict[float, Series]]:
    """Students of teachers cut to one top-p: student -> delta of what is excluded -> records by seed."""
    cut = [r for r in records if {"method.top_p", "method.delta"} <= r["details"].get("changes", {}).keys()]
    found: dict[str, dict[float, Series]] = {}
    for r in select(cut, name=metric):
        changes, student = r["details"]["changes"], r["model"].partition(": ")[0]
        at = f"{student}, top-p {changes['method.top_p']:g}"
        found.setdefault(at, {}).setdefault(changes["method.delta"], {})[field_of(r, "training_seed")] = r
    return found


def delta_hardly_matters(metric: str, tolerance: float = 0.1) -> Check:
    """Students whose teachers differ in a finite delta alone are within `tolerance` of each other."""

    def check(records):
        for where, by_delta in _by_delta(records, metric).items():
            finite = {delta: series for delta, series in sorted(by_delta.items()) if delta <= 100}
            seeds = set.intersection(*map(set, finite.values())) if len(finite) > 2 else set()
            values = [[series[seed]["value"] for series in finite.values()] for seed in sorted(seeds)]
            near = sum(max(v) <= (1 + tolerance) * min(v) for v in values)
            numbers = ", ".join(f"{_spread(series)} at {delta:g}" for delta, series in finite.items())
            if seeds:
                yield Finding(where, numbers, near, near, len(seeds), _student_scale(finite))

    return check


def diverges(metric: str, delta: float = 1e20) -> Check:
    """With an exclusion so hard, training ends in a loss that is not finite, or a student is further off than
    what it was before distillation."""

    def check(records):
        stopped, measured = _by_delta(records, DIVERGED), _by_delta(records, metric)
        for where in stopped.keys() | measured.keys():
            student = where.partition(",")[0]
            before = [r["value"] for r in select(records, name=metric, model=f"{student}: {TEACHER_NETWORK}")]
            ends, runs = stopped.get(where, {}).get(delta, {}), measured.get(where, {}).get(delta, {})
            worse = [r for r in runs.values() if before and r["value"] > before[0]]
            number = len(ends) + len(worse)
            numbers = f"{len(ends)} stopped without a finite loss"
            numbers += f", {_spread(runs)} against {before[0]:.3g} before" if runs and before else ""
            if ends or runs:
                scale = _student_scale(measured.get(where, {}))
                yield Finding(where, numbers, number, number, len(ends) + len(runs), scale)

    return check


def _student_scale(by_delta: dict[float, Series]) -> str:
    """The scale of students in a study; "" where all of them diverged."""
    record = next((r for series in by_delta.values() for r in series.values()), None)
    if record is None:
        return ""
    return scale_of(record["model"].partition(": ")[0], record["provenance"].get("parameters"))


def drops_a_face(role: str) -> Check:
    """One-step students on two coins are further off than the best product law, and most of that is not what
    never occurs but too much of one face."""

    def check(records):
        found = _tested(records, "total_variation", world="coins", steps=1)
        found = [r for r in found if _recipe(r).role == role and not r["model"].endswith("-nonoise")]
        for (model,), series in _series(found, "model").items():
            beside = _tested(records, "invalid_mass", model=model, steps=1)
            never = {field_of(r, "training_seed"): r for r in beside}
            if set(series) != set(never):
                continue
            lost = [
                r["value"] > _best_product() and never[seed]["value"] < r["value"] / 2
                for seed, r in series.items()
            ]
            numbers = f"total variation {_spread(series)}, a product law can have {_best_product():.3g}; "
            numbers += f"what never occurs {_spread(never)}"
            yield Finding(model, numbers, sum(lost), sum(lost), len(series), _scale(series))

    return check
