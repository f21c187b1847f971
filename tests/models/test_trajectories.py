import pytest
import torch

from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.studies.trajectories import (
    distribution_of_student,
    monitor,
    record_averaging,
    record_distributions,
)
from dmmd_lite.utils.records import decode_tokens, encode_tokens


def test_monitoring_gives_a_distribution_after_every_few_updates_and_the_last():
    recipe = get_recipe("coins-masked-dmmd-1", "smoke")
    laws, provenance = monitor(recipe, 8, distribution_of_student(recipe, draws=64), seed=2)
    assert provenance["training_seed"] == 2
    assert list(laws) == [8, 16, 20]
    assert all(law.sum().item() == pytest.approx(1) for law in laws.values())
    assert not torch.equal(laws[8], laws[20])


def test_a_record_of_distributions_has_the_last_value():
    record = record_distributions(get_recipe("coins-masked-sdtt-1", "smoke"), 4, draws=64, seed=3)
    strip = record.details["film"]
    last = torch.tensor(strip["laws"][-1])
    truth = torch.tensor([0.6, 0.0, 0.0, 0.4])
    assert record.value == pytest.approx(float((last - truth).abs().sum() / 2), abs=1e-4)
    assert record.provenance["training_seed"] == 3 and len(strip["updates"]) == len(strip["laws"])


@pytest.mark.parametrize("name", ["coins-uniform-dmmd-1", "digits-masked-dmmd-4"])
def test_averaging_is_recorded_for_one_training_with_and_without_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path))
    recipe = get_recipe(name, "smoke")
    record = record_averaging(recipe, 4, seed=5)
    seen = record.details["swings"]
    assert seen["updates"][-1] == recipe.training.steps and record.value == seen["averaged"][-1]
    assert len(seen["updates"]) == len(seen["averaged"]) == len(seen["raw"])
    assert record.provenance["training_seed"] == 5
    assert seen["raw"] != seen["averaged"]


def test_samples_survive_as_text():
    tokens = torch.randint(17, (5, 64), generator=torch.Generator().manual_seed(1))
    assert torch.equal(decode_tokens(encode_tokens(tokens)), tokens)
    with pytest.raises(ValueError, match="tokens: 36 is not allowed"):
        encode_tokens(torch.tensor([[36]]))
