"""Large vocabularies: cutting log_x into chunks changes neither losses, gradients nor samples, and keeps a
training step below one tensor [B, L, V]."""

import weakref

import pytest
import torch
from helpers import Table, every_process, tiny_network, wake
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dmmd_lite.denoisers import prediction
from dmmd_lite.denoisers.base import OUTPUTS, NetworkDenoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.networks.transformer import BlockTransformer, Transformer
from dmmd_lite.objectives.denoising import DenoisingObjective
from dmmd_lite.objectives.dmmd import DMMD, DMMDSettings
from dmmd_lite.objectives.likelihood_bound import bound_at
from dmmd_lite.processes import get_process
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.sampling import sample
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds import get_world

V, L, BATCH = 5, 12, 6
STEMS = {
    "sequence": {"noise": 2},
    "image": {"image_shape": (2, 6, 1), "patch": 2, "noise": 1},
}
every_stem = pytest.mark.parametrize("stem", STEMS)
SWITCHES = [
    ("masked", {}),
    ("masked", {"target": "soft", "weight": "mean"}),
    ("masked", {"temperature": 0.7, "top_p": 0.8, "reverse": "forward"}),
    ("uniform", {"anchor": False}),
    ("uniform", {"form": "reverse_kernel", "weight": "bound"}),
]


class Logits(torch.nn.Module):
    """A foreign module with logits only, which mix positions."""

    def __init__(self, network):
        super().__init__()
        self.network, self.hidden = network, 7  # this is not the method `hidden` of a SplitNetwork

    def forward(self, z, t):
        return self.network(z, t)


def denoiser(process, rng, stem, output="posterior"):
    """A network whose every weight matters."""
    network = tiny_network(process, L, rng, **STEMS[stem])
    torch.nn.init.normal_(network.noise_projection.weight, std=0.1)
    return NetworkDenoiser(network, process, output)


def losses_and_gradients(method, step=0, autocast=False):
    """Return all terms of a step and the gradients of all players, for fixed random numbers."""
    x = torch.randint(V, (BATCH, L), generator=generator_for("cpu", 3))
    for player in method.players.values():
        player.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = method.losses(step, x, generator_for("cpu", 4))
    sum(value for parts in terms.values() for value in parts.values()).backward()
    terms = {f"{player}/{name}": value for player, parts in terms.items() for name, value in parts.items()}
    gradients = {
        f"{player}/{name}": p.grad.clone()
        for player, module in method.players.items()
        for name, p in module.named_parameters()
        if p.grad is not None
    }
    return terms, gradients


def assert_chunks_change_nothing(method, monkeypatch, step=0, autocast=False):
    """Compare to 1e-5 of the largest loss term and of the largest gradient: the order of sums differs."""
    assert BATCH * L * V <= prediction.MAX_ELEMENTS
    whole = losses_and_gradients(method, step, autocast)
    monkeypatch.setattr(prediction, "MAX_ELEMENTS", 10 * V)
    cut = losses_and_gradients(method, step, autocast)
    assert whole[1]
    for ours, theirs in zip(cut, whole, strict=True):
        largest = max(v.abs().max().item() for v in theirs.values())
        tolerance = {"rtol": 0.05, "atol": 0.01} if autocast else {"rtol": 1e-5, "atol": 1e-5 * largest}
        torch.testing.assert_close(ours, theirs, **tolerance)


@every_stem
@pytest.mark.parametrize("process_name, switches", SWITCHES)
@pytest.mark.parametrize("updates, step", [("fused", 0), ("alternating", 0), ("alternating", 1)])
def test_distillation_in_chunks_is_distillation(
    process_name, switches, updates, step, stem, rng, monkeypatch
):
    process = get_process(process_name, V)
    models = [denoiser(process, rng, stem, output) for output in ("posterior", "leave_one_out", "posterior")]
    method = DMMD(*models, process, DMMDSettings(2, updates=updates, **switches))
    assert_chunks_change_nothing(method, monkeypatch, step)
    assert all(p.grad is None for p in models[2].parameters())


@every_stem
@every_process
@pytest.mark.parametrize("loss", ["cross_entropy", "bound", "exact"])
def test_teachers_in_chunks_are_teachers(process_name, loss, stem, rng, monkeypatch):
    process = get_process(process_name, V)
    options = {"exact": denoiser(process, rng, stem)} if loss == "exact" else {"loss": loss}
    method = DenoisingObjective(denoiser(process, rng, stem), process, **options)
    assert_chunks_change_nothing(method, monkeypatch)


