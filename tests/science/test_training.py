"""The training loop: interrupted runs end in the same bits, a step by hand, errors."""

import json
import math
import shutil
import signal
import threading

import pytest
import torch
from helpers import Killed, kill_after
from safetensors.torch import load_file, save_file
from torch import nn

from dmmd_lite.cli import main
from dmmd_lite.models.loading import train_recipe
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.training import loop
from dmmd_lite.training.batches import DATA_SEED_OFFSET
from dmmd_lite.training.loop import NonFiniteLoss, train
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import CHECKPOINT


class Toy:
    """Two linear regressions that take turns."""

    def __init__(self, names=("first", "second"), spoil=None):
        torch.manual_seed(0)
        self.players = {name: nn.Linear(2, 1) for name in names}
        self.names, self.spoil = names, spoil

    def losses(self, step, x, generator):
        name = self.names[step % len(self.names)]
        error = self.players[name](x)[:, 0] - x.sum(-1)
        terms = {"square": (error**2).mean(), "size": 0.1 * self.players[name].weight.norm()}
        return {name: terms if self.spoil is None else self.spoil(step, terms)}


def draw(batch, generator):
    return torch.randn(batch, 2, generator=generator)


def options(**changes):
    lr = changes.pop("lr", {"first": 0.1, "second": 0.01})
    return TrainingOptions(**{"steps": 6, "batch_size": 4, "lr": lr, "warmup": 3, **changes})


