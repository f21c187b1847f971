"""The tables of the comparisons, of methods and with the paper, made of records as dictionaries
(`pages.load_results`)."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import product

import pandas as pd
from pandas import DataFrame

from dmmd_lite.behind import page_link, record_link
from dmmd_lite.claims import Claim, Finding, verdict
from dmmd_lite.cost import cost
from dmmd_lite.leaderboard import JUDGED_BY, NAMES, RECOMMENDED, STEPS, WHY_NOT, command, students, teacher
from dmmd_lite.methods import METHODS
from dmmd_lite.metrics.limits import one_step_sdtt
from dmmd_lite.paper import claims_of, items
from dmmd_lite.paths import data_dir
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipe import Recipe
from dmmd_lite.recipes import get_recipe
from dmmd_lite.records import bootstrap_mean
from dmmd_lite.results import field_of, select, table
from dmmd_lite.students import ONE_STEP, student_for
from dmmd_lite.studies import PLAIN, STUDIES, WITHOUT, kept_samples, of_student, verdicts
from dmmd_lite.tuning import RATES
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld

UNTOLD = ("ratio", "threads", "device")  # of a benchmark's settings: its name and machine say so


def board(records: list[dict], world: str, metric: str, steps: Iterable[int] = STEPS) -> DataFrame:
    """A world's methods by steps: the mean over training seeds, least and most of them, their number.

    "not defined" is a method that the noise or the steps do not suit (`WHY_NOT`), "–" a student the catalogue
    does not have; cells that no record fills are empty. Of several records of one training seed the last
    counts. The teacher comes first. Values of single seeds with their intervals are in `seeds`.
    """
    steps, lines = list(steps), {}
    for process in PROCESSES:
        start = teacher(world, process)
        lines[process, "teacher"] = [_cell(records, start, k, metric) for k in steps]
        for role, label in NAMES.items():
            names = {k: student_for(role, world, process, k) for k in steps}
            lines[process, label] = [
                _cell(records, name, k, metric) if name else _missing(role, process, k)
                for k, name in names.items()
            ]
    return _by_steps(lines, steps, ["noise", "method"])


def _by_steps(lines: dict[tuple, list[str]], steps: list[int], names: list[str]) -> DataFrame:
    """Lines of cells with a column for each number of steps; names: of the parts of a line's key."""
    columns = [f"{k} step" if k == 1 else f"{k} steps" for k in steps]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=names)
    return frame


def _cell(records: list[dict], model: str, steps: int, metric: str) -> str:
    found = of_seeds(records, model, steps, metric)
    if len(found) > 1:
        return f"{sum(found) / len(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} seeds)"
    alone = select(records, name=metric, model=model, steps=steps)[-1:]
    return "".join(f"{r['value']:.3f}{_within(r, 3)}" for r in alone)


def _within(record: dict, digits: int) -> str:
    """The 95 % interval of a record, where it has one."""
    low, high = record["low"], record["high"]
    return "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"


def winners(records: list[dict], worlds: Iterable[str], steps: Iterable[int] = STEPS) -> DataFrame:
    """Who is best where: for every world, noise and number of steps the method, or the teacher, of the least
    mean over training seeds, and the next. "in every seed" is one whose worst seed is below the next one's
    best, both having several; exact teachers and those of the digits and the text have one by nature. Cells
    of fewer than two methods stay empty."""
    steps, rows = list(steps), {}
    for world, process in product(worlds, PROCESSES):
        metric, line = JUDGED_BY[world][0], []
        for k in steps:
            names = {"teacher": teacher(world, process)}
            names |= {label: student_for(role, world, process, k) for role, label in NAMES.items()}
            found = {label: of_seeds(records, name, k, metric) for label, name in names.items() if name}
            found = {label: values for label, values in found.items() if values}
            line.append(_first_two(found) if len(found.keys() - {"teacher"}) > 1 else "")
        rows[world, process] = line
    return _by_steps(rows, steps, ["world", "noise"])


def _first_two(found: dict[str, list[float]]) -> str:
    means = {label: sum(values) / len(values) for label, values in found.items()}
    best, then = sorted(means, key=means.get)[:2]
    fewest = min(
        len(values) for label, values in found.items() if label in (best, then) and label != "teacher"
    )
    apart = max(found[best]) < min(found[then])
    how = "one seed" if fewest == 1 else "in every seed" if apart else "on average"
    return f"{best} {means[best]:.3g}, then {then} {means[then]:.3g} ({how})"


