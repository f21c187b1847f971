"""Block-autoregressive diffusion: only the block carries noise, samples have the right distribution,
every network sees the same known beginning, and models are trained, resumed and sampled."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import LEAST_P, chi_square_p, count, every_process, frequencies, sequences, wake
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.metrics.entropy import output_entropy
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import cached_folder, load_model, train_recipe
from dmmd_lite.networks.transformer import BlockTransformer
from dmmd_lite.objectives.denoising import LOSSES, DenoisingObjective
from dmmd_lite.objectives.dmmd import DMMD, DMMDSettings
from dmmd_lite.objectives.likelihood_bound import likelihood_bound
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.cost import cost, forward_flop
from dmmd_lite.sampling import sample
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.docstrings import Docstrings
from dmmd_lite.worlds.markov import Markov

V, SIZE = 3, 2
every_beginning = pytest.mark.parametrize("known", [0, SIZE, 2 * SIZE])


def blocked(process_name, size=SIZE):
    """Make a process and the same process in blocks."""
    process = get_process(process_name, V)
    return process, BlockAutoregressive(process, size)


def network(process, rng, **options):
    """Make an awake network for blocks, the same for the same random numbers."""
    torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
    sizes = {"width": 16, "depth": 2, "heads": 2, "time_width": 8, "encoder_depth": 2, **options}
    return wake(BlockTransformer(process.num_symbols, V, SIZE, **sizes), rng)


def random_chain(rng, length=4):
    table = torch.rand(V, V, generator=rng, dtype=torch.float64) ** 3 + 0.02
    return Markov(length, table / table.sum(-1, keepdim=True))


# --- noise ------------------------------------------------------------------------------------------------


@every_process
@every_beginning
def test_the_block_is_what_the_inner_process_makes_it(process_name, known, rng):
    inner, process = blocked(process_name)
    x, other = torch.randint(V, (2, 200, known + SIZE), generator=rng)
    s, t = torch.full((200,), 0.3), torch.full((200,), 0.9)

    def both(method, *arguments):
        """Call a method on the whole sequence, and on the block alone with the same random numbers."""
        short = [a[:, known:] if a.dim() > 1 else a for a in arguments]
        draws = [[generator_for("cpu", 5)] if method in ("corrupt", "step") else [] for _ in range(2)]
        whole = getattr(process, method)(*arguments, *draws[0])
        block = getattr(inner, method)(*short, *draws[1])
        assert torch.equal(whole[:, known:], block)
        return whole

    z = both("corrupt", x, t)
    assert torch.equal(z[:, :known], x[:, :known]) and not torch.equal(z, x)
    assert torch.equal(both("step", z, other, s, t)[:, :known], x[:, :known])
    assert not both("loss_mask", z)[:, :known].any()
    certain = one_hot(x[:, :known], V)
    log_x = torch.randn(200, known + SIZE, V, generator=rng).log_softmax(-1)
    assert torch.equal(both("carry_over", log_x, z)[:, :known], (1 - certain) * LOG_ZERO)
    assert torch.equal(both("likelihood", z, t)[:, :known], certain.float())


@every_process
def test_training_ends_with_every_block_equally_often(process_name, rng):
    _, process = blocked(process_name)
    x = torch.arange(8)[None]
    ends = torch.tensor([process.cut(x, rng).shape[1] for _ in range(2000)])
    assert set(ends.tolist()) == {2, 4, 6, 8}
    assert chi_square_p(count(ends[None] // SIZE - 1, 4), torch.full((1, 4), 0.25)) > LEAST_P


@pytest.mark.parametrize("length", [0, 1, 3])
def test_lengths_that_are_no_blocks_are_refused(length, rng):
    process = blocked("masked")[1]
    with pytest.raises(ValueError, match=f"length: {length} is not allowed; it must be a"):
        sample(Denoiser(), process, 5, length, 2, generator=rng)
    with pytest.raises(ValueError, match=f"length: {length} is not allowed; .* multiple of block 2"):
        process.loss_mask(torch.zeros(1, length, dtype=torch.long))


@pytest.mark.parametrize("size", [0, -2, 1.5])
def test_impossible_blocks_are_refused(size):
    with pytest.raises(ValueError, match=f"size: {size} is not allowed"):
        BlockAutoregressive(get_process("masked", V), size)
    with pytest.raises(ValueError, match=f"block: {size} is not allowed"):
        BlockTransformer(V, V, size)


# --- the distribution of samples, with the exact posterior of a chain as the denoiser ---------------------


@every_process
@pytest.mark.parametrize("size, steps", [(1, 1), (1, 3), (2, 1), (2, 64)])
def test_blocks_make_up_the_law_of_the_chain(process_name, size, steps, rng):
    """Single tokens are drawn exactly in any number of steps, pairs in many; in one step the tokens of a pair
    are independent given the pair before."""
    chain, process = random_chain(rng), blocked(process_name, size)[1]
    x, num = sequences(V, 4), 3000
    probs = chain.log_prob(x).exp()
    if (size, steps) == (2, 1):
        pi, first, second = chain.stationary, chain.table, chain.table @ chain.table
        probs = pi[x[:, 0]] * pi[x[:, 1]] * first[x[:, 1], x[:, 2]] * second[x[:, 1], x[:, 3]]
    exact = ExactDenoiser(chain, process, floor=0)
    drawn = sample(exact, process, num, 4, steps, generator=rng)
    assert chi_square_p(frequencies(drawn.tokens, V)[None], probs) > LEAST_P


@every_process
def test_bound_is_the_sum_over_blocks(process_name, rng):
    chain, process = random_chain(rng), blocked(process_name)[1]
    exact, x = ExactDenoiser(chain, process, floor=1e-12), chain.sample(4000, rng)
    nats = likelihood_bound(exact, process, x, rng, times=4)
    assert abs(nats.mean() - chain.entropy()) < 5 * nats.std() / len(nats) ** 0.5


@every_process
def test_output_entropy_covers_every_block(process_name, rng):
    """At t = 1 a token's distribution given the blocks before is one or two steps from the known ones."""
    chain, process = random_chain(rng), blocked(process_name)[1]
    x = chain.sample(3000, rng)
    pi, rows = chain.stationary, [chain.table, chain.table @ chain.table]
    entropy = [torch.special.entr(pi).sum()] * 2 + [pi @ torch.special.entr(p).sum(-1) for p in rows]
    record = output_entropy(ExactDenoiser(chain, process), process, x, [1.0], rng)
    assert record.value == pytest.approx(float(sum(entropy)) / 4, rel=0.02)


