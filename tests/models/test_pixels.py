"""The paper's layout on a CPU: 3,072 tokens of 256 levels, trained and sampled at smoke scale."""

import json
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, every_process

from dmmd_lite.models import validation
from dmmd_lite.models.loading import load_model, train_recipe
from dmmd_lite.models.task import task_of
from dmmd_lite.processes.masked import Masked
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.sampling import sample
from dmmd_lite.worlds import get_world


@every_process
def test_the_papers_layout_trains_and_samples(process_name, tmp_path, monkeypatch):
    """A teacher and its student, from the recipes' own names, with the teacher's validation."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    recipe = get_recipe(f"photos-{process_name}-dmmd-4", "smoke")
    train_recipe(recipe, tmp_path / "run")
    model, teacher = load_model(str(tmp_path / "run")), load_model(recipe.teacher, "smoke")
    assert (model.world.length, model.world.vocab_size) == (3072, 256)
    assert "photos_credit" in model.provenance["provenance"]
    start = teacher.denoiser.state_dict()
    assert any(
        not torch.equal(value, start[key])
        for key, value in model.denoiser.state_dict().items()
        if key in start
    )
    tokens = sample(
        model.denoiser, model.process, 2, 3072, 4, generator=torch.Generator().manual_seed(0)
    ).tokens
    assert tokens.shape == (2, 3072) and tokens.min() >= 0 and tokens.max() < 256
    assert model.world.show(tokens)[0].shape == (32, 32, 3)


def test_masks_fall_on_pixels_and_every_pixel_has_its_law(rng):
    """Colours of one pixel, and pixels of one patch, are masked apart and predicted by heads of their own."""
    world, process = get_world("photos"), Masked(256)
    x = world.sample(4, rng)
    z = process.corrupt(x, torch.full((4,), 0.5), rng).view(4, 32, 32, 3)
    patches = (z == process.mask).unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)  # [4, 16, 16, 12]
    inside = patches.float().mean(-1)
    assert 0.2 < (inside.std() / (0.25 / 12) ** 0.5) / 5 < 0.22  # binomial: every mask by itself
    network = get_recipe("photos-masked-teacher", "smoke").make_network()
    torch.nn.init.normal_(network.stem.head.weight)
    logits = network(z.flatten(1), torch.full((4,), 0.5))
    assert logits.shape == (4, 3072, 256)
    first_patch = logits[0].view(32, 32, 3, 256)[:2, :2].reshape(12, 256)
    assert len(first_patch.detach().unique(dim=0)) == 12
    assert process.loss_mask(z.flatten(1)).float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
@every_process
def test_a_step_at_batch_32_stays_below_3_gb(process_name):
    """The whole process, as the benchmark measures it."""
    command = [sys.executable, str(ROOT / "benchmarks" / "image_memory.py")]
    done = subprocess.run(
        [*command, "--one", "laptop", process_name, "--repeats", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert (measured["batch"], measured["tokens"], measured["levels"]) == (32, 3072, 256)
    assert 0.3 < measured["peak_gb"] < 3


def test_validation_reads_what_the_scale_can_bear(rng):
    """All of the digits at every scale; of larger images fewer, and fewer samples of students."""
    expected = {"digits": (297, 2000, 297), "glyphs": (512, 2000, 128), "photos": (341, 170, 10)}
    for name, (laptop, samples, smoke) in expected.items():
        world = get_world(name)
        for scale, number in (("laptop", laptop), ("smoke", smoke)):
            task = task_of(get_recipe(f"{name}-masked-teacher", scale))
            assert len(validation.validation_data(task, rng)) == number
        assert validation.validation_num("laptop", world) == samples
        assert (validation.validation_num("smoke", world), validation.validation_num("gpu", world)) == (
            128,
            2000,
        )


def test_glyph_students_are_trained_and_validated(tmp_path, monkeypatch):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    path = train_recipe(get_recipe("glyphs-masked-dmmd-8", "smoke"), tmp_path / "run")
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["training"]["validation"] == "frechet" and facts["training"]["best_value"] > 0
    assert "DejaVuSans" in facts["provenance"]["fonts"] and facts["provenance"]["glyphs_sha256"]
    assert (facts["recipe"]["network"]["noise"], facts["weights"]) == (1, "ema")
    assert get_recipe("glyphs-masked-dmmd-8-nonoise").network["noise"] == 0
