"""Claims compared with the committed records: where each comes out as claimed, and by how much.

A claim is a question put to every file of committed records, so records that are added later are judged
without a change here. The claims of the paper are in `report.paper`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe, scales_of
from dmmd_lite.recipes.cost import cost
from dmmd_lite.report.cells import by_seed
from dmmd_lite.report.leaderboard import NAMES
from dmmd_lite.studies.study import BASELINE, DIVERGED, NO_NOISE_INPUT, TEACHER_NETWORK
from dmmd_lite.studies.theory.limits import best_mixture
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.records import Record, load_results, select, spread
from dmmd_lite.worlds import get_world

MANY_TIMES = 4  # a teacher with at least this many times the student's steps has "many more" steps
SHARPENING = ("temperature", "top_p")
# Keys in the details of records whose recipe or sampler was changed:
CHANGED = {"changes", "trial", "clamp", "components", "greedy_tail", "swings", "variant"}
FINITE_DELTA = 100  # the hard exclusion, 1e20, is above it
Series = dict[int, Record]  # records by training seed
Check = Callable[[list[Record]], Iterable["Finding"]]


@dataclass(frozen=True)
class Finding:
    """One comparison of records.

    Args:
    where: what is compared.
    numbers: the outcome in words.
    agree: the number of training seeds in which the values are as claimed.
    apart: the number of these whose 95 % intervals do not overlap.
    seeds: the number of training seeds.
    scale: of the models.
    file: name of the records in `data/results/`.
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
    """A statement of the paper in our words.

    Args:
    source: the figure, table or section of the paper.
    text: the statement.
    paper: the paper's numbers.
    check: records of one file -> findings.
    """

    source: str
    text: str
    paper: str
    check: Check

    def findings(self) -> list[Finding]:
        """Return the findings of all committed records, by file."""
        files = sorted(path.stem for path in (data_dir() / "results").glob("*.json"))
        return [replace(found, file=name) for name in files for found in self.check(load_results(name))]


def verdict(findings: list[Finding]) -> str:
    """Return what the findings of a claim come to.

    "reproduced" needs every comparison and training seed, by values; "within intervals" adds that some of the
    95 % intervals overlap.
    """
    if not findings:
        return "not run yet"
    if all(f.apart == f.seeds for f in findings):
        return "reproduced"
    if all(f.agree == f.seeds for f in findings):
        return "reproduced, within intervals"
    return "reproduced in part" if any(f.agree for f in findings) else "not reproduced"


@cache
def scale_of(model: str, parameters: int | None) -> str:
    """Return the scale at which a recipe's network has this number of parameters; "exact" for None."""
    if parameters is None:
        return "exact"
    for scale in sorted(scales_of(model), key="smoke".__eq__):
        if cost(get_recipe(model, scale))["parameters"] == parameters:
            return scale
    return "other"


def _tested(records: Iterable[Record], metric: str, **wanted) -> list[Record]:
    """Return records of a metric on test data, of models in the catalogue with unchanged recipes."""
    found = select(map(_in_catalogue, records), name=metric, split="test", **wanted)
    return [r for r in select(found, model=RECIPES.__contains__) if not CHANGED & r.details.keys()]


def _in_catalogue(record: Record) -> Record:
    """Return a study's record under the name of its recipe, where the catalogue has one."""
    names = {BASELINE: "", NO_NOISE_INPUT: "-nonoise"}
    if record.variant not in names:
        return record
    details = {key: value for key, value in record.details.items() if key not in ("variant", "changes")}
    return replace(record, model=_student(record) + names[record.variant], details=details)


def _student(record: Record) -> str:
    """Return the recipe behind the record of a study, whose model is named "STUDENT: VARIANT"."""
    return record.model.partition(": ")[0]


def _of_role(records: Iterable[Record], role: str) -> list[Record]:
    """Return the records of a method's students with noise input."""
    return [r for r in records if get_recipe(r.model).role == role and not r.model.endswith("-nonoise")]