# --- the sampler --------------------------------------------------------------------------------------------


class Watched(Denoiser):
    """A wrapper of a denoiser that records its inputs."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.seen = denoiser, []

    def forward(self, z, t, noise=None):
        self.seen.append(z.clone())
        return self.denoiser(z, t, noise)


def test_finished_blocks_stay(rng):
    process = blocked("uniform")[1]
    denoiser = Watched(ExactDenoiser(random_chain(rng), process))
    drawn = sample(denoiser, process, 10, 6, 5, generator=rng)
    assert drawn.steps == 5 and sum(map(len, denoiser.seen)) == round(30 * drawn.evaluations) <= 150
    lengths = [z.shape[1] for z in denoiser.seen]
    assert lengths == sorted(lengths) and set(lengths) == {SIZE, 2 * SIZE, 3 * SIZE}
    for z in denoiser.seen:
        before = z[:, :-SIZE]
        assert (before[:, None] == drawn.tokens[:, : before.shape[1]]).all(-1).any(-1).all()


def test_masked_evaluations_are_counted_by_block(rng):
    """A block needs two evaluations, or one if both its tokens are revealed in the same of the 4 steps."""
    process = blocked("masked")[1]
    drawn = sample(ExactDenoiser(random_chain(rng), process), process, 4000, 6, 4, generator=rng)
    assert drawn.evaluations == pytest.approx(1.75, abs=0.03)


@every_process
def test_trajectory_and_progress_of_blocks(process_name, rng):
    process, seen = blocked(process_name)[1], []
    exact = ExactDenoiser(random_chain(rng), process)
    options = {"batch_size": 4, "trajectory": True, "progress": lambda *args: seen.append(args)}
    drawn = sample(exact, process, 10, 6, 5, generator=rng, **options)
    path = drawn.trajectory
    assert path.shape == (6, 10, 6) and torch.equal(path[-1], drawn.tokens)
    assert seen == sorted(seen) and seen[-1] == (45, 45)
    if process_name == "masked":
        assert (path[0] == V).all() and (path[-1] < V).all()


# --- the network --------------------------------------------------------------------------------------------


@every_beginning
def test_logits_are_those_of_the_block(known, rng):
    net = network(blocked("masked")[1], rng, noise=2)
    torch.nn.init.normal_(net.noise_projection.weight)
    z, t = torch.randint(V + 1, (4, known + SIZE), generator=rng), torch.rand(4, generator=rng)
    noise = net.draw_noise(4, rng)
    logits = net(z, t, noise)
    assert noise.shape == (4, SIZE, 2) and logits.shape == (4, known + SIZE, V)
    assert not logits[:, :known].any() and logits[:, known:].std() > 0.01
    assert (net(z, t, 2 * noise) - logits).abs().max() > 0.01
    logits.sum().backward()
    assert all(
        p.grad is not None for p in net.parameters()
    )  # the encoder's too, if there was nothing to read


def test_every_known_token_matters_and_its_place(rng):
    net, t = network(blocked("masked")[1], rng), torch.tensor([0.5])
    z = torch.tensor([[0, 1, 2, 0, 3, 3]])
    logits = net(z, t)[:, 4:]
    for place in range(4):
        changed = z.clone()
        changed[0, place] = (changed[0, place] + 1) % V
        assert (net(changed, t)[:, 4:] - logits).abs().max() > 1e-4
    assert (
        net(z[:, [3, 1, 2, 0, 4, 5]], t)[:, 4:] - net(z[:, [1, 3, 2, 0, 4, 5]], t)[:, 4:]
    ).abs().max() > 1e-4
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-4  # two masks, told apart by their places


def test_the_encoder_is_causal_and_ignores_time(rng):
    net = network(blocked("masked")[1], rng)
    z = torch.randint(V, (3, 6), generator=rng)
    vectors = net.encode(z)
    for place in range(6):
        changed = z.clone()
        changed[:, place] = (changed[:, place] + 1) % V
        moved = (net.encode(changed) - vectors).abs().amax((0, 2)) > 1e-6
        assert not moved[:place].any() and moved[place:].all()
    torch.testing.assert_close(net.encode(z[:, :4]), vectors[:, :4])


def test_an_encoder_of_no_depth_is_refused():
    with pytest.raises(ValueError, match="encoder_depth: 0 is not allowed"):
        BlockTransformer(V, V, SIZE, encoder_depth=0)


# --- losses -------------------------------------------------------------------------------------------------


@every_beginning
def test_losses_count_the_tokens_of_the_block(known, rng):
    """A fresh network is uniform, so cross-entropy is log V for every token of the block, however many there
    are before."""
    process = blocked("uniform")[1]
    fresh = [NetworkDenoiser(BlockTransformer(V, V, SIZE, width=8, heads=2), process) for _ in range(3)]
    x = torch.randint(V, (16, known + SIZE), generator=rng)
    loss = DenoisingObjective(fresh[0], process).losses(0, x, rng)["denoiser"]["cross_entropy"]
    assert float(loss.detach()) == pytest.approx(math.log(V), rel=1e-5)
    for weight in ("one", "mean"):
        terms = DMMD(*fresh, process, DMMDSettings(2, updates="fused", weight=weight)).losses(0, x, rng)
        for value in terms["auxiliary"].values():
            assert float(value.detach()) == pytest.approx(math.log(V), rel=1e-5)


@every_process
@every_beginning
@pytest.mark.parametrize("loss", LOSSES)
def test_teachers_learn_in_blocks(process_name, known, loss, rng):
    process = blocked(process_name)[1]
    denoiser = NetworkDenoiser(network(process, rng), process)
    x = torch.randint(V, (16, known + SIZE), generator=rng)
    DenoisingObjective(denoiser, process, loss).losses(0, x, rng)["denoiser"][loss].backward()
    assert all(p.grad.isfinite().all() for p in denoiser.parameters())
    assert denoiser.network.encoder[0].qkv.weight.grad.any() == (known > 0)


@pytest.mark.parametrize(
    "process_name, switches",
    [
        ("masked", {}),
        ("masked", {"target": "soft", "weight": "mean"}),
        ("uniform", {}),
        ("uniform", {"form": "reverse_kernel", "weight": "bound"}),
    ],
)
def test_the_generator_rests_where_auxiliary_and_teacher_agree(process_name, switches, rng):
    process = blocked(process_name)[1]
    student, other, master = (NetworkDenoiser(network(process, rng), process) for _ in range(3))
    x = torch.randint(V, (64, 3 * SIZE), generator=rng)
    for auxiliary, rests in ((master, True), (other, False)):
        method = DMMD(student, auxiliary, master, process, DMMDSettings(2, **switches))
        draw = method.draw(x, rng)
        assert torch.equal(draw.x[:, :-SIZE], x[:, :-SIZE]) and torch.equal(draw.z_s[:, :-SIZE], x[:, :-SIZE])
        draw = replace(draw, log_x=draw.log_x.whole)
        logs = [denoiser(draw.z_s, draw.s).detach() for denoiser in (master, auxiliary)]
        gradients = torch.autograd.grad(method.generator_terms(draw, *logs)["moment"], student.parameters())
        assert all(g.isfinite().all() for g in gradients)
        assert all((g.abs().max() < 1e-6) for g in gradients) == rests


# --- recipes ------------------------------------------------------------------------------------------------


@pytest.fixture
def letters(monkeypatch, tmp_path):
    """Use random letters in place of the docstrings, and an empty cache."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    stream = torch.randint(27, (2000,), generator=generator_for("cpu", 0), dtype=torch.uint8)
    monkeypatch.setattr(Docstrings, "streams", {split: stream for split in Docstrings.splits})
    monkeypatch.setattr(Docstrings, "provenance", {})


