"""Models with NaN weights: sampling and evaluation stop, and name the model and the step."""

import re

import pytest
import torch

from dmmd_lite.cli import main
from dmmd_lite.denoisers.base import NonFinitePrediction
from dmmd_lite.metrics.suite import METRICS, metrics_for
from dmmd_lite.models import loading
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import load_model

MODELS = ("coins-masked-dmmd-1", "coins-uniform-teacher", "digits-masked-dmmd-4", "markov-masked-dmmd-8")


@pytest.fixture(params=MODELS)
def broken(request, monkeypatch):
    """A shipped model of which one weight became NaN."""
    model = load_model(request.param)
    next(model.denoiser.parameters()).data.view(-1)[0] = torch.nan
    monkeypatch.setattr(loading, "load_model", lambda *arguments, **options: model)
    return model


def test_metrics_stop_and_name_the_model(broken):
    for name in metrics_for(broken.world):
        if METRICS[name].default:
            with pytest.raises(NonFinitePrediction, match=f"^{broken.name}: .*no distribution"):
                evaluate(broken, [name], steps=2, num=64)


def test_the_command_line_stops_and_writes_nothing(broken, tmp_path, capsys):
    out = tmp_path / "samples.npz"
    assert main(["sample", broken.name, "--num", "8", "--steps", "2", "--out", str(out)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(f"dmmd-lite: {broken.name}: step (1|2) of 2: the prediction is no distr.*", message)
    assert not out.exists()
