"""The training loop: interrupted runs end in the same bits, a step by hand, errors."""

import json
import math
import shutil
import signal
import threading
from dataclasses import dataclass

import pytest
import torch
from helpers import Killed, contents, kill_after
from safetensors.torch import load_file, save_file
from torch import nn

from dmmd_lite.cli import main
from dmmd_lite.models.loading import train_recipe
from dmmd_lite.processes import get_process
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.training import loop
from dmmd_lite.training.batches import DATA_SEED_OFFSET
from dmmd_lite.training.loop import NonFiniteLoss, train
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import CHECKPOINT
from dmmd_lite.utils.files import read_tensors
from dmmd_lite.utils.signals import Interrupted


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
    """The validation of step 4 is the best; NaN is ignored, and tensors are numbers."""
    values, seen = iter([math.nan, torch.tensor(2.0), 3.0]), []

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


class Moody:
    """A regression with running means and dropout, on a frozen teacher; it notes who is in training mode."""

    def __init__(self):
        torch.manual_seed(0)
        self.players = {
            "student": nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 1)),
            "other": nn.Linear(2, 1),
        }
        self.teacher = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 1)).requires_grad_(False)
        self.copies = {"target": nn.Dropout(0.5)}
        self._seen = []

    def losses(self, step, x, generator):
        self._seen.append(modes(self.players) + modes(self.copies | {"teacher": self.teacher}))
        error = self.players["student"](x + 3) - self.players["other"](x) - self.teacher(x)
        return {name: {"square": (error**2).mean()} for name in self.players}


def modes(modules):
    """Return whether modules and all their parts are in training mode."""
    return [part.training for module in modules.values() for part in module.modules()]


def test_averages_have_the_buffers_of_their_players(tmp_path):
    """Running means of one batch each; integers are copied too."""
    chosen = options(lr={"student": 0.1, "other": 0.1}, ema={"student": 0.9})
    result = train(Moody(), draw, chosen, tmp_path)
    raw, averaged = result.raw["student"], result.averaged["student"]
    assert not torch.equal(raw[2].weight, averaged[2].weight)
    assert all(map(torch.equal, raw.buffers(), averaged.buffers()))
    assert averaged[0].num_batches_tracked == 6 and averaged[0].running_mean.min() > 0.5