def test_a_step_by_hand(tmp_path):
    """Two micro-batches form one batch; then follow clipping, warm-up, AdamW and the average."""
    chosen = options(accumulation=2, clip=0.5, weight_decay=0.1, ema={"first": 0.2}, betas=(0.5, 0.9))
    result = train(Toy(), draw, chosen, tmp_path, seed=3)

    toy, generator = Toy(), torch.Generator().manual_seed(DATA_SEED_OFFSET + 3)
    averages = {name: [p.detach().clone() for p in net.parameters()] for name, net in toy.players.items()}
    optimizers = {
        name: torch.optim.AdamW(net.parameters(), chosen.lr[name], (0.5, 0.9), weight_decay=0.1)
        for name, net in toy.players.items()
    }
    for step in range(chosen.steps):
        x = torch.cat([draw(2, generator), draw(2, generator)])
        ((name, terms),) = toy.losses(step, x, generator).items()
        parameters, optimizer = list(toy.players[name].parameters()), optimizers[name]
        optimizer.zero_grad()
        sum(terms.values()).backward()
        norm = torch.cat([p.grad.flatten() for p in parameters]).norm()
        assert norm > 0.5
        for p in parameters:
            p.grad *= 0.5 / norm
        optimizer.param_groups[0]["lr"] = chosen.lr[name] * min(1, (step + 1) / 3)
        optimizer.step()
        keep = min(0.2, (1 + step) / (10 + step))
        for average, p in zip(averages[name], parameters, strict=True):
            average.mul_(keep).add_((1 - keep) * p.detach())
    for name, net in toy.players.items():
        torch.testing.assert_close(list(result.raw[name].parameters()), list(net.parameters()))
    torch.testing.assert_close([p.data for p in result.averaged["first"].parameters()], averages["first"])
    raw, averaged = result.raw["second"], result.averaged["second"]  # this player is not averaged
    assert torch.equal(raw.weight, averaged.weight)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["step"] == 6 and line["second/gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert "first/square" in line and "second/square" in line  # the latest terms of every player


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_rate(decay):
    chosen = options(steps=100, warmup=10, decay=decay)
    rates = [chosen.rate(step) for step in range(100)]
    fall = {
        "constant": lambda done: 1,
        "linear": lambda done: 1 - done,
        "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    }[decay]
    assert rates == pytest.approx([min(1, (i + 1) / 10) * fall(i / 100) for i in range(100)])
    assert min(rates) > 0


def test_the_best_average_is_kept(tmp_path):
    """The validation of step 4 is the best; one that is not a number is ignored."""
    values, seen = iter([math.nan, 2.0, 3.0]), []

    def validate(players):
        seen.append({name: player.weight.clone() for name, player in players.items()})
        return next(values)

    chosen = options(validate_every=2, ema={"first": 0.5})
    result = train(Toy(), draw, chosen, tmp_path, validate=validate)
    assert (result.best_step, result.best_value) == (4, 2.0)
    for name, player in result.averaged.items():
        assert torch.equal(player.weight, seen[1][name]) and not torch.equal(player.weight, seen[2][name])
    again = train(Toy(), draw, chosen, tmp_path, validate=validate)
    assert again.best_step == 4 and torch.equal(again.averaged["first"].weight, seen[1]["first"])


@pytest.fixture(params=["at once", "when it is due"])
def checked(request, monkeypatch):
    """Let the loop check that values are finite after every step, as on a CPU, or only before it logs,
    validates or saves, as on a device for which it would have to wait."""
    if request.param == "when it is due":
        monkeypatch.setattr(loop, "SYNCHRONOUS_DEVICES", ())


def test_a_loss_that_is_not_finite_stops_the_run(checked, tmp_path):
    def spoil(step, terms):
        return {**terms, "square": terms["square"] * math.nan} if step == 3 else terms

    with pytest.raises(NonFiniteLoss, match="term second/square is nan at step 3; no checkpoint was written"):
        train(Toy(spoil=spoil), draw, options(), tmp_path)
    with pytest.raises(NonFiniteLoss, match=f"nan at step 3; last good checkpoint: {tmp_path / CHECKPOINT}"):
        train(Toy(spoil=spoil), draw, options(checkpoint_every=2), tmp_path)
    assert all(value.isfinite().all() for value in load_file(tmp_path / CHECKPOINT).values())


def test_a_gradient_that_is_not_finite_spoils_no_checkpoint(checked, tmp_path):
    def spoil(step, terms):
        return {"square": (terms["square"] * 0).sqrt()} if step == 3 else terms

    with pytest.raises(NonFiniteLoss, match="term second/gradient_norm is nan at step 3"):
        train(Toy(spoil=spoil), draw, options(checkpoint_every=1), tmp_path)
    assert all(value.isfinite().all() for value in load_file(tmp_path / CHECKPOINT).values())


def test_what_is_not_finite_is_never_validated(checked, tmp_path):
    """Otherwise an average would keep the value; the error names the first step that had it."""
    seen = []

    def spoil(step, terms):
        return {**terms, "square": terms["square"] * math.nan} if step >= 2 else terms

    chosen = options(ema={"first": 0.5}, validate_every=4)
    with pytest.raises(NonFiniteLoss, match="term first/square is nan at step 2") as error:
        train(Toy(spoil=spoil), draw, chosen, tmp_path, validate=lambda players: seen.append(players) or 1.0)
    assert error.value.step == 2 and not seen


class Chaser:
    """A regression on a copy of itself, which is renewed every fourth step."""

    def __init__(self):
        torch.manual_seed(0)
        self.players = {"student": nn.Linear(2, 1)}
        self.copies = {"target": nn.Linear(2, 1).requires_grad_(False)}

    def losses(self, step, x, generator):
        if step and step % 4 == 0:
            self.copies["target"].load_state_dict(self.players["student"].state_dict())
        error = self.players["student"](x) - self.copies["target"](x) - 1
        return {"student": {"square": (error**2).mean()}}


@pytest.mark.parametrize("killed", [2, 5, 8, 9])
def test_copies_are_saved_and_restored(killed, tmp_path):
    chosen = options(lr={"student": 0.1}, steps=13, checkpoint_every=1)
    method = Chaser()
    train(method, draw, chosen, tmp_path / "whole")
    with pytest.raises(Killed):
        train(Chaser(), kill_after(killed, draw), chosen, tmp_path / "killed")
    resumed = Chaser()
    train(resumed, draw, chosen, tmp_path / "killed")
    first, second = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "killed"))
    assert first.keys() == second.keys() and "copy/target/weight" in first
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    student, target = resumed.players["student"], resumed.copies["target"]
    assert not torch.equal(student.weight, target.weight)
    assert torch.equal(target.weight, method.copies["target"].weight)


def pickled(path):
    torch.save({"step": 3}, path)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def without_state(path):
    save_file(load_file(path), path)