def _scale(series: Iterable[Record]) -> str:
    """Return the scale of the models of records; "" for no records."""
    record = next(iter(series), None)
    return scale_of(_student(record), record.provenance.get("parameters")) if record else ""


def _series(records: Iterable[Record], *names: str) -> dict[tuple, Series]:
    """Return records by the values of fields, then by training seed; the last of several counts."""
    found: dict[tuple, list[Record]] = {}
    for r in records:
        found.setdefault(tuple(getattr(r, name) for name in names), []).append(r)
    return {key: by_seed(group) for key, group in found.items()}


def _spread(series: Series) -> str:
    return spread([r.value for r in series.values()])


def _separated(low: Record, high: Record) -> bool:
    """Return whether the interval of `low` ends below that of `high`; exact values are points."""
    return low.interval[1] < high.interval[0]


def _better(one: Record, other: Record) -> bool:
    """Return whether a record is better than another of the same metric: less, or more where more is."""
    sign = METRICS[one.name].sign
    return sign * one.value < sign * other.value


def _ahead(where: str, mine: Series, other: Series, names: tuple[str, str]) -> Finding:
    """Count in how many seeds a series is better than another. The last record of `other` stands for seeds
    that it lacks."""
    last = list(other.values())[-1]
    pairs = [(r, other.get(seed, last)) for seed, r in mine.items()]
    better = [(r, rival) for r, rival in pairs if _better(r, rival)]
    numbers = f"{names[0]} {_spread(mine)}, {names[1]} {_spread(other)}"
    apart = sum(_separated(*sorted(pair, key=lambda r: r.value)) for pair in better)
    return Finding(where, numbers, len(better), apart, len(mine), _scale(mine.values()))


def _one(where: str, numbers: str, agree: bool, apart: bool, record: Record) -> Finding:
    """Make a finding that counts as one seed."""
    return Finding(where, numbers, int(agree), int(agree and apart), 1, _scale([record]))


def against_teacher(
    *metrics: str, most: bool, at_least: int = 1, blocks: bool = False, role: str = "dmmd"
) -> Check:
    """Check that students are better than their teacher.

    A teacher sampled at the student's top-p is preferred to the same teacher at another.

    Args:
    most: compare with the teacher at the most steps it was measured at, if those are many more
    (`MANY_TIMES`), and not at as many steps.
    at_least: minimum number of the student's steps.
    blocks: check the block-autoregressive students, else the others.
    role: method of the students.
    """

    def check(records):
        for metric in metrics:
            tested = _tested(records, metric)
            mine = [r for r in _of_role(tested, role) if bool(get_recipe(r.model).block) == blocks]
            for (model, steps, top_p), series in _series(mine, "model", "steps", "top_p").items():
                teachers = select(tested, model=get_recipe(model).teacher)
                teachers = select(teachers, top_p=top_p) or teachers
                tried = {r.steps for r in teachers}
                many = max(tried, default=0) if most else steps
                if steps >= at_least and many in tried and (not most or many >= MANY_TIMES * steps):
                    where = f"{model}, {steps} steps" + (f", top-p {top_p:g}" if top_p < 1 else "")
                    names = ("student", f"teacher at {many}")
                    yield _ahead(where, series, by_seed(select(teachers, steps=many)), names)

    return check


def against_method(*metrics: str, role: str) -> Check:
    """Check that D-MMD is better than another method's students of the same world, noise, steps and top-p."""

    def check(records):
        for metric, process in product(metrics, PROCESSES):
            found = _tested(records, metric)
            recipes = {r.model: get_recipe(r.model) for r in found}
            theirs = [
                r for r in found if (recipes[r.model].role, recipes[r.model].process) == (role, process)
            ]
            for (world, steps, top_p), rival in _series(theirs, "world", "steps", "top_p").items():
                mine = select(found, model=f"{world}-{process}-dmmd-{steps}", steps=steps, top_p=top_p)
                if mine:
                    where = f"{world}, {process}, {steps} steps"
                    yield _ahead(where, by_seed(mine), rival, ("D-MMD", NAMES[role]))

    return check


