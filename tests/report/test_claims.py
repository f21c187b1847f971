"""What the book claims, compared with the committed records, for every training seed.

What holds for some seeds only is no claim; pages print it seed by seed.
"""

import pytest

from dmmd_lite.recipes.students import PLANS, student_for
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.report.cells import over_draws
from dmmd_lite.report.claims import diverges, falls_with_fewer_steps, noise_input
from dmmd_lite.studies.comparison import teacher as teacher_of
from dmmd_lite.studies.theory.limits import one_step_sdtt
from dmmd_lite.utils.records import load_results, select
from dmmd_lite.worlds import get_world

OTHER_METHODS = [role for role in PLANS if role != "dmmd"]
NEAREST = [(world, steps) for world in ("digits", "permutations") for steps in (1, 4, 16)]
NEAREST += [("markov", steps) for steps in (1, 4)]


def values(page: str, metric: str, model: str, steps: int) -> list[float]:
    """Values of a metric in a page's committed records, one for each training seed, means over draws."""
    found = select(load_results(page), name=metric, model=model, steps=steps)
    return [r.value for r in over_draws(found)]


def only(page: str, metric: str, model: str, steps: int) -> float:
    """The one value of a model that was trained once."""
    (value,) = values(page, metric, model, steps)
    return value


def digits(metric: str, model: str, steps: int) -> list[float]:
    return values("table1_steps_images", metric, f"digits-{model}", steps)


@pytest.mark.parametrize("process", ["uniform", "masked"])
@pytest.mark.parametrize("steps", [4, 8, 16])
def test_students_beat_their_teacher_at_equal_steps(process, steps):
    (teacher,) = digits("frechet", f"{process}-teacher", steps)
    students = digits("frechet", f"{process}-dmmd-{steps}", steps)
    assert len(students) == 3
    assert max(students) < teacher


@pytest.mark.parametrize("process", ["uniform", "masked"])
def test_students_of_sixteen_steps_are_below_their_teacher_at_256(process):
    (teacher,) = digits("frechet", f"{process}-teacher", 256)
    assert max(digits("frechet", f"{process}-dmmd-16", 16)) < teacher


@pytest.mark.parametrize("process", ["uniform", "masked"])
def test_students_of_glyphs_are_below_their_teacher_at_sixteen_times_the_steps(process):
    """Where nothing can be copied: every training image is new."""
    (teacher,) = values("table1_steps_images", "frechet", f"glyphs-{process}-teacher", 256)
    students = values("table1_steps_images", "frechet", f"glyphs-{process}-dmmd-16", 16)
    assert len(students) == 3 and max(students) < teacher
    (covered,) = values("table1_steps_images", "coverage", f"glyphs-{process}-teacher", 256)
    assert min(values("table1_steps_images", "coverage", f"glyphs-{process}-dmmd-16", 16)) >= 0.9 * covered


@pytest.mark.parametrize("process", ["uniform", "masked"])
def test_students_of_eight_steps_lose_a_sixth_of_the_excess_distance(process):
    (teacher,), (floor,) = (digits(name, f"{process}-teacher", 8) for name in ("frechet", "frechet_floor"))
    assert max(digits("frechet", f"{process}-dmmd-8", 8)) - floor <= 5 / 6 * (teacher - floor)


def test_masked_students_of_four_steps_are_better_with_noise_input():
    with_noise = digits("frechet", "masked-dmmd-4", 4)
    without = digits("frechet", "masked-dmmd-4-nonoise", 4)
    assert len(with_noise) == len(without) == 3
    assert max(with_noise) < min(without)


@pytest.mark.parametrize(
    ("process", "steps"), [("uniform", 8), ("uniform", 16), ("masked", 8), ("masked", 16)]
)
def test_students_cover_nine_tenths_of_what_their_teacher_does(process, steps):
    (teacher,) = digits("coverage", f"{process}-teacher", 256)
    assert min(digits("coverage", f"{process}-dmmd-{steps}", steps)) >= 0.9 * teacher


def test_coins_in_one_step():
    with_noise = values("coins", "total_variation", "coins-masked-dmmd-1", 1)
    assert len(with_noise) == 5
    assert max(with_noise) <= 0.10 and sum(with_noise) / 5 <= 0.05
    without = values("coins", "total_variation", "coins-masked-dmmd-1-nonoise", 1)
    assert len(without) == 5
    assert min(without) >= 0.349  # no product law is closer


