"""The command line: it reads arguments, calls one function and prints the result.

Bad input ends with one line on standard error and exit code 2, before anything is written. Modules that take
long to import are imported by the commands that use them, so that help and lists appear at once.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import dmmd_lite
from dmmd_lite.pages.source import parse_value
from dmmd_lite.utils.checks import Count, PositiveFraction, PositiveOrZero, Seed, check, check_choice
from dmmd_lite.utils.errors import Failure, memory_ran_out
from dmmd_lite.utils.extras import EXTRAS, missing, require
from dmmd_lite.utils.files import atomic_write, check_folder, write_text
from dmmd_lite.utils.scales import SCALES
from dmmd_lite.utils.signals import Interrupted

RECIPE_SCALE = "smoke, laptop, desk, gpu or paper; default: that of the models that ship, laptop or desk"
SAMPLE_ENDINGS = (".npz", ".png", ".txt")
OPTIONS = {  # what the options of all commands may be
    "out": str | Path,
    "seed": Seed,
    "train_seed": Seed,
    "steps": Count | None,
    "num": Count | None,
    "temperature": PositiveOrZero,
    "top_p": PositiveFraction,
    "jobs": Count | None,
    "threads": Count,
}


class _Once(argparse.Action):
    """An option with one value, which may be given once."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Keep the value. ValueError for a second one."""
        given = vars(namespace).setdefault("given", set())
        if option_string and self.dest in given:
            raise ValueError(f"{self.dest}: {values!r} is not allowed; the option is there twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        super().__init__(**options)
        self.register("action", None, _Once)

    def parse_known_args(self, args=None, namespace=None):
        """Parse arguments. ValueError for `--option=--`, which argparse takes for the end of the options."""
        for argument in sys.argv[1:] if args is None else args:
            name, _, value = argument.partition("=")
            if name.startswith("-") and value == "--":
                raise ValueError(f"{name.lstrip('-')}: '--' is not allowed; it is no value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        raise ValueError(message)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # a terminal need not have every character
        arguments = make_parser().parse_args(argv)
        for name in vars(arguments).keys() & OPTIONS.keys():
            setattr(arguments, name, check(name, getattr(arguments, name), OPTIONS[name]))
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except ValueError as error:
        return _end(error, 2)
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        return _end(missing(module) if module in EXTRAS else error, 2)
    except Interrupted as error:
        return _end(error, 128 + error.signal)
    except BrokenPipeError:  # nobody reads any more; Python would say so once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Failure as error:  # in lines of its own, such as the runs of a sweep that failed
        print(f"dmmd-lite: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        return _end(error, 1)
    except (MemoryError, RuntimeError) as error:
        if not memory_ran_out(error):
            raise
        return _end(f"memory ran out: {error}", 1)


def _end(message: object, code: int) -> int:
    """Print why a command ended, in one line, and return its exit code."""
    print(f"dmmd-lite: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands. The function that a command calls is its default of `run`."""
    description = "Distil discrete diffusion models, sample them, measure them."
    parser = _Parser(prog="dmmd-lite", description=description)
    parser.add_argument("--version", action="version", version=f"dmmd-lite {dmmd_lite.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name, run, help):
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        return sub

    p = command("recipes", _recipes, "list recipes, those of a scale with what they take, or print one whole")
    p.add_argument("name", nargs="?", help="a recipe's name; without it all are listed")
    p.add_argument("--scale", help=RECIPE_SCALE)
    p.add_argument("--json", action="store_true")

    p = command("train", _train, "train a recipe in a folder; run again to resume")
    p.add_argument("recipe")
    p.add_argument("--out", required=True, help="folder of the run")
    p.add_argument("--scale", help=RECIPE_SCALE)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    change = "change the recipe, e.g. training.steps=100"
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="key=value", help=change)

    p = command("sample", _sample, "draw samples to a .npz, .png or .txt file")
    _add_sampling(p)
    held = p.add_mutually_exclusive_group()
    held.add_argument("--prompt", metavar="TEXT", help="beginning of every sample")
    infill = "sequences to complete, --num samples each (1): lines of text with _ for a position to fill, or "
    held.add_argument("--infill", metavar="FILE", help=infill + ".npz with held and tokens")
    p.add_argument("--out", required=True)

    p = command("evaluate", _evaluate, "measure a model; prints one record a metric")
    _add_sampling(p)
    p.add_argument("--metrics", help="names separated by commas; all that apply by default")
    judge = (
        "judge of gradient_moment and perplexity: a recipe's name, a folder, chain, or hf:NAME for a model "
    )
    p.add_argument("--judge", help=judge + "of transformers; default: the world's judge")
    features = "features of the metrics that compare images: WORLD-classifier, resnet20, resnet56, or one of "
    features += "the latter two with other weights, resnet20:FILE; default: the world's features"
    p.add_argument("--features", help=features)
    p.add_argument("--json", action="store_true")

    p = command("page", _page, "run a page of the book headless")
    p.add_argument("page")
    p.add_argument("--scale", default="laptop")
    p.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters")
    p.add_argument("--out", required=True)

    p = command("book", _book, "run every page that needs it and build the site")
    p.add_argument("--scale", default="laptop")

    p = command("sweep", _sweep, "run a page at every point of a grid; run again to resume")
    p.add_argument("page")
    point = {"nargs": "+", "action": "append", "default": [], "metavar": ("NAME", "VALUE"), "dest": "grid"}
    p.add_argument("-p", **point, help="a parameter and its values, each JSON or a Python literal")
    p.add_argument("--scale", default="laptop")
    where = p.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, help="runs at a time; default: as many as there are cores for")
    where.add_argument("--cluster", help="address of a Dask scheduler, tcp://HOST:PORT")
    p.add_argument("--threads", type=int, default=1, help="threads of one run (1)")
    p.add_argument("--out", required=True, help="folder of all runs and their results")

    p = command("doctor", _doctor, "list what was found: devices, data, weights, versions")
    p.add_argument("--json", action="store_true")
    return parser


def _add_sampling(p: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that sample a model."""
    p.add_argument(
        "model",
        help="a recipe's name, or a folder: of `train`, `distil`, `save_pretrained`, or a published one",
    )
    p.add_argument("--scale", help=RECIPE_SCALE)
    p.add_argument("--train-seed", type=int, default=0, help="training seed of a recipe's name")
    p.add_argument("--steps", type=int, help="denoising steps; default: the number a student is made for")
    p.add_argument("--num", type=int, help="samples; default: 1000, 50000 for FID at scale paper")
    p.add_argument("--seed", type=int, default=0, help="seed of the samples")
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument("--top-p", type=float, default=1.0)
    p.add_argument("--greedy-tail", action="store_true", help="most likely classes in the last step")
    p.add_argument("--compile", action="store_true", help="compile layers with torch.compile: for long runs")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def pick_device(name: str):
    """Return the torch device "cpu", "cuda" or "mps", or for "auto" the best one of this machine.

    Errors: ValueError for a device that this machine does not have.
    """
    import torch

    found = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    check_choice("device", name, ["auto", *found])
    return torch.device(found[-1] if name == "auto" else name)


def _recipes(arguments) -> None:
    from dmmd_lite.recipes.catalogue import RECIPES, get_recipe, scales_of

    if arguments.name is None and arguments.scale is None:
        print(json.dumps(sorted(RECIPES)) if arguments.json else "\n".join(sorted(RECIPES)))
        return
    from dmmd_lite.recipes.cost import cost  # imports torch

    if arguments.name is None:
        check_choice("scale", arguments.scale, SCALES)
        names = sorted(name for name in RECIPES if arguments.scale in scales_of(name))
        trained = [r for r in (get_recipe(name, arguments.scale) for name in names) if r.training]
        costs = {recipe.name: {"updates": recipe.training.steps} | cost(recipe) for recipe in trained}
        lines = [
            f"{name:44s} {found['updates']:9,d} {found['parameters']:12,d} {found['core_hours']:9.2g}"
            for name, found in costs.items()
        ]
        title = f"{'recipe':44s} {'updates':>9s} {'parameters':>12s} hours of one core"
        print(json.dumps(costs) if arguments.json else "\n".join([title, *lines]))
        return
    recipe = get_recipe(arguments.name, arguments.scale)
    content = {"recipe": recipe.to_dict(), "cost": cost(recipe)}
    print(json.dumps(content, indent=None if arguments.json else 1))


def _train(arguments) -> None:
    import torch

    from dmmd_lite.models.loading import train_recipe
    from dmmd_lite.recipes.catalogue import get_recipe

    changes = {}
    for item in arguments.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"set: {item!r} is not allowed; write key=value")
        if key in changes:
            raise ValueError(f"set: {key!r} is there twice; give it once")
        changes[key] = parse_value(value)
    recipe, device = get_recipe(arguments.recipe, arguments.scale, changes), pick_device(arguments.device)
    check_folder("out", arguments.out)
    distributed = "RANK" in os.environ  # started by torchrun
    if distributed:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
    path = train_recipe(recipe, arguments.out, seed=arguments.seed, device=device)
    if not distributed or torch.distributed.get_rank() == 0:
        print(path.with_suffix(".safetensors"))
    if distributed:
        torch.distributed.destroy_process_group()


def _load_model(arguments, check_model):
    """Return the model and the number of steps, checking all arguments before anything is trained.

    Args:
    check_model: function (recipe, world) that raises ValueError if they do not suit the command.
    """
    from dmmd_lite.models.loading import is_folder, load_model, recipe_of
    from dmmd_lite.worlds import get_world

    arguments.device = pick_device(arguments.device)
    given = arguments.model, arguments.scale, arguments.train_seed
    if is_folder(arguments.model):
        model = load_model(*given, device=arguments.device)
        check_model(model.recipe, model.world)
    else:
        recipe = recipe_of(arguments.model, arguments.scale)
        check_model(recipe, get_world(recipe.world))
        model = load_model(*given, device=arguments.device)
    if arguments.compile:
        _compile(model, arguments.device)
    return model, model.default_steps if arguments.steps is None else arguments.steps


def _sampling_options(arguments) -> dict:
    """Return the options of sampling that `Model.sample` and `evaluate` share."""
    names = ("seed", "temperature", "top_p", "greedy_tail", "device")
    return {name: getattr(arguments, name) for name in names}


def _compile(model, device) -> None:
    """Compile a model's layers for sampling. ValueError if it has none, or if there is no compiler."""
    from dmmd_lite.utils.compiling import compile_layers

    if not compile_layers(model.denoiser, dynamic=True):
        raise ValueError(f"compile: True is not allowed for {model.name}, which has no layers")
    try:
        model.sample(2, 1, device=device)
    except RuntimeError as error:
        raise ValueError(f"compile: True is not allowed here: {str(error).splitlines()[0]}") from None


def _sample(arguments) -> None:
    from dmmd_lite.models.conditions import file_condition, prompt_condition
    from dmmd_lite.models.evaluation import SAMPLES
    from dmmd_lite.utils.progress import progress_bar

    out, ending = str(arguments.out), arguments.out.suffix
    if ending not in SAMPLE_ENDINGS:
        raise ValueError(f"out: {out!r} is not allowed; it must end in one of {SAMPLE_ENDINGS}")
    if not arguments.out.parent.is_dir():
        raise ValueError(f"out: {out!r} is not allowed; its folder does not exist")
    if arguments.out.is_dir():
        raise ValueError(f"out: {out!r} is not allowed; it is a folder, name a file")
    check_folder("out", arguments.out.parent)
    if ending == ".png":
        require("matplotlib", "seaborn", "IPython", "PIL")

    def check(recipe, world):
        if ending == ".png" and world.image_shape is None:
            raise ValueError(f"out: {out!r} is not allowed; {world.name} is text")
        if arguments.prompt is not None:
            conditions.append(prompt_condition(world, arguments.prompt))
        elif arguments.infill is not None:
            conditions.append(file_condition(world, arguments.infill))

    conditions: list = []
    arguments.num = (SAMPLES if arguments.infill is None else 1) if arguments.num is None else arguments.num
    model, steps = _load_model(arguments, check)
    options = _sampling_options(arguments)
    for held, tokens in conditions:
        options["held"], options["tokens"] = (v.repeat_interleave(arguments.num, 0) for v in (held, tokens))
        arguments.num *= len(held)
    with progress_bar(1, 0, "sampling") as bar:
        options["progress"] = lambda done, total: bar.set(done / total)
        drawn = model.sample(arguments.num, steps, **options)
    about = {"steps": steps, "evaluations": drawn.evaluations}
    about |= {name: options[name] for name in ("seed", "temperature", "top_p")} | {"model": model.name}
    _write_samples(arguments.out, model.world, drawn.tokens.cpu(), about)
    cost = f"{drawn.evaluations:.1f} evaluations each"
    print(f"{arguments.out}: {arguments.num} samples in {steps} steps ({cost})")


def _write_samples(out: Path, world, tokens, about: dict) -> None:
    """Write tokens [N, L] as arrays with the entries of `about` (.npz), a picture (.png) or lines (.txt)."""
    if out.suffix == ".npz":
        import numpy as np

        with atomic_write(out) as part:
            np.savez_compressed(part, tokens=tokens.numpy(), **about)
    elif out.suffix == ".png":
        from dmmd_lite.pages.display import save
        from dmmd_lite.report.plots import image_grid

        with atomic_write(out) as part:
            save(image_grid(world.show(tokens)), part)
    else:
        rows = world.show(tokens)
        rows = rows if isinstance(rows[0], str) else [" ".join(map(str, row)) for row in tokens.tolist()]
        write_text(out, "\n".join(rows) + "\n")


def _evaluate(arguments) -> None:
    from dmmd_lite.metrics.suite import METRICS, check_features, metrics_for
    from dmmd_lite.models.evaluation import check_metrics, default_num, evaluate, judge_for

    names: list[str] = []

    def check(recipe, world):
        known = [name for name in metrics_for(world) if METRICS[name].default]
        names.extend(known if arguments.metrics is None else arguments.metrics.split(","))
        if arguments.num is None:
            arguments.num = default_num(recipe.scale, names)
        require(*world.packages)
        check_metrics(names, world)
        check_features(names, world, arguments.num, arguments.features, arguments.device)
        if arguments.judge is not None:
            arguments.judge = judge_for(arguments.judge, names, recipe, world, arguments.device)

    model, steps = _load_model(arguments, check)
    records = evaluate(
        model,
        names,
        steps=steps,
        num=arguments.num,
        judge=arguments.judge,
        features=arguments.features,
        **_sampling_options(arguments),
    )
    if arguments.json:
        print(json.dumps([r.to_dict() for r in records], indent=1))
        return
    for r in records:
        spread = "exact" if r.low is None else f"[{r.low:.4g}, {r.high:.4g}]{r.level_text}"
        print(f"{r.name:18s} {r.value:10.4g}  {spread:22s} n={r.n} steps={r.steps} against {r.reference}")


def _page(arguments) -> None:
    from dmmd_lite.pages.run import run_page

    given = [(name, [value]) for name, value in arguments.parameters]
    values = {name: value for name, [value] in _parameters(given, "a single run takes one value").items()}
    print(run_page(arguments.page, arguments.out, arguments.scale, values))


def _book(arguments) -> None:
    from dmmd_lite.pages.site import build_book

    build_book(arguments.scale)


def _sweep(arguments) -> None:
    from dmmd_lite.pages.sweep import sweep
    from dmmd_lite.report.sweeps import swept_metrics

    given = [(name, values) for name, *values in arguments.grid]
    grid = _parameters(given, "give all its values after one -p")
    check_folder("out", arguments.out)
    options = {name: getattr(arguments, name) for name in ("scale", "jobs", "cluster", "threads")}
    sweep(arguments.page, grid, arguments.out, **options, draw=swept_metrics)


def _parameters(given: list[tuple[str, list[str]]], allowed: str) -> dict[str, list]:
    """Return {name: parsed values} of a page's parameters. ValueError for a name that is given twice."""
    found = {}
    for name, values in given:
        if name in found:
            raise ValueError(f"p: {name!r} is there twice; {allowed}")
        found[name] = [parse_value(value) for value in values]
    return found


def _doctor(arguments) -> None:
    import torch

    from dmmd_lite.metrics.features import local_resnets
    from dmmd_lite.metrics.inception import local_inception
    from dmmd_lite.recipes.catalogue import RECIPES
    from dmmd_lite.utils import paths
    from dmmd_lite.utils.provenance import machine
    from dmmd_lite.worlds import WORLDS
    from dmmd_lite.worlds.corpora import local_data_sets
    from dmmd_lite.worlds.tokenizers import local_tokenizer_files

    models = paths.data_dir() / "models"
    found = {
        **machine(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
        "worlds": list(WORLDS),
        "released_models": sorted(p.stem for p in models.glob("*.safetensors") if p.stem in RECIPES),
        "released_results": sorted(p.stem for p in (paths.data_dir() / "results").glob("*.json")),
        "cache": str(paths.cache_dir()),
        "DMMD_DATA_DIR": str(paths.external_data_dir() or "not set"),
        "local_data_sets": local_data_sets(),
        "local_tokenizer": [file.name for file in local_tokenizer_files()],
        "local_resnets": local_resnets(),
        "local_inception": str(local_inception() or "not found"),
        "may_download": paths.may_download(),
    }
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for key, value in found.items():
        print(f"{key:18s} {', '.join(value) if isinstance(value, list) else value}")