def of_seeds(records: list[dict], model: str, steps: int, metric: str) -> list[float]:
    """One value a training seed; of several the last counts."""
    mine = select(records, name=metric, model=model, steps=steps)
    return list({field_of(r, "training_seed"): r["value"] for r in mine}.values())


def _missing(role: str, process: str, steps: int) -> str:
    return "not defined" if (role, process) in WHY_NOT or (role in ONE_STEP and steps > 1) else "–"


def _checkpoint(records: list[dict], model: str, steps: int, metric: str) -> str:
    """Where in their training the checkpoints of a student's seeds were taken, in per cent; "last" if not
    chosen."""
    mine = {field_of(r, "training_seed"): r for r in select(records, name=metric, model=model, steps=steps)}
    runs = [r["provenance"]["training"] for r in mine.values()]
    if any(run.get("best_step") is None for run in runs):
        return "last"
    return ", ".join(f"{run['best_step'] / run['steps']:.0%}" for run in runs)


def as_recommended(records: list[dict], world: str, metric: str) -> DataFrame:
    """Every method at a number of steps its authors recommend, beside its teacher at as many.

    "as good": in how many training seeds no worse than the teacher (point values). "checkpoint": the part of
    the training after which each seed's weights were taken.
    """
    rows = []
    for process, (role, (steps, published)) in product(PROCESSES, RECOMMENDED.items()):
        name = student_for(role, world, process, steps)
        own = of_seeds(records, name, steps, metric) if name else []
        above = of_seeds(records, teacher(world, process), steps, metric)
        if not own:
            continue
        row = {"noise": process, "method": NAMES[role], "recommended steps": published, "steps": steps}
        row |= {"student": _cell(records, name, steps, metric), "teacher": "not measured", "as good": ""}
        if above:
            wins = sum(value <= above[0] for value in own)
            row |= {"teacher": f"{above[0]:.3f}", "as good": f"{wins} of {len(own)} seeds"}
        rows.append(row | {"checkpoint": _checkpoint(records, name, steps, metric)})
    return pd.DataFrame(rows)


def last_against_chosen(last: list[dict], chosen: list[dict], metrics: Iterable[str]) -> DataFrame:
    """Students at the end of their training (`last`) beside the same runs at their chosen checkpoints."""
    rows = []
    for model, steps in dict.fromkeys((r["model"], r["steps"]) for r in last):
        recipe, (first, *_) = get_recipe(model), metrics
        row = {"noise": recipe.process, "method": NAMES[recipe.role], "steps": steps}
        row["checkpoint"] = _checkpoint(chosen, model, steps, first)
        for metric in metrics:
            title = metric.replace("_", " ")
            row[f"{title}, chosen"] = _cell(chosen, model, steps, metric)
            row[f"{title}, last"] = _cell(last, model, steps, metric)
        rows.append(row)
    return pd.DataFrame(rows)


def verdict_table(study: str, records: list[dict]) -> DataFrame:
    """What was expected of a study (`studies.verdicts`) and what came out."""
    return pd.DataFrame(verdicts(study, records)).set_index(["student", "expected"])


def study_table(records: Iterable[dict]) -> DataFrame:
    """Every training of a study: its changes to the recipe and what it measured."""
    found = [r for r in records if "variant" in r["details"]]
    return table(found, ["model", "changes", "training_seed", "steps", "n"], digits=3)


def noise_ratios(study: str, records: list[dict]) -> DataFrame:
    """Fréchet distance and output entropy of students with noise input over those without, means over the
    training seeds both have, with the least and the most of them."""
    lines: dict[tuple, dict] = {}
    for student, metric in product(STUDIES[study].students, ("frechet", "output_entropy")):
        found, recipe = of_student(records, student, metric), get_recipe(student)
        mine, without = found.get(PLAIN, {}), found.get(WITHOUT, {})
        ratios = [mine[seed]["value"] / without[seed]["value"] for seed in mine.keys() & without.keys()]
        if ratios:
            spread = f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} seeds)" if ratios[1:] else ""
            line = lines.setdefault((recipe.world, recipe.process, metric.replace("_", " ")), {})
            steps = recipe.method.steps
            line[f"{steps} step{'s' * (steps > 1)}"] = f"{sum(ratios) / len(ratios):.2f}{spread}"
    return pd.DataFrame.from_dict(lines, orient="index").fillna("")


