"""What the students of all methods share, and the plan that describes one method.

The students of a world and a noise start from the same network, learn from the same teacher, and their
networks evaluate as many sequences as those of D-MMD. The classes of `objectives` are imported when a recipe
is made, so that the catalogue can be listed without PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import NOISES, ScaleSettings, WorldSettings, settings_of
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.checks import check_choice


@dataclass(frozen=True)
class StudentPlan:
    """One distillation method, as the catalogue, the comparison and its tables know it.

    Args:
    role: the method's name in recipes, a key of `objectives.METHODS`. label: its name in tables.
    make: function (world, process, steps, scale) -> recipe of the student for that many sampling steps.
    recommended: a number of steps at which the method's authors recommend it, and their advice in words.
    knob: function recipe -> another value of one of the method's settings, as changes to the recipe.
    processes: the noise processes the method is defined for.
    why_not: process -> reason why the method is not defined for it.
    why_one_step: reason why students take one step only; "" where they may take more.
    any_steps: whether the loss knows no number of steps, so that one student serves several.
    steps: function settings of a world -> numbers of steps that students are trained for.
    best: (world, process) -> the best trial (`trials`), where that was not the recipe itself.
    """

    role: str
    label: str
    make: Callable[..., Recipe]
    recommended: tuple[int, str]
    knob: Callable[[Recipe], dict[str, Any]]
    processes: tuple[str, ...] = NOISES
    why_not: dict[str, str] = field(default_factory=dict)
    why_one_step: str = ""
    any_steps: bool = False
    steps: Callable[[WorldSettings], tuple[int, ...]] = lambda world: world.student_steps
    best: dict[tuple[str, str], str] = field(default_factory=dict)

    def recipe(self, world: str, process: str, steps: int, scale: str, **options) -> Recipe:
        """Return a student's recipe before its trials; ValueError for a noise without a definition."""
        check_choice("process", process, self.processes)
        return self.make(world, process, steps, scale, **options)

    def is_defined(self, process: str, steps: int) -> bool:
        """Return whether no reason is known that excludes the method for a noise and a number of steps."""
        return process not in self.why_not and (steps == 1 or not self.why_one_step)

    def trained_for(self, world: str) -> tuple[int, ...]:
        """Return the numbers of sampling steps that students of a world are trained for."""
        return self.steps(settings_of(world))

    def student_for(self, world: str, process: str, steps: int) -> str | None:
        """Return the name of the recipe that takes `steps` steps on a world; None where there is none."""
        has_steps = steps in settings_of(world).student_steps
        if process not in self.processes or not self.is_defined(process, steps) or not has_steps:
            return None
        if self.any_steps:
            trained = self.trained_for(world)
            steps = max((k for k in trained if k <= steps), default=trained[0])
        return f"{world}-{process}-{self.role}-{steps}"


def one_for_all(world: WorldSettings) -> tuple[int, ...]:
    """Return the steps that name the student of a method of any number of steps: 1 on a world whose outcomes
    are known, else 4, at which a checkpoint is chosen where there is validation."""
    return (1,) if world.kind in ("tiny", "listed") else (4,)