def one_step_on_coins(model: str, metric: str = "total_variation") -> list[float]:
    found = values("leaderboard", metric, f"coins-{model}-1", 1)
    assert len(found) == 5
    return found


def test_dmmd_makes_coins_from_uniform_noise_in_one_step():
    assert max(one_step_on_coins("uniform-dmmd")) <= 0.10


@pytest.mark.parametrize("model", ["masked-sdtt", "masked-idlm"])
def test_reverse_kl_and_idlm_lose_a_face_under_masked_noise(model):
    """Without tails-tails the distance is 0.4 less what little of it is left."""
    assert min(one_step_on_coins(model)) > 0.38


def test_discrete_consistency_is_far_off_in_one_step():
    assert min(one_step_on_coins("uniform-dcd")) > 0.35


@pytest.mark.parametrize("process", ["masked", "uniform"])
def test_rectified_students_keep_impossible_pairs_in_one_step(process):
    assert min(one_step_on_coins(f"{process}-redi", "invalid_mass")) > 0.25


@pytest.mark.parametrize("process", ["masked", "uniform"])
def test_mixtures_show_both_faces_and_hardly_anything_else_in_one_step(process):
    assert max(one_step_on_coins(f"{process}-di4c", "invalid_mass")) < 0.01
    assert max(one_step_on_coins(f"{process}-di4c")) < 0.15


def on_board(world: str, role: str, process: str, steps: int) -> list[float]:
    """What decides on a world, of a method's students, one a training seed; or of the teacher."""
    name = teacher_of(world, process) if role == "teacher" else student_for(role, world, process, steps)
    return values("leaderboard", settings_of(world).judged_by[0], name, steps) if name else []


@pytest.mark.parametrize("process", ["masked", "uniform"])
@pytest.mark.parametrize("world, steps", NEAREST)
def test_dmmd_is_the_nearest(world, process, steps):
    """Every seed nearer than every seed of every other method, and than the teacher at as many steps."""
    dmmd = on_board(world, "dmmd", process, steps)
    others = {role: on_board(world, role, process, steps) for role in OTHER_METHODS}
    defined = {role for role in OTHER_METHODS if student_for(role, world, process, steps)}
    assert {role: len(found) for role, found in others.items() if found} == dict.fromkeys(defined, 3)
    assert len(dmmd) == 3
    others["teacher"] = on_board(world, "teacher", process, steps)
    assert max(dmmd) < min(value for found in others.values() for value in found)


BOTH = ("masked", "uniform")
BETTER = [  # than the teacher at as many steps, every training seed
    ("permutations", "redi", BOTH, (1, 4, 16)), ("permutations", "idlm", ("uniform",), (1, 4)),
    ("markov", "redi", BOTH, (1,)), ("markov", "redi", ("uniform",), (4,)),
    ("digits", "di4c", BOTH, (1,)), ("digits", "di4c", ("masked",), (4,)),
    ("digits", "redi", BOTH, (1,)), ("digits", "redi", ("masked",), (4,)),
    ("digits", "sdtt", ("masked",), (4,)),
]  # fmt: skip
WORSE = [
    ("permutations", "dcd", ("uniform",), (1, 4, 16)), ("markov", "dimo", ("masked",), (1,)),
    ("markov", "idlm", BOTH, (1, 4, 16)), ("markov", "dcd", ("uniform",), (1, 4, 16)),
    ("markov", "redi", ("masked",), (4,)), ("markov", "redi", BOTH, (16,)),
    ("markov", "di4c", ("uniform",), (4, 16)), ("digits", "idlm", BOTH, (4, 16)),
    ("digits", "redi", ("uniform",), (16,)),
]  # fmt: skip


@pytest.mark.parametrize("comparison", [(1, *c) for c in BETTER] + [(-1, *c) for c in WORSE], ids=str)
def test_methods_against_their_teachers(comparison):
    sign, world, role, processes, numbers = comparison
    for process in processes:
        for steps in numbers:
            (teacher,) = on_board(world, "teacher", process, steps)
            students = on_board(world, role, process, steps)
            assert len(students) == 3
            assert all(sign * (teacher - value) > 0 for value in students), (process, steps)