@every_stem
@every_process
def test_gradients_of_chunks_follow_the_loss(process_name, stem, rng, monkeypatch):
    """Half the loss has half the gradient, and a batch has the mean of the gradients of its two halves."""
    process = get_process(process_name, V)
    monkeypatch.setattr(prediction, "MAX_ELEMENTS", 10 * V)
    method = DenoisingObjective(denoiser(process, rng, stem), process)
    network = method.players["denoiser"].network
    x, seen = torch.randint(V, (2, BATCH, L), generator=rng), []
    for parts in ([0], [1], [0, 1]):
        network.zero_grad()
        for part in parts:
            loss = method.losses(0, x[part], generator_for("cpu", part))["denoiser"]["cross_entropy"]
            (loss / len(parts)).backward()
        seen.append([p.grad.clone() for p in network.parameters()])
    for first, second, both in zip(*seen, strict=True):
        torch.testing.assert_close(both, (first + second) / 2, rtol=1e-5, atol=1e-6)


@every_process
def test_terms_of_chunks_are_one_loss(process_name, rng, monkeypatch):
    """Only the sum of the terms has a gradient; any other combination is an error."""
    process = get_process(process_name, V)
    monkeypatch.setattr(prediction, "MAX_ELEMENTS", 10 * V)
    method = DMMD(
        *(denoiser(process, rng, "sequence") for _ in range(3)), process, DMMDSettings(2, updates="fused")
    )
    x = torch.randint(V, (BATCH, L), generator=rng)
    terms = method.losses(0, x, rng)["auxiliary"]
    with pytest.raises(RuntimeError, match="only the sum of all values of chunks has a gradient"):
        (terms["student"] + 2 * terms["anchor"]).backward()
    terms = [value for parts in method.losses(0, x, rng).values() for value in parts.values()]
    sum(terms).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="it can be used once"):
        sum(terms).backward()


@every_process
@pytest.mark.parametrize(
    "updates, step, read", [("fused", 0, 3), ("alternating", 0, 3), ("alternating", 1, 2)]
)
def test_heads_are_evaluated_no_more_often_than_whole_ones(
    process_name, updates, step, read, rng, monkeypatch
):
    """A step evaluates heads once for the samples, once for each prediction that the loss reads, and never in
    the backward pass. The auxiliary's turn does not read the student's prediction."""
    process, counted = get_process(process_name, V), []
    models = [denoiser(process, rng, "sequence") for _ in range(3)]
    for model in models:
        head = model.network.stem.head
        head.register_forward_hook(lambda _, inputs, out: counted.append(out[..., 0].numel()))
    method = DMMD(*models, process, DMMDSettings(2, updates=updates))
    monkeypatch.setattr(prediction, "MAX_ELEMENTS", 10 * V)
    drawn = []
    draw = method.draw
    monkeypatch.setattr(method, "draw", lambda *a: drawn.append(draw(*a)) or drawn[0])
    losses_and_gradients(method, step)
    z_t, noisy = drawn[0].log_x.z, process.loss_mask(drawn[0].z_s).sum()
    assert sum(counted) == process.loss_mask(z_t).sum() + read * noisy


@every_process
def test_modules_of_logits_and_stems_may_be_mixed(process_name, rng, monkeypatch):
    """The image student needs whole sequences together, so all predictions are split by sequences."""
    process = get_process(process_name, V)
    models = [denoiser(process, rng, "image"), denoiser(process, rng, "sequence")]
    foreign = NetworkDenoiser(Logits(tiny_network(process, L, rng)), process)
    assert_chunks_change_nothing(
        DMMD(*models, foreign, process, DMMDSettings(2, updates="fused")), monkeypatch
    )


@every_process
def test_blocks_are_cut_by_sequences(process_name, rng, monkeypatch):
    """Positions before the block are known by their index, so positions cannot be separated."""
    process = BlockAutoregressive(get_process(process_name, V), 4)
    networks = [
        wake(BlockTransformer(process.num_symbols, V, 4, width=16, depth=1, heads=2), rng) for _ in range(3)
    ]
    models = [NetworkDenoiser(network, process) for network in networks]
    assert_chunks_change_nothing(DMMD(*models, process, DMMDSettings(2, updates="fused")), monkeypatch)
    monkeypatch.undo()
    assert_chunks_change_nothing(DenoisingObjective(models[0], process, "bound"), monkeypatch)


@pytest.mark.parametrize("stem", STEMS)
def test_the_head_learns_under_autocast(stem, rng, monkeypatch):
    """Autocast caches casts of weights, and a cast made without gradient would detach the head."""
    process = get_process("uniform", V)
    models = [denoiser(process, rng, stem) for _ in range(3)]
    method = DMMD(*models, process, DMMDSettings(2, updates="fused"))
    assert_chunks_change_nothing(method, monkeypatch, autocast=True)