class Stopped(Exception):
    """Stops a run on purpose."""


def test_a_stopped_teacher_goes_on_to_the_same_bits(letters, tmp_path):
    recipe = get_recipe("docstrings-uniform-teacher-block32", "smoke").with_changes(
        {"training.steps": 6, "training.checkpoint_every": 2, "training.validate_every": 1}
    )

    def norm(players):
        return float(sum(p.norm() for p in players["denoiser"].parameters()))

    calls = iter(range(10))

    def stop_in_the_fifth_step(players):
        if next(calls) == 4:
            raise Stopped
        return norm(players)

    with pytest.raises(Stopped):
        train_recipe(recipe, tmp_path / "stopped", validate=stop_in_the_fifth_step)
    weights = [
        train_recipe(recipe, tmp_path / name, validate=norm).with_suffix(".safetensors").read_bytes()
        for name in ("stopped", "whole")
    ]
    assert weights[0] == weights[1]


@every_process
def test_models_in_blocks_are_trained_and_sampled(process_name, letters, tmp_path):
    changes = {"validation": "", "training.steps": 4}
    recipe = get_recipe(f"docstrings-{process_name}-dmmd-4-block32", "smoke", changes)
    teacher = get_recipe(recipe.teacher, "smoke")
    train_recipe(teacher, cached_folder(teacher, 0), validate=lambda players: 0.0)  # a quicker validation
    train_recipe(recipe, tmp_path / "student")
    models = [load_model(name, "smoke") for name in (recipe.teacher, str(tmp_path / "student"))]
    assert [model.default_steps for model in models] == [32, 4]
    for model in models:
        drawn = model.sample(3, 4, temperature=0.9, top_p=0.9)
        assert drawn.tokens.shape == (3, 128) and drawn.tokens.max() < 27 and drawn.evaluations <= 4
        (record,) = evaluate(model, ["sample_entropy"], samples=drawn)
        assert math.isfinite(record.value)


def test_the_cost_of_blocks_counts_what_is_read():
    """Of 4 blocks, 2.5 are read on average, of which all but the last pass through the encoder alone."""
    recipe = get_recipe("docstrings-masked-teacher-block32")
    net = recipe.make_network()
    sequences_seen = recipe.training.steps * recipe.training.batch_size
    spent = cost(recipe)
    assert spent["tokens"] == sequences_seen * 80
    assert spent["parameters"] == sum(p.numel() for p in net.parameters())
    forward = sum(forward_flop(net, 32, context) for context in (0, 32, 64, 96)) / 4
    assert spent["flop"] == 3 * sequences_seen * forward


def test_blocks_are_for_diffusion_only():
    with pytest.raises(ValueError, match="block: 32 is not allowed for process 'ar'; only 0"):
        get_recipe("docstrings-ar-judge", changes={"block": 32}).make_network()
    with pytest.raises(ValueError, match="network: .*encoder_depth.* is not allowed"):
        get_recipe("docstrings-masked-teacher", changes={"network.encoder_depth": 2}).make_network()