def test_on_permutations_four_methods_end_at_their_teacher():
    for process, roles in {"masked": ("sdtt", "idlm", "di4c"), "uniform": ("di4c",)}.items():
        for steps in (1, 4, 16):
            (teacher,) = on_board("permutations", "teacher", process, steps)
            found = [value for role in roles for value in on_board("permutations", role, process, steps)]
            assert len(found) == 3 * len(roles)
            assert found == pytest.approx([teacher] * len(found), abs=0.015)


@pytest.mark.parametrize("process", ["masked", "uniform"])
def test_in_one_step_on_digits_dmmd_is_alone(process):
    """The next is more than twice as far away, and covers less than half of the held-out images."""
    others = [role for role in OTHER_METHODS if student_for(role, "digits", process, 1)]
    near = max(on_board("digits", "dmmd", process, 1))
    assert 2 * near < min(v for role in others for v in on_board("digits", role, process, 1))
    for role in ("dmmd", *others):
        covered = values("leaderboard", "coverage", student_for(role, "digits", process, 1), 1)
        assert len(covered) == 3
        assert min(covered) > 0.5 if role == "dmmd" else max(covered) < 0.5


@pytest.mark.parametrize("process", ["masked", "uniform"])
def test_no_dmmd_sample_is_likelier_than_the_chains_own(process):
    chain = get_world("markov")
    for steps in (1, 4, 16):
        name = student_for("dmmd", "markov", process, steps)
        found = values("leaderboard", "log_likelihood", name, steps)
        assert len(found) == 3 and max(found) <= -chain.entropy() / chain.length


def at_the_end(role: str, process: str, steps: int) -> list[float]:
    """Fréchet distances of digits students at their last checkpoints."""
    mine = {"name": "frechet", "model": student_for(role, "digits", process, steps), "steps": steps}
    return [r.value for r in select(load_results("collapse"), changes="training.validate_every = 0", **mine)]


def test_progressive_methods_end_behind_their_teachers_on_digits_and_dmmd_does_not():
    behind = [("sdtt", "masked", 1), ("sdtt", "masked", 4), ("dcd", "uniform", 1), ("dcd", "uniform", 4)]
    behind += [("redi", "masked", 4), ("redi", "uniform", 4)]
    for role, process, steps in behind:
        (teacher,) = on_board("digits", "teacher", process, steps)
        found = at_the_end(role, process, steps)
        assert len(found) == 3
        assert min(found) > teacher * (2 if (role, steps) == ("dcd", 1) else 1)
    for process in BOTH:
        for steps in (1, 4, 16):
            (teacher,) = on_board("digits", "teacher", process, steps)
            dmmd = at_the_end("dmmd", process, steps)
            others = [at_the_end(role, process, steps) for role in ("sdtt", "dcd", "redi")]
            assert len(dmmd) == 3
            assert max(dmmd) < min([teacher, *(value for found in others for value in found)])


@pytest.mark.parametrize(("process", "seeds"), [("masked", 2), ("uniform", 3)])
def test_one_dmmd_step_is_nearer_to_real_digits_than_sixteen_of_the_teacher(process, seeds):
    (sixteen,) = on_board("digits", "teacher", process, 16)
    assert sum(value < sixteen for value in on_board("digits", "dmmd", process, 1)) == seeds


@pytest.mark.parametrize("process", ["masked", "uniform"])
def test_no_student_of_sixteen_steps_is_nearer_to_the_chain_than_the_exact_teacher(process):
    (exact,) = on_board("markov", "teacher", process, 16)
    found = [on_board("markov", role, process, 16) for role in ("dmmd", *OTHER_METHODS)]
    assert min(value for of_role in found for value in of_role) > exact


def test_masked_idlm_loses_classes_of_digits_at_any_number_of_steps():
    """Total variation between its classes and those of held-out images; the teacher's in four steps."""
    teacher = only("leaderboard", "class_histogram", "digits-masked-teacher", 4)
    for steps in (1, 4, 16):
        assert min(values("leaderboard", "class_histogram", "digits-masked-idlm-4", steps)) > teacher + 0.1


def test_one_round_of_sdtt_ends_where_its_clamp_says():
    """Within 0.02 of the probability of heads at which the loss is least, by direct minimisation."""
    records = [r for r in load_results("collapse") if "divergence" in r.details]
    assert {r.details["clamp"] for r in records} == {1e-3, 1e-6, 1e-10, 1e-20}
    assert len({r.provenance["training_seed"] for r in records}) == 5
    for r in records:
        clamp, divergence = r.details["clamp"], r.details["divergence"]
        least = float(one_step_sdtt(get_world("coins"), clamp, divergence)[0, 0])
        assert r.details["heads"] == pytest.approx([least, least], abs=0.02)