def test_players_train_in_training_mode_and_nothing_else(tmp_path):
    """Validation and what is returned have no dropout, in any order of training, validating and resuming."""
    chosen, method, validated = options(lr={"student": 0.1, "other": 0.1}, validate_every=2), Moody(), []
    for module in [*method.players.values(), method.teacher]:
        module.train(module is method.teacher)

    def validate(players):
        validated.extend(modes(players))
        return 1.0

    for name in ("first", "second"):
        changed = options(lr=chosen.lr, ema={"student": 0.9}, validate_every=2)
        for use in (chosen, changed):
            result = train(method, draw, use, tmp_path / f"{name}{len(use.ema)}", validate=validate)
            assert not any(modes(result.raw) + modes(result.averaged) + validated)
    assert all(seen == [True] * 5 + [False] * 4 for seen in method._seen) and len(method._seen) == 24


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("part", [0, 2])
def test_players_of_half_precision_are_refused(dtype, part, tmp_path):
    """Also where only some of a player's weights are of half precision."""
    method = Moody()
    method.players["student"][part].to(dtype)
    with pytest.raises(ValueError, match=f"players: student .*{part}.weight .{str(dtype)[6:]}.*float32"):
        train(method, draw, options(lr={"student": 0.1, "other": 0.1}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "x, words",
    [
        (None, "None is not allowed; it must be of type Tensor"),
        ([[0.0, 0.0]] * 4, ".* is not allowed; it must be of type Tensor"),
        (torch.zeros(4), r"shape \[4\] is not allowed; the function must give \[4, L\]"),
        (torch.zeros(3, 2), r"shape \[3, 2\] is not allowed; the function must give \[4, L\]"),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_data_of_another_shape_are_refused(x, words, resumed, tmp_path):
    if resumed:
        train(Toy(), draw, options(), tmp_path)
    with pytest.raises(ValueError, match=f"^data: {words}$"):
        train(Toy(), lambda batch, generator: x, options(), tmp_path)


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


def made_a_folder(path):
    path.unlink()
    path.mkdir()


def rewritten(path, change):
    """Write a checkpoint again after change(tensors, header)."""
    tensors, about = read_tensors(path)
    tensors = {key: value.clone() for key, value in tensors.items()}
    change(tensors, about)
    save_file(tensors, path, about)


def without_state(path):
    rewritten(path, lambda tensors, about: about.pop("state"))


def without_digest(path):
    rewritten(path, lambda tensors, about: about.pop("sha256"))


def without_a_tensor(path):
    rewritten(path, lambda tensors, about: tensors.popitem())


def with_another_weight(path):
    rewritten(path, lambda tensors, about: tensors["player/first/weight"].mul_(2))


def with_another_shape(path):
    rewritten(path, lambda tensors, about: tensors["optimizer/first/0/exp_avg"].resize_(2, 1))


def with_another_step(path):
    rewritten(path, lambda _, about: about.update(state=about["state"].replace('"step": 6', '"step": 5')))


def nested(path):
    rewritten(path, lambda tensors, about: about.update(state="[" * 10**5))


DAMAGES = [pickled, truncated, emptied, made_a_folder, without_state, without_digest, without_a_tensor]
DAMAGES += [with_another_weight, with_another_shape, with_another_step, nested]


@pytest.mark.parametrize("spoil", DAMAGES)
def test_damaged_checkpoints_are_refused(spoil, tmp_path):
    train(Toy(), draw, options(), tmp_path)
    spoil(tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="checkpoint: .* is damaged .*; delete it to start again") as error:
        train(Toy(), draw, options(), tmp_path)
    assert "\n" not in str(error.value)


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_refused(rng, tmp_path):
    """300 bits of the header and of the tensors, one at a time."""
    train(Toy(), draw, options(ema={"first": 0.5}), tmp_path)
    path = tmp_path / CHECKPOINT
    good, header = path.read_bytes(), 8 + int.from_bytes(path.read_bytes()[:8], "little")
    places = [(0, header, 200), (header, len(good), 100)]
    for start, end, number in places:
        for bit in torch.randint(8 * start, 8 * end, (number,), generator=rng).tolist():
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            with pytest.raises(ValueError, match="checkpoint: .* is damaged") as error:
                train(Toy(), draw, options(ema={"first": 0.5}), tmp_path)
            assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Settings:
    k: int = 4


class Taught(nn.Module):
    """A regression on a frozen teacher, as a module that also has its player as an attribute."""

    def __init__(self, k=4, schedule="linear", student=0, teacher=1, activation=nn.Tanh):
        super().__init__()
        networks = []
        for seed in (student, teacher):
            torch.manual_seed(seed)
            networks.append(nn.Sequential(nn.Linear(2, 1), activation()))
        self.student, self.teacher = networks[0], networks[1].requires_grad_(False)
        self.players = {"student": self.student}
        self.process, self.settings = get_process("masked", 5, schedule), Settings(k)

    def losses(self, step, x, generator):
        return {"student": {"square": (self.players["student"](x) - self.teacher(x)).square().mean()}}


def teach(folder, method=None, data=draw, seed=0, identity="", validate=None, **changes):
    chosen = options(**{"lr": {"student": 0.1}, "checkpoint_every": 2, **changes})
    return train(
        method or Taught(), data, chosen, folder, seed=seed, identity=identity, validate=validate
    ).raw["student"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 7}, "options.steps: 6 there, 7 here"),
        ({"lr": {"student": 0.2}}, "options.lr.student: 0.1 there, 0.2 here"),
        ({"ema": {"student": 0.9}}, "options.ema.student: None there, 0.9 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"method": Taught(k=8)}, "method.settings.k: 4 there, 8 here"),
        ({"method": Taught(schedule="cosine")}, "method.process.schedule.class: 'Linear.*' there, 'Cosine"),
        ({"method": Taught(teacher=2)}, "method.teacher.weights: '[0-9a-f]{16}' there, '[0-9a-f]{16}' here"),
        ({"method": Taught(student=2)}, "player.student.weights: '[0-9a-f]{16}' there, '[0-9a-f]{16}' here"),
        ({"method": Taught(activation=nn.ReLU)}, "method.teacher.structure: "),
        ({"data": lambda *batch: 2 * draw(*batch)}, "data: '[0-9a-f]{16}' there, '[0-9a-f]{16}' here"),
        ({"identity": "another"}, "identity: '' there, 'another' here"),
        ({"validate": lambda players: 1.0}, "validated: False there, True here"),
    ],
)
def test_another_training_is_refused_and_the_difference_named(finished, changes, words, tmp_path):
    if finished:
        teach(tmp_path)
    else:
        with pytest.raises(Killed):
            teach(tmp_path, data=kill_after(4, draw))
    before = {path: content for path, content in contents(tmp_path).items() if not path.endswith(".lock")}
    with pytest.raises(ValueError, match=rf"{CHECKPOINT} is of another training \({words}.*; use") as error:
        teach(tmp_path, **changes)
    assert "\n" not in str(error.value) and contents(tmp_path).items() >= before.items()


def test_networks_that_an_error_left_changed_are_to_be_made_anew(tmp_path):
    """Their weights are neither the first ones nor those of the checkpoint."""
    whole, method = teach(tmp_path / "whole"), Taught()
    with pytest.raises(Killed):
        teach(tmp_path / "run", method, kill_after(3, draw))
    with pytest.raises(
        ValueError, match="student.weights: .*; to resume, make the networks anew with the seed"
    ):
        teach(tmp_path / "run", method)
    assert torch.equal(whole[0].weight, teach(tmp_path / "run")[0].weight)


def test_what_changes_no_result_may_change(tmp_path):
    whole = teach(tmp_path / "whole")
    with pytest.raises(Killed):
        teach(tmp_path / "run", data=kill_after(4, draw))
    resumed = teach(tmp_path / "run", log_every=1, checkpoint_every=3)
    assert torch.equal(whole[0].weight, resumed[0].weight)


def test_a_stopped_method_resumes_in_the_same_session_to_the_same_bits(tmp_path):
    """Its weights are then those of the checkpoint and no longer the first ones."""
    whole, method, draws = teach(tmp_path / "whole"), Taught(), iter(range(3))

    def interrupted(batch, generator):
        if next(draws) == 2:
            signal.raise_signal(signal.SIGINT)
        return draw(batch, generator)

    with pytest.raises(Interrupted, match="stopped at step 3 of 6"):
        teach(tmp_path / "run", method, interrupted)
    resumed = teach(tmp_path / "run", method)
    assert torch.equal(whole[0].weight, resumed[0].weight)
    assert torch.equal(teach(tmp_path / "run", method)[0].weight, resumed[0].weight)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lr": {"first": 0.1}}, r"lr: .* must name exactly the players \['first', 'second'\]"),
        ({"lr": {"first": 0.1, "second": 0.1, "third": 0.1}}, "lr: .* must name exactly the players"),
        ({"lr": {"first": 0.1, "second": "fast"}}, "lr.second: 'fast' is not allowed"),
        ({"lr": {"first": 0.1, "second": math.nan}}, "lr.second: nan is not allowed"),
        ({"ema": {"third": 0.9}}, "ema: .* is not allowed; the players are"),
        ({"betas": (0.9,)}, "betas: .* is not allowed"),
        ({"batch_size": 5, "accumulation": 2}, "batch_size: 5 is not allowed; it must be a multiple"),
        ({"steps": 0}, "steps: 0 is not allowed"),
        ({"decay": "exponential"}, "decay: 'exponential' is not allowed; choose one of"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(Toy(), draw, options(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"a text\n", b"[]\n", b"{}\n", b"[" * 10**5 + b"\n", b"\xff\n", None])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_file_that_is_no_log_is_refused_and_kept(content, resumed, tmp_path):
    log = tmp_path / "log.jsonl"
    if resumed:
        train(Toy(), draw, options(), tmp_path)
        log.unlink()
    log.mkdir() if content is None else log.write_bytes(content)
    with pytest.raises(ValueError, match="log: .*log.jsonl is not the log of a training") as error:
        train(Toy(), draw, options(), tmp_path)
    assert "\n" not in str(error.value) and log.is_dir() == (content is None)
    assert content is None or log.read_bytes() == content


def test_a_resumed_run_writes_the_same_log(tmp_path):
    """Its first lines also have the terms of the player whose turn it is not."""
    often = options(log_every=1, checkpoint_every=1)
    train(Toy(), draw, often, tmp_path / "whole")
    for killed in range(1, 6):
        with pytest.raises(Killed):
            train(Toy(), kill_after(1 if killed > 1 else 2, draw), often, tmp_path / "killed")
    train(Toy(), draw, often, tmp_path / "killed")
    lines = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    for whole, resumed in zip(*lines, strict=True):
        assert whole | {"seconds": 0} == resumed | {"seconds": 0}


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


class Caching(torch.nn.Module):
    """A network that keeps what it has computed, as rotary embeddings do, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.layer, self.cached, self.calls = torch.nn.Linear(4, 4), None, 0

    def forward(self, x):
        self.cached, self.calls = torch.ones(len(x)), self.calls + 1
        return self.layer(x)


def test_what_networks_compute_and_keep_is_no_other_training(tmp_path):
    """The same call in the same session, after the teacher was used, resumes the run."""
    torch.manual_seed(0)
    player, teacher = Caching(), Caching()

    class Method:
        def __init__(self):
            self.players, self.teacher = {"net": player}, teacher

        def losses(self, step, x, generator):
            return {"net": {"loss": (player(x.float()) - teacher(x.float()).detach()).square().mean()}}

    def data(n, generator):
        return torch.randint(4, (n, 4), generator=generator)

    first = train(Method(), data, TrainingOptions(3, 4, {"net": 1e-2}), tmp_path)
    teacher(torch.zeros(2, 4))
    again = train(Method(), data, TrainingOptions(3, 4, {"net": 1e-2}), tmp_path)
    assert teacher.calls > 3 and again.steps == first.steps == 3
