"""Published layouts: every weight is taken, logits are those of a literal version, faults are named."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dmmd_lite.cli import main
from dmmd_lite.models.custom import adapt, distil, fit_teacher
from dmmd_lite.models.loading import load_model
from dmmd_lite.models.public import FAMILIES, from_public
from dmmd_lite.networks.dit import DiT
from dmmd_lite.objectives.likelihood_bound import likelihood_bound
from dmmd_lite.worlds import tokens_world

ROWS, WIDTH, DEPTH, HEADS, CONDITION, LENGTH = 13, 32, 2, 2, 16, 6
every_family = pytest.mark.parametrize("family", FAMILIES)


def published_weights(rng):
    """Random weights by the published names, far from their first values, zeros among them."""
    w, c, m = WIDTH, CONDITION, 4 * WIDTH
    shapes = {"vocab_embed.embedding": (ROWS, w)}
    shapes |= {"sigma_map.mlp.0.weight": (c, 256), "sigma_map.mlp.0.bias": (c,)}
    shapes |= {"sigma_map.mlp.2.weight": (c, c), "sigma_map.mlp.2.bias": (c,)}
    for i in range(DEPTH):
        block = {"norm1.weight": (w,), "norm2.weight": (w,), "attn_qkv.weight": (3 * w, w)}
        block |= {"attn_out.weight": (w, w), "mlp.0.weight": (m, w), "mlp.0.bias": (m,)}
        block |= {"mlp.2.weight": (w, m), "mlp.2.bias": (w,)}
        block |= {"adaLN_modulation.weight": (6 * w, c), "adaLN_modulation.bias": (6 * w,)}
        shapes |= {f"blocks.{i}.{key}": shape for key, shape in block.items()}
    head = {"norm_final.weight": (w,), "linear.weight": (ROWS, w), "linear.bias": (ROWS,)}
    head |= {"adaLN_modulation.weight": (2 * w, c), "adaLN_modulation.bias": (2 * w,)}
    shapes |= {f"output_layer.{key}": shape for key, shape in head.items()}
    found = {key: 0.3 * torch.randn(shape, generator=rng) for key, shape in shapes.items()}
    half = w // HEADS // 2
    return found | {"rotary_emb.inv_freq": torch.tensor([10_000 ** (-k / half) for k in range(half)])}


def literal(weights, z, sigma):
    """The published forward pass, position by position and head by head, in double precision."""
    p = {key: value.double() for key, value in weights.items()}

    def norm(h, weight):
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    def linear(h, name):
        return h @ p[f"{name}.weight"].T + p.get(f"{name}.bias", torch.zeros(()).double())

    def turned(vectors, positions):
        """Pairs (k, k + half) as complex numbers, turned by the position times the frequency."""
        half = vectors.shape[-1] // 2
        pairs = torch.complex(vectors[..., :half], vectors[..., half:])
        angle = positions[:, None] * p["rotary_emb.inv_freq"]
        pairs = pairs * torch.complex(angle.cos(), angle.sin())
        return torch.cat([pairs.real, pairs.imag], -1)

    frequency = torch.tensor([10_000 ** (-k / 128) for k in range(128)]).double()
    angle = sigma.double()[:, None] * frequency
    c = torch.cat([angle.cos(), angle.sin()], -1)
    c = linear(nn.functional.silu(linear(c, "sigma_map.mlp.0")), "sigma_map.mlp.2")
    c = nn.functional.silu(c)
    h, positions = p["vocab_embed.embedding"][z], torch.arange(z.shape[1]).double()
    for i in range(DEPTH):
        name, size = f"blocks.{i}", WIDTH // HEADS
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            part[:, None] for part in linear(c, f"{name}.adaLN_modulation").split(WIDTH, -1)
        )
        read = norm(h, p[f"{name}.norm1.weight"]) * (1 + scale1) + shift1
        q, k, v = linear(read, f"{name}.attn_qkv").split(WIDTH, -1)
        heads = []
        for j in range(HEADS):
            part = slice(j * size, (j + 1) * size)
            scores = turned(q[..., part], positions) @ turned(k[..., part], positions).mT / math.sqrt(size)
            heads.append(scores.softmax(-1) @ v[..., part])
        h = h + gate1 * linear(torch.cat(heads, -1), f"{name}.attn_out")
        read = norm(h, p[f"{name}.norm2.weight"]) * (1 + scale2) + shift2
        inner = nn.functional.gelu(linear(read, f"{name}.mlp.0"), approximate="tanh")
        h = h + gate2 * linear(inner, f"{name}.mlp.2")
    shift, scale = (part[:, None] for part in linear(c, "output_layer.adaLN_modulation").split(WIDTH, -1))
    read = norm(h, p["output_layer.norm_final.weight"]) * (1 + scale) + shift
    return linear(read, "output_layer.linear")


class Literal(nn.Module):
    """The literal version as a network of somebody's own: (z, t) to logits."""

    def __init__(self, weights, conditioned):
        super().__init__()
        self.weights, self.conditioned = weights, conditioned

    def forward(self, z, t):
        sigma = -(1 - t.double()).clamp(min=1e-3).log()
        return literal(self.weights, z, sigma if self.conditioned else torch.zeros_like(sigma)).float()


