"""Networks: what starts at zero, the order of pixels, relative positions, shapes, sizes."""

import math

import pytest
import torch
from helpers import every_process, tiny_network, wake
from torch.nn.functional import one_hot

from dmmd_lite.networks.stems import ImageStem, SequenceStem
from dmmd_lite.networks.transformer import Transformer, rotate
from dmmd_lite.processes import get_process
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.worlds import get_world

IMAGE = (8, 8, 3)
TINY = {"width": 16, "depth": 2, "heads": 2, "time_width": 8}


def pair(rng, length, image_shape):
    """Make two awake networks of the same weights, without and with noise input."""
    networks = []
    for noise in (0, 2):
        torch.manual_seed(rng.initial_seed())
        network = Transformer(6, 5, length, image_shape=image_shape, noise=noise, **TINY)
        networks.append(wake(network, torch.Generator().manual_seed(rng.initial_seed())))
    return networks


@pytest.mark.parametrize("image_shape", [None, IMAGE])
def test_noise_has_no_effect_until_its_projection_is_trained(image_shape, rng):
    length = 7 if image_shape is None else 8 * 8 * 3
    plain, noisy = pair(rng, length, image_shape)
    z, t = torch.randint(6, (3, length), generator=rng), torch.rand(3, generator=rng)
    noise = noisy.draw_noise(3, rng)
    expected = plain(z, t)
    assert expected.shape == (3, length, 5) and expected.std() > 0.01
    torch.testing.assert_close(noisy(z, t, noise), expected, rtol=0, atol=0)
    torch.nn.init.normal_(noisy.noise_projection.weight)
    assert (noisy(z, t, noise) - expected).abs().max() > 0.01
    assert plain.draw_noise(3, rng) is None


def test_a_fresh_network_gives_uniform_logits_and_needs_its_time(rng):
    network = Transformer(6, 5, 7, **TINY)
    z = torch.randint(6, (2, 7), generator=rng)
    early, late = torch.full((2,), 0.1), torch.full((2,), 0.9)
    assert not network(z, early).any()
    wake(network, rng)
    assert (network(z, early) - network(z, late)).abs().max() > 0.01
    assert (network(z, late) - network(z, late + 1e-3)).abs().max() > 0


def test_pixels_leave_the_image_stem_in_the_order_they_came(rng):
    """With one-hot vectors for symbols and the identity for every layer, logits are the one-hot symbols."""
    shape, V = (4, 6, 3), 5
    stem = ImageStem(V, V, shape, patch=2, width=2 * 2 * 3 * V, noise=0, symbol_width=V)
    with torch.no_grad():
        for p in stem.parameters():
            p.copy_(torch.eye(len(p)) if p.dim() == 2 and p is not stem.position else torch.zeros_like(p))
    z = torch.randint(V, (2, 4 * 6 * 3), generator=rng)
    assert torch.equal(stem.logits(stem(z)), torch.nn.functional.one_hot(z, V).float())


def test_a_patch_holds_neighbouring_pixels(rng):
    """Symbols are ordered row by row, channels last: pixel (2, 5) of an 8 x 8 image is in patch (1, 2)."""
    stem = ImageStem(6, 5, IMAGE, patch=2, width=16, noise=0)
    z = torch.zeros(1, 8 * 8 * 3, dtype=torch.long)
    changed = z.clone().view(1, *IMAGE)
    changed[0, 2, 5] = 1
    moved = (stem(changed.flatten(1)) - stem(z)).abs().sum(-1)[0]
    assert moved.nonzero().flatten().tolist() == [1 * 4 + 2]


@pytest.mark.parametrize("image_shape", [None, IMAGE])
def test_distributions_of_symbols_are_read_as_their_mean(image_shape, rng):
    """A one-hot distribution is its symbol, a stem is affine in distributions, and gradients pass."""
    length = 7 if image_shape is None else 8 * 8 * 3
    network, _ = pair(rng, length, image_shape)
    z, t = torch.randint(5, (2, 3, length), generator=rng), torch.rand(3, generator=rng)
    first, second = one_hot(z, 5).float()  # the sixth symbol left out: it never occurs
    torch.testing.assert_close(network(first, t), network(z[0], t))
    stem, half = network.stem, ((first + second) / 2).requires_grad_()
    torch.testing.assert_close(stem(half), (stem(z[0]) + stem(z[1])) / 2)
    network(half, t).square().sum().backward()
    assert half.grad.abs().sum(-1).min() > 0


def test_noise_pyramid(rng):
    """Noise has levels of 8, 4, 2 and 1 cells per side, of unit variance, cut into patches like pixels."""
    stem = ImageStem(6, 5, IMAGE, patch=2, width=16, noise=1)
    noise = stem.draw_noise(2000, rng)
    assert noise.shape == (2000, 16, stem.noise_features)
    cells = noise.view(2000, 4, 4, 2, 2, 4)  # [B, rows, columns, 2, 2, levels]
    spread = cells.flatten(1, 4)  # [B, 64, levels]
    torch.testing.assert_close(spread.var((0, 1)), torch.ones(4), rtol=0, atol=0.15)
    assert [row.unique().numel() for row in spread[0].T] == [64, 16, 4, 1]
    assert torch.equal(cells[..., 1], cells[:, :, :, :1, :1, 1].expand_as(cells[..., 1]))  # one a patch
    quarters = cells[..., 2].unflatten(1, (2, 2)).unflatten(3, (2, 2))  # [B, 2, 2, 2, 2, 2, 2]
    assert torch.equal(quarters, quarters[:, :, :1, :, :1, :1, :1].expand_as(quarters))