def noise_input(*metrics: str) -> Check:
    """Check that masked students with noise input are below those without."""

    def check(records):
        for metric in metrics:
            found = _series(_tested(records, metric), "model", "steps")
            for (model, steps), without in found.items():
                plain = model.removesuffix("-nonoise")
                if plain != model and get_recipe(model).process == "masked" and (plain, steps) in found:
                    where, names = f"{plain}, {steps} steps", ("with noise input", "without")
                    yield _ahead(where, found[plain, steps], without, names)

    return check


def _plain_students(records: list[Record], metric: str) -> dict[tuple[str, str], dict[int, Series]]:
    """Return D-MMD students without variant, each at its steps: (world, noise) -> steps -> series."""
    mine = [r for r in _tested(records, metric) if r.model.endswith(f"-dmmd-{r.steps}")]
    found: dict[tuple[str, str], dict[int, Series]] = {}
    for (model, steps), series in _series(mine, "model", "steps").items():
        recipe = get_recipe(model)
        found.setdefault((recipe.world, recipe.process), {})[steps] = series
    return found


def between_noises(metric: str, better: str, of_steps: Callable[[int], bool]) -> Check:
    """Check that students under one noise are below those under the other, at the same steps."""

    def check(records):
        found = _plain_students(records, metric)
        worse = "masked" if better == "uniform" else "uniform"
        for (world, process), by_steps in found.items():
            for k, series in by_steps.items() if process == better else ():
                if of_steps(k) and (rival := found.get((world, worse), {}).get(k)):
                    yield _ahead(f"{world}, {k} steps", series, rival, (better, worse))

    return check


def falls_with_fewer_steps(metric: str) -> Check:
    """Check that students of the fewest steps are below those of the most."""

    def check(records):
        for (world, process), by_steps in _plain_students(records, metric).items():
            few, many = min(by_steps), max(by_steps)
            if few < many:
                names = (f"{few} steps", f"{many} steps")
                yield _ahead(f"{world}, {process}", by_steps[few], by_steps[many], names)

    return check


def not_monotone(*metrics: str) -> Check:
    """Check that of three or more students those of the most steps are not the best, by mean over seeds."""

    def check(records):
        for metric in metrics:
            for (world, process), by_steps in _plain_students(records, metric).items():
                means = {k: sum(r.value for r in s.values()) / len(s) for k, s in by_steps.items()}
                if len(means) > 2:
                    best, most = min(means, key=means.get), max(means)
                    numbers = ", ".join(f"{means[k]:.3g} at {k}" for k in sorted(means))
                    low, high = by_steps[best], by_steps[most]
                    apart = all(_separated(low[seed], high[seed]) for seed in low.keys() & high.keys())
                    last = next(iter(high.values()))
                    yield _one(f"{world}, {process}", numbers, best != most, apart, last)

    return check


def turns(metric: str, always: str = "") -> Check:
    """Check that a metric has its minimum inside the range as sampling gets sharper, below both ends.

    Args:
    always: a metric that has to fall all the way.
    """

    def along(records, metric, knob, model, steps):
        """Return one record for every value of the knob, the sharpest first."""
        mine = select(records, name=metric, model=model, steps=steps)
        return [next(iter(series.values())) for _, series in sorted(_series(mine, knob).items())]

    def check(records):
        for knob, other in (SHARPENING, SHARPENING[::-1]):
            plain = select(records, split="test", **{other: 1})
            for model, steps in _series(_tested(plain, metric), "model", "steps"):
                curve = along(plain, metric, knob, model, steps)
                if len(curve) < 3:
                    continue
                lowest, ends = min(curve[1:-1], key=lambda r: r.value), (curve[0], curve[-1])
                values = [r.value for r in along(plain, always, knob, model, steps)]
                agree = values == sorted(values) and all(lowest.value < r.value for r in ends)
                points = (ends[0], lowest, ends[1])
                numbers = ", ".join(f"{r.value:.3g} at {getattr(r, knob):g}" for r in points)
                where = f"{model}, {steps} steps, {knob.replace('_', '-')}"
                yield _one(where, numbers, agree, all(_separated(lowest, r) for r in ends), lowest)

    return check


