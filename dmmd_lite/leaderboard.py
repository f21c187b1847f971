"""The comparison of methods: who takes part on a world, what decides there, which command repeats a cell.

Every student of a world and a noise starts from the same network and learns from the same teacher; its
networks evaluate as many sequences (a backward pass counts two) as those of D-MMD, within a tenth (see
`students`).
"""

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING

from dmmd_lite.cost import cost
from dmmd_lite.evaluate import EXACT_METRICS
from dmmd_lite.methods import METHODS
from dmmd_lite.pages import load_results
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipe import Recipe
from dmmd_lite.recipes import RECIPES, get_recipe
from dmmd_lite.results import field_of, select
from dmmd_lite.students import COMPARED, ONE_STEP, student_for

if TYPE_CHECKING:  # pandas belongs to the extra `book`
    from pandas import DataFrame

STEPS = (1, 4, 16)
NAMES = {
    "dmmd": "D-MMD",
    "sdtt": "SDTT",
    "dcd": "DCD",
    "di4c": "Di4C",
    "idlm": "IDLM",
    "dimo": "Di[M]O",
    "redi": "ReDi",
}
JUDGED_BY = {  # the first decides, less is better; the others say what was given up for it
    "coins": ("total_variation", "invalid_mass"),
    "parity": ("total_variation", "invalid_mass"),
    "permutations": ("total_variation", "invalid_mass"),
    "markov": ("ngram_divergence", "log_likelihood"),
    "digits": ("frechet", "coverage", "class_histogram"),
    "docstrings": ("gradient_moment", "perplexity", "distinct_4grams"),
}
PAGES = ("leaderboard", "coins", "exact_text", "table1_steps_images", "fig1_steps_text")  # with records
WHY_NOT = {  # why a method is not defined for a process
    ("sdtt", "uniform"): "its targets are defined by which positions a sub-step reveals",
    ("dcd", "masked"): "its pairs of noise levels share a Gaussian, which only uniform noise comes from",
    ("dimo", "uniform"): "it masks what it generated; beyond one step it has no students at all",
}


def teacher(world: str, process: str) -> str:
    """Name of the recipe that every student of a world and process is distilled from."""
    return get_recipe(f"{world}-{process}-dmmd-1").teacher


def students(
    world: str, steps: Iterable[int] = STEPS, roles: Iterable[str] = tuple(METHODS)
) -> list[tuple[str, int]]:
    """The students that take part on a world, (recipe's name, sampling steps), by process, method and steps.

    A method whose training knows no number of steps has one student for several.
    """
    if world not in COMPARED:
        raise ValueError(f"world: {world!r} is not allowed; methods are compared on {COMPARED}")
    cells = (
        (student_for(role, world, process, k), k) for process, role, k in product(PROCESSES, roles, steps)
    )
    return [(name, k) for name, k in cells if name]


def committed_records() -> list[dict]:
    """Every committed record against test data that a cell can be filled with, whatever page it is of."""
    everything = (
        r for page in PAGES for r in load_results(page) if r["name"] in JUDGED_BY.get(r["world"], ())
    )
    return select(everything, model=RECIPES.__contains__, split="test")


def command(record: dict) -> str:
    """The command line that makes a record again, training its model first if it has to."""
    words = ["dmmd-lite evaluate", record["model"]]
    if seed := field_of(record, "training_seed"):
        words.append(f"--train-seed {seed}")
    words.append(f"--steps {record['steps']}")
    if record["name"] not in EXACT_METRICS:  # those enumerate, and draw no samples
        words.append(f"--num {record['n']}")
    if record["seed"]:
        words.append(f"--seed {record['seed']}")
    for option, field in (("--temperature", "temperature"), ("--top-p", "top_p")):
        if record[field] != 1:
            words.append(f"{option} {record[field]:g}")
    return " ".join([*words, "--metrics", ",".join(JUDGED_BY[record["world"]])])


def board(records: list[dict], world: str, metric: str, steps: Iterable[int] = STEPS) -> "DataFrame":
    """A world's methods by steps: the mean over training seeds, least and most of them, their number.

    "not defined" is a method that the noise or the steps do not suit (`WHY_NOT`), "–" a student the catalogue
    does not have; cells that no record fills are empty. Of several records of one training seed the last
    counts. The teacher comes first. Values of single seeds with their intervals are in `seeds`.
    """
    import pandas as pd

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
    columns = [f"{k} step" if k == 1 else f"{k} steps" for k in steps]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["noise", "method"])
    return frame


def _missing(role: str, process: str, steps: int) -> str:
    return "not defined" if (role, process) in WHY_NOT or (role in ONE_STEP and steps > 1) else "–"


def _cell(records: list[dict], model: str, steps: int, metric: str) -> str:
    mine = select(records, name=metric, model=model, steps=steps)
    found = list({field_of(r, "training_seed"): r["value"] for r in mine}.values())
    if not found:
        return ""
    if len(found) == 1:
        return f"{found[0]:.3f}"
    return f"{sum(found) / len(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} seeds)"


def seeds(records: list[dict], world: str) -> "DataFrame":
    """Every record of a world by itself: value, 95 % interval, samples and the command that repeats it."""
    import pandas as pd

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


def costs(world: str, steps: int, scale: str = "laptop") -> "DataFrame":
    """What the methods take on a world: updates, sequences evaluated, networks beside student and teacher."""
    import pandas as pd

    rows = []
    for name, _ in students(world, [steps]):
        recipe = get_recipe(name, scale)
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
            }
        )
    return pd.DataFrame(rows).set_index(["noise", "method"])


def _forwards(recipe: Recipe) -> float:
    return METHODS[recipe.role].forwards(recipe.method)