def test_noise_of_a_sequence_is_plain_gaussian(rng):
    noise = SequenceStem(6, 5, 7, 16, 3).draw_noise(1000, rng)
    assert noise.shape == (1000, 7, 3)
    assert abs(noise.mean()) < 0.05 and abs(noise.var() - 1) < 0.05


def test_rotated_products_depend_on_the_distance_only(rng):
    query, key = torch.randn(2, 1, 1, 1, 8, generator=rng).expand(2, 1, 1, 10, 8)
    scores = (rotate(query, 100) @ rotate(key, 100).mT)[0, 0]
    for offset in range(-9, 10):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert (scores[0, 1:] - scores[0, 0]).abs().max() > 0.01
    torch.testing.assert_close(rotate(query, 100).norm(dim=-1), query.norm(dim=-1))


@every_process
def test_order_matters_to_a_sequence_network(process_name, rng):
    process = get_process(process_name, 5)
    network = tiny_network(process, 6, rng)
    z, t = torch.tensor([[0, 1, 2, 3, 4, 0]]), torch.tensor([0.5])
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    assert (network(z[:, order], t) - network(z, t)[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["digits-masked-teacher", "markov-uniform-dmmd-8"])
def test_laptop_networks_are_small(name):
    recipe = get_recipe(name)
    network, world = recipe.make_network(), get_world(recipe.world)
    assert 2e5 < sum(p.numel() for p in network.parameters()) < 4e5
    z, t = torch.zeros(2, world.length, dtype=torch.long), torch.ones(2)
    noise = network.draw_noise(2, torch.Generator())
    assert network(z, t, noise).shape == (2, world.length, world.vocab_size)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"width": 30, "heads": 4}, "width: 30 is not allowed; it must be a multiple of 2 [*] heads = 8"),
        ({"patch": 3, "image_shape": IMAGE}, "patch: 3 is not allowed; it must divide the image size 8x8"),
        ({"patch": 0, "image_shape": IMAGE}, "patch: 0 is not allowed"),
        ({"heads": 0}, "heads: 0 is not allowed"),
        ({"width": -16}, "width: -16 is not allowed"),
        ({"depth": 1.5}, "depth: 1.5 is not allowed"),
        ({"noise": -1}, "noise: -1 is not allowed"),
    ],
)
def test_impossible_sizes_are_refused(options, words):
    with pytest.raises(ValueError, match=words) as error:
        Transformer(6, 5, 7, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("causal", [False, True])
def test_the_convolution_hands_a_position_its_neighbours(causal, rng):
    sizes = {"width": 8, "depth": 1, "heads": 2, "time_width": 4, "causal": causal}
    network = wake(Transformer(6, 5, 12, local=5, **sizes), rng)
    with torch.no_grad():
        network.blocks[0].out.weight.zero_()  # attention adds a constant, so only the convolution mixes
    z, t = torch.randint(5, (3, 12), generator=rng), torch.rand(3, generator=rng)
    logits = network(z, t)
    for place in range(12):
        changed = z.clone()
        changed[:, place] = (changed[:, place] + 1) % 5
        moved = (network(changed, t) - logits).abs().amax((0, 2)) > 1e-6
        last = min(place + (4 if causal else 2), 11)
        first = place if causal else max(place - 2, 0)
        assert moved.nonzero().flatten().tolist() == list(range(first, last + 1))


def test_a_new_convolution_changes_nothing(rng):
    sizes = {"width": 8, "depth": 2, "heads": 2, "time_width": 4}
    plain, local = Transformer(6, 5, 9, **sizes), Transformer(6, 5, 9, local=3, **sizes)
    local.load_state_dict({**local.state_dict(), **wake(plain, rng).state_dict()})
    z, t = torch.randint(6, (2, 9), generator=rng), torch.rand(2, generator=rng)
    assert torch.equal(plain(z, t), local(z, t))


def test_a_convolution_has_a_middle():
    with pytest.raises(ValueError, match="local: 4 is not allowed; it must be odd, or 0 for none"):
        Transformer(6, 5, 9, local=4)


def test_places_differ_only_where_they_have_vectors(rng):
    z, t = torch.full((1, 9), 3), torch.rand(1, generator=rng)
    for positions in (False, True):
        network = wake(
            Transformer(6, 5, 9, width=8, depth=2, heads=2, time_width=4, positions=positions), rng
        )
        logits = network(z, t)[0]
        assert torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-6) == (not positions)


@pytest.mark.parametrize("sizes", [{"positions": 1}, {"positions": True, "image_shape": (4, 4, 1)}])
def test_positions_are_yes_or_no_and_not_for_images(sizes):
    with pytest.raises(ValueError, match=f"^positions: {sizes['positions']} is not allowed; "):
        Transformer(6, 5, 16, **sizes)


def test_noise_acts_at_once_where_its_projection_does_not_start_at_zero():
    z, t = torch.randint(5, (3, 4)), torch.rand(3)
    for std in (0.0, 0.5):
        network = Transformer(5, 4, 4, width=16, depth=1, heads=2, noise=2, noise_std=std)
        torch.nn.init.normal_(network.stem.head.weight)
        one, two = (network(z, t, network.draw_noise(3, torch.Generator().manual_seed(k))) for k in (1, 2))
        assert torch.equal(one, two) == (std == 0)


@pytest.mark.parametrize("value", [-0.1, math.inf, "much"])
def test_an_impossible_noise_std_is_refused(value):
    with pytest.raises(ValueError, match=f"noise_std: {value!r} is not allowed"):
        Transformer(5, 4, 4, noise=1, noise_std=value)