def test_the_exact_text_teacher_errs_less_with_more_steps():
    for process in ("masked", "uniform"):
        errors = [
            only("exact_text", "ngram_divergence", f"markov-{process}-exact", k) for k in (4, 8, 16, 32)
        ]
        assert errors == sorted(errors, reverse=True)


def test_the_exact_text_student_halves_the_excess_of_the_exact_teacher():
    """Trigram divergence above the floor of equally many exact samples, in 8 steps, five training seeds."""
    records = [r for r in load_results("exact_text") if r.name == "ngram_divergence" and r.steps == 8]

    def excess(model):
        return [r.value - r.details["floor"] for r in records if r.model == model]

    (teacher,), students = excess("markov-masked-exact"), excess("markov-masked-dmmd-8")
    assert len(students) == 5 and min(r.n for r in records) >= 10_000
    assert max(students) <= 0.5 * teacher


def test_perplexity_keeps_falling_where_the_gradient_moment_turns():
    """Figure 3: sharper sampling always lowers perplexity; the gradient moment has its least inside."""
    records = load_results("fig3_perplexity_vs_gradient_moment")
    for knob, other in (("temperature", "top_p"), ("top_p", "temperature")):

        def along(metric, knob=knob, other=other):
            mine = [r for r in records if r.name == metric and getattr(r, other) == 1]
            return sorted(mine, key=lambda r: getattr(r, knob))

        perplexities = [r.value for r in along("perplexity")]
        assert len(perplexities) >= 5 and perplexities == sorted(perplexities)
        curve = along("gradient_moment")
        least = min(curve, key=lambda r: r.value)
        assert curve[0].low > least.high and curve[-1].low > least.high


def test_masked_text_students_of_a_sharpened_teacher_beat_it_at_equal_steps():
    """Gradient moment at each model's own top-p."""
    records = [r for r in load_results("fig1_steps_text") if r.name == "gradient_moment"]
    records = [r for r in records if r.details["split"] == "test" and r.steps == 16]
    (teacher,) = [r for r in records if r.model == "docstrings-masked-teacher"]
    students = [r for r in records if r.model == "docstrings-masked-dmmd-16-p85"]
    assert len(students) == 3
    assert max(r.high for r in students) < teacher.low


def test_uniform_text_students_beat_their_teacher_at_twice_the_steps():
    """Gradient moment at each model's own top-p."""
    records = [r for r in load_results("fig1_steps_text") if r.name == "gradient_moment"]
    records = [r for r in records if r.details["split"] == "test"]
    (teacher,) = [r for r in records if (r.model, r.steps) == ("docstrings-uniform-teacher", 32)]
    students = [r for r in records if r.model == "docstrings-uniform-dmmd-16"]
    assert len(students) == 3
    assert max(r.high for r in students) < teacher.low


def test_the_block_student_keeps_up_with_its_teacher_at_four_times_the_steps():
    """One training seed: guards the committed records, and is no claim of the book."""
    records = [r for r in load_results("table3_block_autoregressive") if r.name == "gradient_moment"]
    (teacher,) = [r for r in records if "teacher" in r.model and r.steps == 64]
    (student,) = [r for r in records if "dmmd-16" in r.model and r.steps == 16]
    assert student.high <= 1.1 * teacher.value


def test_a_hard_exclusion_diverges_under_both_noises():
    found = {f.where: f for f in diverges("frechet")(load_results("fig6_teacher_top_p"))}
    assert {where.split("-")[0] for where in found} == {"digits", "glyphs"} and len(found) == 4
    assert all(f.agree == f.seeds for f in found.values())
    assert all(f.seeds == 3 for where, f in found.items() if where.startswith("digits"))


def test_noise_input_and_few_steps_make_the_output_surer():
    """Masked students of four steps with and without noise; one step against sixteen, both noises."""
    records = load_results("table6_noise_input")
    found = {f.where: f for f in noise_input("output_entropy")(records)}
    assert found["digits-masked-dmmd-4, 4 steps"].apart == 3
    findings = falls_with_fewer_steps("output_entropy")(records)
    findings = [f for f in findings if f.where.startswith("digits")]
    assert len(findings) == 2 and all(f.apart == f.seeds == 3 for f in findings)