def without_a_tensor(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("spoil", [pickled, truncated, emptied, without_state, without_a_tensor])
def test_damaged_checkpoints_are_refused(spoil, tmp_path):
    train(Toy(), draw, options(), tmp_path)
    spoil(tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="checkpoint: .* is damaged .*; delete it to start again") as error:
        train(Toy(), draw, options(), tmp_path)
    assert "\n" not in str(error.value)


def test_foreign_checkpoints_are_refused(tmp_path):
    train(Toy(), draw, options(), tmp_path, identity="one")
    with pytest.raises(ValueError, match="belongs to another recipe or other settings; use another folder"):
        train(Toy(), draw, options(), tmp_path, identity="two")
    with pytest.raises(ValueError, match="checkpoint: .* is damaged"):  # other players, same identity
        train(Toy(["only"]), draw, options(lr={"only": 0.1}), tmp_path, identity="one")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lr": {"first": 0.1}}, r"lr: .* must name exactly the players \['first', 'second'\]"),
        ({"lr": {"first": 0.1, "second": 0.1, "third": 0.1}}, "lr: .* must name exactly the players"),
        ({"lr": {"first": 0.1, "second": "fast"}}, "lr.second: 'fast' is not allowed"),
        ({"lr": {"first": 0.1, "second": math.nan}}, "lr.second: nan is not allowed"),
        ({"ema": {"third": 0.9}}, "ema: .* is not allowed; the players are"),
        ({"betas": (0.9,)}, "betas: .* is not allowed"),
        ({"batch_size": 5, "accumulation": 2}, "batch_size: 5 is not allowed; it must divide by"),
        ({"steps": 0}, "steps: 0 is not allowed"),
        ({"decay": "exponential"}, "decay: 'exponential' is not allowed; choose one of"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(Toy(), draw, options(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_half_written_log_line_is_dropped(tmp_path):
    train(Toy(), draw, options(log_every=2), tmp_path)
    shutil.copy(tmp_path / "log.jsonl", tmp_path / "before")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "fir')
    train(Toy(), draw, options(log_every=2), tmp_path)
    assert (tmp_path / "log.jsonl").read_bytes() == (tmp_path / "before").read_bytes()


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=train, args=(Toy(), draw, options(), tmp_path))
    thread.start()
    thread.join()
    assert (tmp_path / CHECKPOINT).is_file() and signal.getsignal(signal.SIGINT) is handler


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recipe", ["coins-uniform-dmmd-2", "digits-masked-teacher"])
def test_training_and_sampling_on_cuda(recipe, tmp_path):
    out, samples = tmp_path / "run", tmp_path / "samples.npz"
    arguments = ["--scale", "smoke", "--device", "cuda"]
    assert main(["train", recipe, "--out", str(out), *arguments]) == 0
    assert main(["sample", str(out), "--out", str(samples), "--num", "8", "--device", "cuda"]) == 0
    assert samples.is_file()


def test_rates_can_stay_at_their_peak_before_they_fall():
    options = TrainingOptions(100, 1, {"a": 1e-3}, warmup=10, decay="linear", decay_from=0.75)
    assert [options.rate(step) for step in (4, 9, 50, 75)] == [0.5, 1, 1, 1]
    assert options.rate(80) == pytest.approx(0.8) and options.rate(99) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="decay_from: 1 is not allowed"):
        TrainingOptions(100, 1, {"a": 1e-3}, decay="linear", decay_from=1)
    with pytest.raises(ValueError, match="decay_from: 0.5 is not allowed where decay is 'constant'"):
        TrainingOptions(100, 1, {"a": 1e-3}, decay_from=0.5)


@pytest.mark.slow
def test_compiled_layers_train_alike(tmp_path):
    """After three updates of both players losses agree to 1e-4, and checkpoints have the same keys."""
    lines, keys = [], []
    for compiled in (False, True):
        changes = {"training.compile": compiled, "training.steps": 3, "training.log_every": 1}
        recipe = get_recipe("digits-masked-dmmd-4", "smoke", changes)
        folder = tmp_path / str(compiled)
        train_recipe(recipe, folder)
        logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        lines.append([{k: v for k, v in line.items() if k != "seconds"} for line in logged])
        keys.append(sorted(load_file(folder / "model.safetensors")))
    assert keys[0] == keys[1] and len(lines[0]) == len(lines[1])
    for plain, fast in zip(*lines, strict=True):
        assert fast == pytest.approx(plain, rel=1e-4, abs=1e-4)