def level_shares(study: str, records: list[dict]) -> DataFrame:
    """How much of an image has the most frequent level of its world's test images: in these, and in the
    samples kept of every variant, training seed 0, with 95 % intervals over images."""
    columns: dict[str, dict[str, str]] = {}
    for student in STUDIES[study].students:
        test = get_world(get_recipe(student).world).split("test")
        level = int(test.flatten().mode().values)
        column = columns.setdefault(f"{student}: level {level}", {})
        for name, tokens in ({"test images": test} | kept_samples(records, student)).items():
            share, low, high = bootstrap_mean((tokens == level).double().mean(-1).numpy())
            column[name] = f"{share:.3f} [{low:.3f}, {high:.3f}]"
    return pd.DataFrame(columns).fillna("")


def clamp_table(records: Iterable[dict], world: EnumerableWorld) -> DataFrame:
    """Students of one SDTT round (`clamps.one_round`) beside the least loss at their clamp: least and most
    of the probability of heads over both coins and all seeds, and of the total variation."""
    rows = {}
    for r in records:
        if "clamp" in r["details"]:
            rows.setdefault((r["details"]["divergence"], r["details"]["clamp"]), []).append(r)
    lines = []
    for (divergence, clamp), found in rows.items():
        heads = [p for r in found for p in r["details"]["heads"]]
        distance = [r["value"] for r in found]
        lines.append(
            {
                "divergence": divergence,
                "clamp": f"{clamp:g}",
                "heads at the least loss": f"{float(one_step_sdtt(world, clamp, divergence)[0, 0]):.3f}",
                "heads, trained": f"{min(heads):.3f} to {max(heads):.3f}",
                "total variation": f"{min(distance):.3f} to {max(distance):.3f}",
                "seeds": len(found),
            }
        )
    return pd.DataFrame(lines)


def trials_table(records: Iterable[dict]) -> DataFrame:
    """Trials by student: the value of each with its 95 % interval, where it has one, and the best of them."""
    lines: dict[str, dict[str, str]] = {}
    least: dict[str, dict] = {}
    for r in records:
        trial, cell = r["details"]["trial"], f"{r['value']:.3f}{_within(r, 3)}"
        column, cell = (trial, cell) if trial in RATES else ("own knob", f"{trial}: {cell}")
        lines.setdefault(r["model"], {})[column] = cell
        if r["value"] < least.setdefault(r["model"], r)["value"]:
            least[r["model"]] = r
    rows = [{**line, "best": least[model]["details"]["trial"]} for model, line in lines.items()]
    columns = [*RATES, "own knob", "best"]
    return pd.DataFrame(
        rows, index=pd.Index(list(lines), name="student"), columns=columns, dtype=object
    ).fillna("")


def seeds(records: list[dict], world: str) -> DataFrame:
    """Every record of a world by itself: value, 95 % interval, samples and the command that repeats it."""
    rows = [
        {
            "model": r["model"],
            "steps": r["steps"],
            "training seed": field_of(r, "training_seed"),
            "metric": r["name"],
            "value": f"{r['value']:.4f}",
            "95 % interval": "exact" if r["low"] is None else f"{r['low']:.4f} to {r['high']:.4f}",
            "n": r["n"],
            "command": command(r),
        }
        for r in select(records, world=world)
    ]
    return pd.DataFrame(rows)


def costs(records: list[dict], world: str, steps: int, scale: str = "laptop") -> DataFrame:
    """What the methods take on a world: updates, sequences evaluated, networks beside student and teacher,
    the minutes that the runs behind the records took, on whatever machine, and the floor on probabilities of
    a teacher that is exact. One-step methods stand with their one-step students."""
    rows = []
    for name, _ in dict.fromkeys(students(world, [steps]) + students(world, [1], ONE_STEP)):
        recipe = get_recipe(name, scale)
        runs = [r["provenance"]["training"]["seconds"] / 60 for r in select(records, model=name)]
        rows.append(
            {
                "noise": recipe.process,
                "method": NAMES[recipe.role],
                "updates": recipe.training.steps,
                "batch": recipe.training.batch_size,
                "forward passes an update": round(_forwards(recipe), 2),
                "sequences": round(recipe.training.steps * recipe.training.batch_size * _forwards(recipe)),
                "networks beside student and teacher": len(recipe.training.lr)
                - 1
                + METHODS[recipe.role].copies,
                "operations": f"{cost(recipe)['flop']:.1e}",
                "minutes": f"{min(runs):.1f} to {max(runs):.1f}" if runs else "",
                "teacher's floor": f"{recipe.floor:g}" if recipe.teacher.endswith("-exact") else "no floor",
            }
        )
    return pd.DataFrame(rows).set_index(["noise", "method"])