def test_nothing_to_score_is_no_loss(rng, monkeypatch):
    """At the earliest times nothing is masked, so the sums are empty."""
    process = get_process("masked", V)
    monkeypatch.setattr(prediction, "MAX_ELEMENTS", 10 * V)
    model, x = denoiser(process, rng, "sequence"), torch.zeros(BATCH, L, dtype=torch.long)
    assert not bound_at(model, process, x, torch.full((BATCH,), 1e-12), rng).any()


@every_stem
@every_process
@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 0.7)])
def test_the_sampler_draws_the_same_tokens(process_name, temperature, top_p, stem, rng, monkeypatch):
    process = get_process(process_name, V)
    model, options = denoiser(process, rng, stem), {"temperature": temperature, "top_p": top_p}
    tokens = []
    for elements in (prediction.MAX_ELEMENTS, 10 * V):
        monkeypatch.setattr(prediction, "MAX_ELEMENTS", elements)
        drawn = sample(model, process, 20, L, 4, generator=generator_for("cpu", 5), **options)
        tokens.append(drawn.tokens)
    assert torch.equal(*tokens) and len(tokens[0].unique()) > 2


@every_stem
@every_process
@pytest.mark.parametrize("output", OUTPUTS)
def test_weights_draw_the_same_tokens_as_log_probabilities(process_name, output, stem, rng, monkeypatch):
    """The path for many classes is forced for few classes."""
    process = get_process(process_name, V)
    model = denoiser(process, rng, stem)
    model.output, tokens = output, []
    for many in (prediction.TWO_STAGE_CLASSES, 1):
        monkeypatch.setattr(prediction, "TWO_STAGE_CLASSES", many)
        tokens.append(sample(model, process, 20, L, 4, generator=generator_for("cpu", 5)).tokens)
    assert torch.equal(*tokens) and len(tokens[0].unique()) > 2


@every_process
def test_the_sampler_cuts_any_denoiser(process_name, rng, monkeypatch):
    """The sampler splits an exact denoiser and one that defines only `forward`."""
    process, world = get_process(process_name, 2), get_world("coins")
    for model in (ExactDenoiser(world, process), Table(process, 2, rng)):
        first = sample(model, process, 50, 2, 3, generator=generator_for("cpu", 5)).tokens
        monkeypatch.setattr(prediction, "MAX_ELEMENTS", 4)
        assert torch.equal(sample(model, process, 50, 2, 3, generator=generator_for("cpu", 5)).tokens, first)
        monkeypatch.undo()


# --- memory -----------------------------------------------------------------------------------------------


class Ledger(TorchDispatchMode):
    """The bytes of living storages of at least `smallest` bytes, and their maximum so far."""

    def __init__(self, smallest):
        super().__init__()
        self.smallest, self.known, self.alive, self.peak = smallest, {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage):
        size, key = storage.nbytes(), storage._cdata
        if size >= self.smallest and key not in self.known:
            self.known[key] = weakref.finalize(storage, self._forget, key, size)
            self.alive += size
            self.peak = max(self.peak, self.alive)

    def _forget(self, key, size):
        del self.known[key]
        self.alive -= size


LARGE = 50_257


def large(process):
    """Make a denoiser whose head, of four weights per class, is smaller than what the ledger counts."""
    network = Transformer(process.num_symbols, LARGE, 64, width=4, depth=1, heads=2, time_width=4)
    return NetworkDenoiser(wake(network, generator_for("cpu", 2)), process)


def peak_in_whole_tensors(method, batch, length):
    """Measure the maximum of memory in a step with its backward pass, over that of [B, L, V] in float32."""
    x = torch.randint(LARGE, (batch, length), generator=generator_for("cpu", 0))
    with Ledger(smallest=40 * LARGE) as ledger:
        terms = method.losses(0, x, generator_for("cpu", 1))
        sum(value for parts in terms.values() for value in parts.values()).backward()
    return ledger.peak / (4 * batch * length * LARGE)


@every_process
def test_a_fused_step_stays_below_one_whole_tensor(process_name):
    process = get_process(process_name, LARGE)
    method = DMMD(*(large(process) for _ in range(3)), process, DMMDSettings(4, updates="fused"))
    assert peak_in_whole_tensors(method, 8, 48) < 1


@every_process
def test_a_teacher_step_stays_below_one_whole_tensor(process_name, monkeypatch):
    """Without chunks a step holds several whole tensors, and the ledger sees them."""
    process = get_process(process_name, LARGE)
    method = DenoisingObjective(large(process), process)
    assert peak_in_whole_tensors(method, 8, 48) < 1
    monkeypatch.setattr(prediction, "MAX_ELEMENTS", 2**62)
    assert peak_in_whole_tensors(method, 2, 64) > 2