@cache
def _best_product() -> float:
    return best_mixture(get_world("coins"), 1)[0]


def _by_delta(records: list[Record], metric: str) -> dict[str, dict[float, Series]]:
    """Return students of teachers cut to one top-p: student -> delta of excluded classes -> series."""
    found: dict[str, dict[float, list[Record]]] = {}
    for r in select(records, name=metric):
        changes = r.details.get("changes", {})
        if {"method.top_p", "method.delta"} <= changes.keys():
            at = f"{_student(r)}, top-p {changes['method.top_p']:g}"
            found.setdefault(at, {}).setdefault(changes["method.delta"], []).append(r)
    return {
        at: {delta: by_seed(group) for delta, group in by_delta.items()} for at, by_delta in found.items()
    }


def _scale_of_study(by_delta: dict[float, Series]) -> str:
    return _scale(r for series in by_delta.values() for r in series.values())


def delta_hardly_matters(metric: str, tolerance: float = 0.1) -> Check:
    """Check that students of teachers that differ in a finite delta alone are within `tolerance`."""

    def check(records):
        for where, by_delta in _by_delta(records, metric).items():
            finite = {delta: series for delta, series in sorted(by_delta.items()) if delta <= FINITE_DELTA}
            seeds = set.intersection(*map(set, finite.values())) if len(finite) > 2 else set()
            values = [[series[seed].value for series in finite.values()] for seed in sorted(seeds)]
            near = sum(max(v) <= (1 + tolerance) * min(v) for v in values)
            numbers = ", ".join(f"{_spread(series)} at {delta:g}" for delta, series in finite.items())
            if seeds:
                yield Finding(where, numbers, near, near, len(seeds), _scale_of_study(finite))

    return check


def diverges(metric: str, delta: float = 1e20) -> Check:
    """Check that a hard exclusion ends in a non-finite loss or a student worse than before distillation."""

    def check(records):
        stopped, measured = _by_delta(records, DIVERGED), _by_delta(records, metric)
        for where in dict.fromkeys([*stopped, *measured]):
            student = where.partition(",")[0]
            before = [r.value for r in select(records, name=metric, model=f"{student}: {TEACHER_NETWORK}")]
            ends, runs = stopped.get(where, {}).get(delta, {}), measured.get(where, {}).get(delta, {})
            worse = [r for r in runs.values() if before and r.value > before[0]]
            number = len(ends) + len(worse)
            numbers = f"{len(ends)} stopped without a finite loss"
            numbers += f", {_spread(runs)} against {before[0]:.3g} before" if runs and before else ""
            if ends or runs:
                scale = _scale_of_study(measured.get(where, {}))
                yield Finding(where, numbers, number, number, len(ends) + len(runs), scale)

    return check


def drops_a_face(role: str) -> Check:
    """Check that one-step students on two coins are further off than the best product distribution.

    Most of the distance must not be impossible outcomes but too much of one face.
    """

    def check(records):
        found = _of_role(_tested(records, "total_variation", world="coins", steps=1), role)
        for (model,), series in _series(found, "model").items():
            never = by_seed(_tested(records, "invalid_mass", model=model, steps=1))
            if set(series) != set(never):
                continue
            lost = sum(
                r.value > _best_product() and never[seed].value < r.value / 2 for seed, r in series.items()
            )
            numbers = f"total variation {_spread(series)}, a product law can have {_best_product():.3g}; "
            numbers += f"what never occurs {_spread(never)}"
            yield Finding(model, numbers, lost, lost, len(series), _scale(series.values()))

    return check
