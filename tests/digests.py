"""Digests of what the package computes, to show that a change of its structure changes no result.

    python tests/digests.py            compare with tests/digests.json; exit code 1 where something differs
    python tests/digests.py --write    write that file again, after a change of results that is wanted
    python tests/digests.py --parts recipes trained    compare the quicker parts (all take ten minutes)

Recipes are compared as JSON, which is the same on every machine. Weights, samples and records are compared
bit by bit, which holds for one machine, one PyTorch build and one thread; on another processor matrix
products may round differently, so there `--tolerance 1e-3` compares the sums that stand beside the digests
instead, and sampled tokens, which a rounding may change, not at all.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from itertools import product
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
SEED, SAMPLES = 20_260_320, 64
TRAINED = (  # recipes beside one student of every method and noise
    "coins-masked-teacher",
    "coins-uniform-teacher",
    "digits-masked-teacher",
    "digits-uniform-teacher",
    "markov-masked-dmmd-4",
    "docstrings-uniform-teacher-block32",
    "docstrings-masked-dmmd-4-p85",
    "docstrings-ar-judge",
)

CHUNKED = (  # trainings that are repeated with small chunks
    "digits-masked-dmmd-4",
    "digits-uniform-dmmd-4",
    "digits-masked-teacher",
    "digits-uniform-dcd-4",
)


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def of_json(content) -> str:
    """The SHA-256 of JSON values with sorted keys; floats are written with all their digits."""
    return sha256(json.dumps(content, sort_keys=True).encode())


def of_recipes() -> dict[str, str]:
    """A digest of all recipes at every scale, tuned and untuned."""
    from dmmd_lite.recipes.catalogue import BEFORE_TUNING, RECIPES, get_recipe, scales_of
    from dmmd_lite.utils.scales import SCALES

    found = {}
    for scale in SCALES:
        named, students = ([n for n in sorted(v) if scale in scales_of(n)] for v in (RECIPES, BEFORE_TUNING))
        found[scale] = of_json({name: get_recipe(name, scale).to_dict() for name in named})
        untuned = {name: BEFORE_TUNING[name](scale).to_dict() for name in students}
        found[f"{scale}, untuned"] = of_json(untuned)
    return found


def of_trainings() -> dict[str, dict]:
    """Digests of checkpoints (weights, averages, optimisers, random states) and validations of trainings at
    smoke scale, some of them in chunks as large vocabularies are."""
    from safetensors import safe_open

    from dmmd_lite.denoisers import prediction
    from dmmd_lite.models.loading import train_recipe
    from dmmd_lite.objectives import METHODS
    from dmmd_lite.processes import PROCESSES
    from dmmd_lite.recipes.catalogue import get_recipe
    from dmmd_lite.recipes.students import student_for

    students = (student_for(role, "digits", process, 1) for role, process in product(METHODS, PROCESSES))
    found, small = {}, 2000  # elements of a chunk, so that even small heads are evaluated chunk by chunk
    runs = [(name, None) for name in [*TRAINED, *filter(None, students)]] + [
        (name, small) for name in CHUNKED
    ]
    for name, chunk in runs:
        whole = prediction.MAX_ELEMENTS
        prediction.MAX_ELEMENTS = chunk or whole
        with tempfile.TemporaryDirectory() as folder:
            train_recipe(get_recipe(name, "smoke"), Path(folder), seed=SEED % 1000)
            with safe_open(Path(folder) / "checkpoint.safetensors", "pt") as file:
                facts = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}
        prediction.MAX_ELEMENTS = whole
        tensors.pop("random/torch")  # depends on what was loaded before, and no training reads it
        validated = {key: facts[key] for key in ("best_step", "best_value")}
        key = f"{name} in chunks" if chunk else name
        found[key] = of_tensors(tensors) | {"validated": of_json(validated)}
        print(f"trained {key}", flush=True)
    return found


def of_tensors(tensors: dict) -> dict:
    """A digest of named tensors, and the sum of all absolute values in float64."""
    digest, total = hashlib.sha256(), 0.0
    for key, value in sorted(tensors.items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
        total += float(value.double().abs().sum()) if value.is_floating_point() else 0.0
    return {"sha256": digest.hexdigest(), "sum": total}


def of_models() -> tuple[dict, dict]:
    """Digests of 64 samples of every shipped model, and every metric's record of them."""
    from dmmd_lite.metrics.suite import METRICS, metrics_for
    from dmmd_lite.models.evaluation import evaluate
    from dmmd_lite.models.loading import load_model
    from dmmd_lite.recipes.catalogue import RECIPES
    from dmmd_lite.utils.paths import data_dir

    samples, records = {}, {}
    for path in sorted((data_dir() / "models").glob("*.safetensors")):
        if path.stem not in RECIPES:
            continue
        model = load_model(path.stem)
        drawn = model.sample(SAMPLES, seed=SEED)
        tokens = {"tokens": drawn.tokens}
        samples[model.name] = of_tensors(tokens)["sha256"] + f" {drawn.evaluations!r}"
        for name in metrics_for(model.world):
            if not METRICS[name].default:
                continue
            try:
                (record,) = evaluate(model, [name], num=SAMPLES, seed=SEED, samples=drawn)
                values = record.to_dict()
                values["provenance"].pop("measured")
                found = {"sha256": of_json(values), "sum": record.value}
            except ValueError as error:  # too few samples, or the model is its own judge
                found = str(error)
            records[f"{model.name} {name}"] = found
        print(f"measured {model.name}", flush=True)
    return samples, records


PARTS = ("recipes", "trained", "models")


def collect(parts: list[str]) -> dict:
    """The digests of some parts; those of models are of their samples and of the records of these."""
    found = {}
    if "recipes" in parts:
        found["recipes"] = of_recipes()
    if "trained" in parts:
        found["trained"] = of_trainings()
    if "models" in parts:
        found["samples"], found["records"] = of_models()
    return found


def differences(found: dict, expected: dict, tolerance: float | None) -> list[str]:
    """What differs, a line each. tolerance: relative, of sums in the place of digests; None compares bits."""
    lines = []
    for part in found:
        ours, theirs = found[part], expected[part]
        if tolerance is not None and part == "samples":
            continue
        for name in sorted(ours.keys() | theirs.keys()):
            a, b = ours.get(name), theirs.get(name)
            if tolerance is not None and isinstance(a, dict) and isinstance(b, dict):
                same = abs(a["sum"] - b["sum"]) <= tolerance * abs(b["sum"]) + 1e-9
            else:
                same = a == b
            if not same:
                lines.append(f"{part}: {name}: {a} is not {b}")
    return lines


def main() -> int:
    """Compare or write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the file of digests again")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="compare these alone")
    parser.add_argument("--tolerance", type=float, help="compare sums to this relative tolerance")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DMMD_CACHE_DIR"] = os.environ.get("DMMD_CACHE_DIR", cache)
        found = collect(arguments.parts)
    if arguments.write:
        found = (json.loads(FILE.read_text()) if FILE.is_file() else {}) | found
        FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return 0
    lines = differences(found, json.loads(FILE.read_text()), arguments.tolerance)
    print("\n".join(lines) or "nothing differs")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