def _forwards(recipe: Recipe) -> float:
    return METHODS[recipe.role].forwards(recipe.method)


def costs_at(scale: str, names: Iterable[str]) -> DataFrame:
    """What recipes take at a scale, counted (`cost`)."""
    rows = {}
    for name in names:
        counted = cost(recipe := get_recipe(name, scale))
        rows[name] = {
            "updates": f"{recipe.training.steps:,}",
            "batch": recipe.training.batch_size,
            "parameters, millions": round(counted["parameters"] / 1e6, 2),
            "tokens": f"{counted['tokens']:.1e}",
            "operations": f"{counted['flop']:.1e}",
            "hours at 400 TFLOP/s": f"{counted['hours_at_400_tflops']:.2g}",
            "memory, GB": f"{counted['memory_gb']:.2g}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def costs_of_released() -> DataFrame:
    """What training the released models took, as measured: time, machine, date; and operations a second."""
    rows = {}
    for path in sorted((data_dir() / "models").glob("*.json")):
        facts = json.loads(path.read_text())
        if "role" not in facts["recipe"]:  # a feature extractor
            continue
        recipe, training = Recipe.from_dict(facts["recipe"]), facts["training"]
        rows[facts["name"]] = {
            "scale": recipe.scale,
            "updates": f"{training['steps']:,}",
            "minutes": round(training["seconds"] / 60, 1),
            "GFLOP/s": round(cost(recipe)["flop"] / training["seconds"] / 1e9),
            "machine": facts["provenance"]["hardware"],
            "date": facts["provenance"]["date"],
            "MB on disk": round(path.with_suffix(".safetensors").stat().st_size / 1e6, 2),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def measured_ratios() -> DataFrame:
    """What the benchmarks found, in the records `bench_*.json` there are: medians over rounds of ratios
    measured in one run, with 95 % intervals."""
    rows = []
    for path in sorted((data_dir() / "results").glob("bench_*.json")):
        for r in json.loads(path.read_text())["records"]:
            between = "" if r["low"] is None else f" [{r['low']:.2f}, {r['high']:.2f}]"
            at = [f"{k} {v}" for k, v in r["details"].items() if isinstance(v, str | int) and k not in UNTOLD]
            rows.append(
                {
                    "measured": r["name"],
                    "at": ", ".join(at),
                    "ratio": f"{r['value']:.2f}{between}",
                    "rounds": r["n"],
                    "machine": r["provenance"]["measured"]["hardware"],
                }
            )
    frame = DataFrame(rows, columns=["measured", "at", "ratio", "rounds", "machine"])
    return frame.set_index(["measured", "at"])


def parts_table(found: dict[Claim, list[Finding]]) -> DataFrame:
    """Every part of the paper: its page in the book, and how its claims came out at which scales."""
    rows = []
    for part in items():
        mine = claims_of(part)
        count = Counter(verdict(found[claim]) for claim in mine)
        scales = dict.fromkeys(f.scale for claim in mine for f in found[claim])
        done = page_link(part.page, part.page.replace("_", " ")) if part.page else "not done yet"
        rows.append(
            {
                "in the paper": part.name,
                "shows": part.shows,
                "in this book": done,
                "claims": "; ".join(f"{words}: {n}" for words, n in count.items()) or "none to count",
                "scales": ", ".join(scales),
            }
        )
    return pd.DataFrame(rows)


def claim_section(claim: Claim, findings: list[Finding]) -> str:
    """A claim as HTML: what the paper says, what came out, and a table of the comparisons behind it."""
    rows = [
        {
            "compared": f.where,
            "here": f.numbers,
            "as in the paper": f"{f.agree} of {f.seeds}",
            "intervals apart": f"{f.apart} of {f.seeds}",
            "scale": f.scale,
            "records": record_link(f.file),
        }
        for f in findings
    ]
    said = f"<p><b>{claim.source}.</b> {claim.text} <b>{verdict(findings).capitalize()}.</b><br>"
    said += f"<i>The paper's numbers:</i> {claim.paper}.</p>"
    return said + (as_html(pd.DataFrame(rows)) if rows else "")


def claims_on(part: str) -> str:
    """The claims about a part of the paper, "Table 6", held against all committed records, as HTML."""
    claims = claims_of(next(item for item in items() if item.name == part))
    return "".join(claim_section(claim, claim.findings()) for claim in claims)


def as_html(table: DataFrame) -> str:
    """A table whose cells are HTML, without its index."""
    return table.to_html(escape=False, index=False, border=0)
