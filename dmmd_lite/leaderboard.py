"""The comparison of methods: who takes part on a world, what decides there, which command repeats a cell.

Every student of a world and a noise starts from the same network and learns from the same teacher; its
networks evaluate as many sequences (a backward pass counts two) as those of D-MMD, within a tenth (see
`students`).
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from dmmd_lite.evaluate import EXACT_METRICS, evaluate
from dmmd_lite.methods import METHODS
from dmmd_lite.pages import load_results
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes import RECIPES, UNTUNED, get_recipe
from dmmd_lite.records import Record
from dmmd_lite.results import best_top_p, field_of, select
from dmmd_lite.store import model_of
from dmmd_lite.students import COMPARED, student_for
from dmmd_lite.tuning import trials_of

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
    "glyphs": ("frechet", "coverage", "class_histogram"),
    "docstrings": ("gradient_moment", "perplexity", "distinct_4grams"),
}
SAMPLES = {"docstrings": 512, "glyphs": 5000}  # per cell, where a metric draws them; elsewhere 2,000
RECOMMENDED = {  # steps at which its authors recommend a method, among those of the boards
    "dmmd": (16, "8 to 64"),
    "sdtt": (16, "8 and more"),
    "dcd": (16, "8 to 32"),
    "di4c": (16, "half of its teacher's"),
    "idlm": (16, "4 to 32"),
    "dimo": (1, "1"),
    "redi": (4, "1 to 16"),
}
PAGES = ("leaderboard", "coins", "table1_steps_images", "fig1_steps_text")  # with records
WHY_NOT = {  # why a method is not defined for a process
    ("sdtt", "uniform"): "its targets are defined by which positions a sub-step reveals",
    ("dcd", "masked"): "its pairs of noise levels share a Gaussian, which only uniform noise comes from",
    ("dimo", "uniform"): "it masks what it generated",
}
WHY_ONE_STEP = {"dimo": "its student is only ever shown the start of sampling"}  # why none takes more


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
    """Every committed record against test data that a cell can be filled with, whatever page it is of; of
    several for the same measurement the last."""
    everything = (
        r for page in PAGES for r in load_results(page) if r["name"] in JUDGED_BY.get(r["world"], ())
    )
    same = ("name", "model", "training_seed", "steps", "n", "seed", "temperature", "top_p")
    found: dict[tuple, dict] = {}
    for r in select(everything, model=RECIPES.__contains__, split="test"):
        found[tuple(field_of(r, field) for field in same)] = r
    return list(found.values())


def samples_of(world: str) -> int:
    """Samples a cell takes on a world."""
    return SAMPLES.get(world, 2000)


def top_p_of(model: str, steps: int) -> float:
    """The top-p a model is sampled with in so many steps: for text the best one of the committed validation
    records."""
    return best_top_p((r for page in PAGES for r in load_results(page)), model, steps)


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
    if record["details"].get("greedy_tail"):
        words.append("--greedy-tail")
    return " ".join([*words, "--metrics", ",".join(JUDGED_BY[record["world"]])])


def try_out(name: str, trial: str, *, num: int = 2000, seed: int = 1) -> Record:
    """Train a student's trial (training seed 0, kept in the cache) and measure it on validation data
    by its world's first metric.

    num: samples, where the metric draws any; seed: of the samples. ValueError for an unknown trial.
    """
    recipe = UNTUNED[name]("laptop")
    changes = trials_of(recipe)
    if trial not in changes:
        raise ValueError(f"trial: {trial!r} is not allowed; choose from {list(changes)}")
    model = model_of(recipe.with_changes(changes[trial]))
    (record,) = evaluate(model, [JUDGED_BY[recipe.world][0]], num=num, seed=seed, split="valid")
    return replace(record, details={**record.details, "trial": trial, "changes": changes[trial]})
