"""Contents of the pages' explorers: samplers, trajectories, one's own puzzles and beginnings of molecules,
predictions, live training."""

import html
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache

import ipywidgets as widgets
import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, denoiser_noise
from dmmd_lite.metrics.suite import evaluate_samples
from dmmd_lite.models.conditions import prompt_condition
from dmmd_lite.models.model import Model
from dmmd_lite.pages.display import tiles
from dmmd_lite.pages.widgets import error_html
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.report.molecules import molecule_grid
from dmmd_lite.report.sudoku import read_puzzle, sudoku_strips
from dmmd_lite.studies.trajectories import Probe, monitor
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds import get_world

MASKED = "·"  # how a masked position is shown
MIN_SAMPLES = 64  # metrics of fewer samples are not shown


def sampler(models: dict[str, Model], metrics: list[str], num: int = 512, seed: int = 0) -> tuple:
    """Return (first, longer) for image models: a few samples at once, then metrics on more of them.

    Both functions take model (a name of `models`), steps, temperature and top_p.

    Args:
    metrics: names of metrics.
    num: maximum number of samples.
    """

    def draw(model: str, steps: int, temperature: float, top_p: float, count: int, at: int) -> Tensor:
        sampling = {"seed": seed + at, "temperature": temperature, "top_p": top_p}
        return models[model].sample(count, steps, **sampling).tokens

    @lru_cache(maxsize=8)
    def begin(model: str, steps: int, temperature: float, top_p: float) -> Tensor:
        """Draw at most 16 samples, and fewer where they take many steps, so that they appear at once."""
        return draw(model, steps, temperature, top_p, max(4, min(16, 128 // steps)), 0)

    def shown(model: str, tokens: Tensor, note: str) -> str:
        alt = f"{min(16, len(tokens))} samples of the {model} model"
        return tiles(models[model].world.show(tokens[:16]), alt) + f"<br>{html.escape(note)}"

    def first(model: str, steps: int, temperature: float, top_p: float) -> str:
        return shown(model, begin(model, steps, temperature, top_p), "first samples")

    def longer(model: str, steps: int, temperature: float, top_p: float) -> Iterator[tuple[float, str]]:
        world, tokens = models[model].world, begin(model, steps, temperature, top_p)
        text, due, chunk = "", MIN_SAMPLES, max(8, min(32, 256 // steps))
        while len(tokens) < num:
            more = draw(model, steps, temperature, top_p, min(chunk, num - len(tokens)), len(tokens))
            tokens = torch.cat([tokens, more])
            if len(tokens) >= max(MIN_SAMPLES, min(due, num)):  # intervals are slow: not for every chunk
                found, due = evaluate_samples(tokens, world, metrics, seed), 3 * len(tokens) // 2
                values = [f"{r.name.replace('_', ' ')} {r.text(3)}" for r in found]
                text = "; ".join([*values, f"n = {len(tokens)}"])
            yield len(tokens) / num, shown(model, tokens, text or f"n = {len(tokens)}")

    return first, longer


def trajectory(
    model: Model, steps: int, num: int = 6, seed: int = 0, top_p: float = 1.0
) -> Callable[[int], str]:
    """Return a function of the step, 0 to `steps`, that shows the reverse process of a model as HTML.

    It shows z of `num` sequences at the end of the step; the tokens that changed are marked and counted.
    """
    drawn = model.sample(num, steps, seed=seed, top_p=top_p, trajectory=True)
    path = drawn.trajectory.cpu()  # [steps + 1, num, L]
    letters = [*model.world.show(torch.arange(model.world.vocab_size)[:, None]), MASKED]

    def first(after_step: int) -> str:
        changed = path[after_step] != path[max(after_step - 1, 0)]
        lines = [
            "".join(
                f"<mark>{html.escape(letters[token])}</mark>" if new else html.escape(letters[token])
                for token, new in zip(row, news, strict=True)
            )
            for row, news in zip(path[after_step].tolist(), changed.tolist(), strict=True)
        ]
        count = f"{int(changed.sum())} of {changed.numel()} tokens changed here"
        return f"<pre>{chr(10).join(lines)}</pre>t = {1 - after_step / steps:.3f}; {count}"

    return first


def own_puzzle(models: dict[str, Model], seed: int = 0) -> Callable[[str, str, int], str]:
    """Return a function first(puzzle, model, steps) that shows, as HTML, how a model solves a puzzle.

    It takes the puzzle as `report.sudoku.read_puzzle` does, and raises the same errors.

    Args:
    models: models of one Sudoku world.
    """

    def first(puzzle: str, model: str, steps: int) -> str:
        held, tokens, found = read_puzzle(models[model].world, puzzle)
        runs, solution = {model: (models[model], steps)}, found[0] if len(found) == 1 else None
        note = "" if len(found) == 1 else f"The puzzle has {len(found)} solutions, and each of them counts."
        return sudoku_strips(runs, held, tokens, solution, seed=seed) + note

    return first


def completions(models: dict[str, Model], num: int = 8, seed: int = 0) -> Callable[[str, str, int], str]:
    """Return a function first(beginning, model, steps) that shows `num` molecules whose SMILES strings begin
    as asked, as HTML. An empty beginning asks for any. ValueError for other symbols and too many tokens."""

    def first(beginning: str, model: str, steps: int) -> str:
        sampled, condition = models[model], {}
        if beginning:
            [held], [tokens] = prompt_condition(sampled.world, beginning)
            condition = {"held": held, "tokens": tokens}
        drawn = sampled.sample(num, steps, seed=seed, **condition)
        replaced = bool(beginning) and sampled.replaces
        note = "; beginning held by replacement, which is approximate" if replaced else ""
        facts = f"{html.escape(model)}: {steps} steps, {drawn.evaluations:.0f} evaluations{note}"
        return f"<p>{facts}</p>" + molecule_grid(sampled.world.show(drawn.tokens), beginning)

    return first


def predictions(recipe: Recipe, teacher: Denoiser, states: dict[str, tuple[list[int], float]]) -> Probe:
    """Return a probe of what the players of a D-MMD run, and its teacher, predict in some states, as HTML.

    All predictions are of the first position; the generator's are averaged over input noise. There is one row
    for each state and player.

    Args:
    states: name -> (symbols z [L], time).
    """
    classes = get_world(recipe.world).vocab_size

    def row(name: str, denoiser: Denoiser, z: list[int], t: float) -> str:
        name = html.escape(name)
        many, generator = torch.tensor([z] * 512), generator_for("cpu", 0)
        noise = denoiser_noise(denoiser, len(many), generator, "cpu")
        with torch.no_grad():
            x = denoiser(many, torch.full((len(many),), t), noise).exp()[:, 0].mean(0)
        cells = "".join(
            f'<td><meter value="{p:.3f}" min="0" max="1" aria-label="{name}"></meter> {p:.3f}</td>'
            for p in x.tolist()
        )
        return f"<tr><td>{name}</td>{cells}</tr>"

    def probe(players: dict) -> str:
        rows = [
            row(f"{who}, {called}", denoiser, z, t)
            for called, (z, t) in states.items()
            for who, denoiser in {**players, "teacher": teacher}.items()
        ]
        head = "".join(f"<th>class {c}</th>" for c in range(classes))
        return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"

    return probe


class Live:
    """A training shown while it runs in a separate thread, with buttons to begin and to stop, and progress.

    Args:
    probe: averaged players -> HTML.
    every: loop steps between two calls of the probe.
    """

    def __init__(self, recipe: Recipe, probe: Probe, every: int, seed: int = 0):
        self.recipe, self.probe, self.every, self.seed = recipe, probe, every, seed
        self.thread, self.stopped = None, False
        self.result, self.bar = widgets.HTML(), widgets.FloatProgress(max=1.0)
        self.begin = widgets.Button(description="train")
        self.stop = widgets.Button(description="stop", disabled=True)
        self.begin.on_click(lambda _: self.start())
        self.stop.on_click(lambda _: self.cancel())
        self.box = widgets.VBox([widgets.HBox([self.begin, self.stop, self.bar]), self.result])

    def start(self) -> None:
        """Start the training."""
        self.stopped, self.begin.disabled, self.stop.disabled = False, True, False
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()

    def cancel(self) -> None:
        """Stop the training at the next probe; the last result stays visible."""
        self.stopped = True

    def _train(self) -> None:
        seen = 0

        def shown(players: dict) -> None:
            nonlocal seen
            seen += self.every
            self.result.value, self.bar.value = self.probe(players), seen / self.recipe.training.steps
            if self.stopped:
                raise _Stopped

        try:
            monitor(self.recipe, self.every, shown, seed=self.seed)
        except _Stopped:
            pass
        except Exception as error:  # an error would end in the thread, unseen
            self.result.value = error_html(error)
        finally:
            self.begin.disabled, self.stop.disabled = False, True


class _Stopped(Exception):
    """The training was asked to stop."""