def write(folder, weights, prefix="backbone.", **config):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({prefix + key: value for key, value in weights.items()}, folder / "model.safetensors")
    settings = {"n_heads": HEADS, "model_length": LENGTH, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@every_family
@pytest.mark.parametrize("prefix", ["", "backbone.", "backbone.backbone."])
def test_logits_are_those_of_a_literal_version(family, prefix, tmp_path, rng):
    weights = published_weights(rng)
    model = from_public(write(tmp_path / "a", weights, prefix, model_type=family))
    spec, network = FAMILIES[family], model.denoiser.network
    assert (model.process.name, model.recipe.output) == (spec.process, spec.output)
    assert model.world.vocab_size == ROWS - (spec.process == "masked") and model.world.length == LENGTH
    taken = network.network.state_dict()
    assert taken.keys() == weights.keys() and all(torch.equal(taken[key], weights[key]) for key in weights)
    z = torch.randint(ROWS, (5, LENGTH), generator=rng)
    t = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    expected = Literal(weights, spec.conditioned)(z, t)
    torch.testing.assert_close(network(z, t), expected, rtol=1e-4, atol=1e-4)
    assert (expected.std(0) > 1e-3).all()


@every_family
def test_sampling_and_bound_are_those_of_the_literal_version(family, tmp_path, rng):
    weights = published_weights(rng)
    model = from_public(write(tmp_path / "a", weights, model_type=family))
    spec = FAMILIES[family]
    other = adapt(Literal(weights, spec.conditioned), model.world, spec.process, output=spec.output)
    assert torch.equal(model.sample(20, 4, seed=3).tokens, other.sample(20, 4, seed=3).tokens)
    x = torch.randint(model.world.vocab_size, (8, LENGTH), generator=rng)
    bounds = [
        likelihood_bound(m.denoiser, m.process, x, torch.Generator().manual_seed(1), times=4)
        for m in (model, other)
    ]
    torch.testing.assert_close(*bounds, rtol=1e-4, atol=1e-4)


def test_a_student_is_distilled_on_data(tmp_path, rng):
    folder = write(tmp_path / "a", published_weights(rng), model_type="duo")
    world = tokens_world("own", torch.randint(ROWS, (60, LENGTH), generator=rng), vocab_size=ROWS)
    student = distil(from_public(folder, world=world), tmp_path / "out", 2, updates=2, batch_size=4)
    assert student.sample(3).tokens.shape == (3, LENGTH)


def test_commands_read_folders_of_published_and_own_models(tmp_path, rng, capsys):
    """`load_model`, and so every command, reads published folders and those of `fit_teacher`, `distil`."""
    folder = write(tmp_path / "mdlm", published_weights(rng), model_type="mdlm")
    world = tokens_world("own", torch.randint(5, (60, 4), generator=rng), vocab_size=5)
    teacher = fit_teacher(world, tmp_path / "teacher", updates=2, batch_size=4)
    student = distil(teacher, tmp_path / "student", 2, updates=2, batch_size=4)
    for name, model in (("mdlm", from_public(folder)), ("teacher", teacher), ("student", student)):
        loaded = load_model(str(tmp_path / name))
        assert (loaded.name, loaded.default_steps) == (model.name, model.default_steps)
        assert torch.equal(loaded.sample(9, 2).tokens, model.sample(9, 2).tokens)
        out = tmp_path / f"{name}.npz"
        assert main(["sample", str(tmp_path / name), "--num", "2", "--out", str(out)]) == 0
        assert np.load(out)["tokens"].shape == (2, model.world.length)
    assert main(["evaluate", str(folder), "--num", "4", "--metrics", "sample_entropy"]) == 0
    capsys.readouterr()


def test_a_module_has_the_published_names_and_sizes():
    with torch.device("meta"):
        network = DiT(50_258)
    assert len(network.state_dict()) == 131
    assert sum(p.numel() for p in network.parameters()) == 169_627_218
    with torch.device("meta"):
        assert sum(p.numel() for p in DiT(35).parameters()) == 92_434_467


@pytest.mark.parametrize(
    "family, config, name",
    [
        ("mdlm", {"architectures": ["MDLM"]}, "a"),
        ("duo", {}, "duo-distilled"),
        ("udlm", {"model_type": "UDLM"}, "a"),
        ("sdtt", {}, "sdtt_small"),
    ],
)
def test_families_are_recognised(family, config, name, tmp_path, rng):
    model = from_public(write(tmp_path / name, published_weights(rng), **config))
    assert model.process.name == FAMILIES[family].process
    assert model.denoiser.network.conditioned == FAMILIES[family].conditioned


def broken(tmp_path, rng, fault):
    """A folder with one fault."""
    weights, config = published_weights(rng), {"model_type": "mdlm"}
    if fault == "missing":
        del weights["blocks.1.norm1.weight"], weights["output_layer.linear.bias"]
    if fault == "left over":
        weights["blocks.0.attn_qkv.bias"] = torch.zeros(3 * WIDTH)
    if fault == "shape":
        weights["output_layer.linear.weight"] = torch.zeros(ROWS + 1, WIDTH)
    if fault == "family":
        config = {"model_type": "bert"}
    folder = write(tmp_path / "a", weights, **config)
    if fault in ("pickle", "empty"):
        (folder / "model.safetensors").unlink()
    if fault == "pickle":
        (folder / "pytorch_model.bin").write_bytes(b"never read")
    if fault == "truncated":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    if fault == "other":
        save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "fault, words",
    [
        ("missing", r"blocks.1.norm1.weight is missing, output_layer.linear.bias is missing"),
        ("left over", "blocks.0.attn_qkv.bias is left over"),
        ("shape", "output_layer.linear.weight has the shape"),
        ("family", r"family: None is not allowed for .*; neither config.json nor the name says which"),
        ("pickle", "pytorch_model.bin is a pickle, which is never read; convert it"),
        ("empty", "it holds no safetensors"),
        ("truncated", "model.safetensors' is not allowed"),
        ("other", "it has no weight 'vocab_embed.embedding'"),
    ],
)
def test_faults_are_named_in_one_line(fault, words, tmp_path, rng):
    with pytest.raises(ValueError, match=words) as error:
        from_public(broken(tmp_path, rng, fault))
    assert "\n" not in str(error.value)


def test_other_arguments_that_do_not_fit_are_refused(tmp_path, rng, monkeypatch):
    folder = write(tmp_path / "a", published_weights(rng), model_type="mdlm", model_length=None)
    with pytest.raises(ValueError, match="length: None is not allowed"):
        from_public(folder)
    with pytest.raises(ValueError, match="family: 'bert' is not allowed; choose one of"):
        from_public(folder, "bert")
    world = tokens_world("own", torch.randint(5, (60, LENGTH), generator=rng), vocab_size=5)
    with pytest.raises(ValueError, match="world: 'own' is not allowed; it has 5 classes, the checkpoint 12"):
        from_public(folder, world=world)
    monkeypatch.delenv("DMMD_DOWNLOAD", raising=False)
    with pytest.raises(ValueError, match="it is no folder; set DMMD_DOWNLOAD=1"):
        from_public("kuleshov-group/mdlm-owt")