def student(
    role: str,
    world: str,
    process: str,
    scale: str,
    settings: Any,
    lr: dict[str, float],
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    floor: float | None = None,
    noise: int = 0,
    variant: str = "",
    rounds: int = 1,
    copies: int = 1,
) -> Recipe:
    """Make a student's recipe: the world's network and teacher, and as much work as D-MMD's.

    On exact worlds the frozen teacher is the exact posterior itself.

    Args:
    settings: the method's settings.
    lr: peak learning rate of each of the method's players.
    floor: minimum probability of the exact posterior; None: that of the world's settings.
    noise: channels of input noise.
    rounds: number of rounds of equal length. Rates fall only in the last one, which alone trains the steps
    the student is for.
    copies: number of evaluations of each sequence of a batch at once; the batch is divided by it.
    """
    from dmmd_lite.objectives import METHODS

    numbers = settings_of(world, process, settings.steps)
    size = numbers.at(scale)
    batch_size = max(1, size.dmmd_batch_size // copies)
    updates = updates_of(role, numbers, size, settings, batch_size)
    training = TrainingOptions(
        updates,
        batch_size,
        lr,
        betas=betas,
        warmup=min(100, updates // rounds // 4) if rounds > 1 else 100,
        decay="linear",
        decay_from=(rounds - 1) / rounds if rounds > 1 else None,
        accumulation=max(1, size.accumulation[1] // copies),
        ema={METHODS[role].student: size.dmmd_ema},
        validate_every=max(1, updates // 4) if numbers.validation else 0,
    )
    start = f"{world}-{process}-teacher"
    return Recipe(
        f"{world}-{process}-{role}-{settings.steps}{variant}",
        scale,
        world,
        process,
        role,
        network={**size.network, "noise": noise, **noise_init(numbers, noise)},
        floor=floor or numbers.floor,
        start=start,
        teacher=f"{world}-{process}-exact" if numbers.exact else start,
        method=settings,
        validation=numbers.validation,
        training=training,
        holds=numbers.holds,
    )


def noise_init(numbers: WorldSettings, inputs: int) -> dict[str, float]:
    """Return how the projection of noise, or of a mixture's lambda, is initialised, where not at zero."""
    return {"noise_std": numbers.noise_std} if inputs and numbers.noise_std else {}


def updates_of(role: str, numbers: WorldSettings, size: ScaleSettings, settings: Any, batch_size: int) -> int:
    """Return the loop steps in which a method evaluates as many sequences as D-MMD does at this size."""
    from dmmd_lite.objectives import METHODS

    budget = size.dmmd_steps * size.dmmd_batch_size * METHODS["dmmd"].forwards(dmmd_settings(numbers, 1))
    return max(1, round(budget / (METHODS[role].forwards(settings) * batch_size)))


def dmmd_settings(numbers: WorldSettings, steps: int, times: str = "bridge") -> Any:
    """Return D-MMD's settings. Tiny worlds alternate updates as published; elsewhere both players learn from
    one draw, which saves three tenths of the work (its effect on quality: the page `open_choices`)."""
    from dmmd_lite.objectives.dmmd import DMMDSettings

    return DMMDSettings(steps, times, updates="alternating" if numbers.kind == "tiny" else "fused")


def adversarial_rates(world: str, process: str, steps: int, scale: str) -> dict[str, float]:
    """Return the peak learning rates of generator and auxiliary. For one-step students from uniform noise on
    tiny worlds the auxiliary's rate is tripled."""
    numbers = settings_of(world, process, steps)
    generator, auxiliary = numbers.at(scale).dmmd_lr
    factor = 3 if numbers.kind == "tiny" and process == "uniform" and steps == 1 else 1
    return {"generator": generator, "auxiliary": factor * auxiliary}


def adversarial(role: str, settings: Any, world: str, process: str, scale: str, **options) -> Recipe:
    """Make the recipe of a relative of D-MMD, with D-MMD's rates and order of updates. Adam has the averages
    of the method's paper."""
    numbers = settings_of(world, process, settings.steps)
    settings = replace(settings, updates=dmmd_settings(numbers, settings.steps).updates)
    lr = adversarial_rates(world, process, settings.steps, scale)
    return student(role, world, process, scale, settings, lr, betas=(0.9, 0.999), **options)


def in_rounds(
    role: str, settings: Any, rounds: int, world: str, process: str, scale: str, floor: float
) -> Recipe:
    """Make the recipe of a student that learns in a number of rounds of equal length."""
    numbers = settings_of(world, process, settings.steps)
    size = numbers.at(scale)
    updates = max(1, updates_of(role, numbers, size, settings, size.dmmd_batch_size) // rounds)
    settings, lr = replace(settings, round_updates=updates), {"student": size.dmmd_lr[0]}
    return student(role, world, process, scale, settings, lr, floor=floor, rounds=rounds)
