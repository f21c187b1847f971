# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The whole method on one page
#
# **Claim.** Everything D-MMD needs fits on this page: uniform noise, the posterior step, the exact teacher, the
# two losses, the alternating loop and the sampler, in plain PyTorch with no import from the package. The student
# learns `parity` (three bits with an even sum) in two sampling steps. At the end the losses and gradients of this
# page are compared with those of `dmmd_lite` on the same draws: they agree to $10^{-6}$.
#
# Run time: about half a minute on one core of a laptop.

# %% tags=["parameters"]
train_steps: int = 4000  # updates, generator and auxiliary in turn
batch: int = 256  # sequences per update
n_samples: int = 20000  # samples drawn from teacher and student at the end
seed: int = 0  # random seed

# %%
import torch
from torch import nn
from torch.nn.functional import one_hot

torch.manual_seed(seed)
L, V, K = 3, 2, 2  # positions, classes, sampling steps of the student
worlds = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])  # the four outcomes, equally likely


def data(n):
    return worlds[torch.randint(4, (n,))]


# %% [markdown]
# ## Noise
#
# $z_t$ keeps each token of $x$ with probability $\alpha_t = 1-t$ and is uniform otherwise. The step back to $s<t$
# needs the posterior $q(z_s \mid z_t, x)$ (equation 4): the product of "where can $z_s$ go" and "where can it come
# from".


# %%
def corrupt(x, t):
    keep = torch.rand(x.shape) < (1 - t)[:, None]
    return torch.where(keep, x, torch.randint(V, x.shape))


def posterior_step(z, x, s, t):
    a_s, a_t = (1 - s)[:, None, None], (1 - t)[:, None, None]
    to_z = a_t / a_s * one_hot(z, V) + (1 - a_t / a_s) / V
    from_x = a_s * one_hot(x, V) + (1 - a_s) / V
    weights = (to_z * from_x).clamp(min=1e-12)  # equation 4 up to its normaliser
    return torch.distributions.Categorical(weights).sample()


# %% [markdown]
# ## The teacher
#
# Four outcomes can be enumerated, so the teacher here is the truth: $\hat x_\theta(z_t) = E[x \mid z_t]$.


# %%
def teacher(z, t):
    a = (1 - t)[:, None, None]
    likelihood = a * one_hot(z, V) + (1 - a) / V  # q(z_l | x_l = c)
    per_world = torch.stack(
        [likelihood[torch.arange(len(z))[:, None], torch.arange(L), w] for w in worlds], 1
    ).prod(-1)
    weight = per_world / per_world.sum(-1, keepdim=True)  # p(outcome | z)
    return torch.einsum("bw,wlv->blv", weight, one_hot(worlds, V).float()).clamp(1e-3, 1 - 1e-3).log()


# %% [markdown]
# ## Generator and auxiliary
#
# Two small networks of the same shape. Both first learn the teacher's posteriors, so the student starts as a copy
# of the teacher, as in the paper.


# %%
class Net(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        layers = [
            nn.Linear(L * V + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, L * V),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, z, t):
        features = torch.cat([one_hot(z, V).flatten(1).float(), t[:, None]], 1)
        return self.layers(features).view(-1, L, V).log_softmax(-1)


generator, auxiliary = Net(), Net()
adam = torch.optim.Adam(generator.parameters(), lr=3e-3)
for _ in range(train_steps // 8):
    t = torch.rand(batch)
    z = corrupt(data(batch), t)
    loss = -(teacher(z, t).exp() * generator(z, t)).sum(-1).mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
auxiliary.load_state_dict(generator.state_dict())


# %% [markdown]
# ## The two losses and Algorithm 1
#
# With $d = \log\hat x_\varphi(z_s) - \log\hat x_\theta(z_s)$, both held constant, the generator minimises
# $\langle \hat x_\eta(z_t), d\rangle$ (equation 11): probability moves to classes the teacher likes better than the
# auxiliary does. The auxiliary minimises the cross-entropy to the student's hard sample and to the teacher
# (equation 12), so it ends half-way between the two.


# %%
def generator_loss(log_x, log_teacher, log_auxiliary):
    return (log_x.exp() * (log_auxiliary - log_teacher)).sum(-1).mean()  # (11)


def auxiliary_loss(x, log_teacher, log_auxiliary):
    return -((one_hot(x, V) + log_teacher.exp()) * log_auxiliary).sum(-1).mean()  # (12)


def draw(n):
    s = torch.rand(n)
    t = (s + torch.rand(n) / K).clamp(max=1)  # line 1
    z_t = corrupt(data(n), t)  # line 2: from data, no roll-out of the student
    log_x = generator(z_t, t)  # line 3
    x = torch.distributions.Categorical(logits=log_x.detach()).sample()  # line 4
    return s, log_x, x, posterior_step(z_t, x, s, t)  # line 5


players = {"generator": generator, "auxiliary": auxiliary}
optimizers = {k: torch.optim.Adam(p.parameters(), lr=1e-3, betas=(0.0, 0.99)) for k, p in players.items()}
average = Net()
average.load_state_dict(generator.state_dict())
for step in range(train_steps):
    s, log_x, x, z_s = draw(batch)
    log_teacher, log_auxiliary = teacher(z_s, s), auxiliary(z_s, s)
    if step % 2 == 0:  # line 6
        player, loss = "generator", generator_loss(log_x, log_teacher, log_auxiliary.detach())
    else:  # line 7
        player, loss = "auxiliary", auxiliary_loss(x, log_teacher, log_auxiliary)
    for group in optimizers[player].param_groups:
        group["lr"] = 1e-3 * (1 - step / train_steps)
    optimizers[player].zero_grad()
    loss.backward()
    optimizers[player].step()
    with torch.no_grad():
        for a, p in zip(average.parameters(), generator.parameters(), strict=True):
            a.lerp_(p, 0.005)


# %% [markdown]
# ## The sampler, and what came out
#
# One loop for teacher and student: draw $x$ from $\hat x(z_t)$, step to $z_s$, and so on from $t=1$ to $0$.


# %%
def sample(denoiser, steps, n):
    z = torch.randint(V, (n, L))
    with torch.no_grad():
        for k in range(steps, 0, -1):
            t, s = torch.full((n,), k / steps), torch.full((n,), (k - 1) / steps)
            x = torch.distributions.Categorical(logits=denoiser(z, t)).sample()
            z = posterior_step(z, x, s, t) if k > 1 else x
    return z


def invalid(z):
    """Share of samples with an odd sum, and the share of each valid outcome."""
    share = [(z == w).all(-1).float().mean().item() for w in worlds]
    return 1 - sum(share), share


distances = []
for name, denoiser, steps in [("teacher", teacher, 2), ("teacher", teacher, 64), ("student", average, 2)]:
    wrong, share = invalid(sample(denoiser, steps, n_samples))
    distance = 0.5 * (wrong + sum(abs(v - 0.25) for v in share))
    shares = "  ".join(f"{v:.3f}" for v in share)
    print(
        f"{name:8s} {steps:3d} steps: valid outcomes {shares}, odd sums {wrong:.3f}, total variation {distance:.3f}"
    )
    distances.append((name, steps, distance))

# %% [markdown]
# The teacher's two steps put a large part of the mass on odd sums, because each step draws three bits
# independently; it needs many steps to get rid of them. The student of two steps does not.
#
# ## The same numbers as the package
#
# On fixed draws the losses and the gradients of all parameters are compared with `dmmd_lite.objectives.dmmd`.

# %%
from dmmd_lite import DMMD, DMMDSettings, Uniform
from dmmd_lite.objectives.dmmd import DMMDDraw

package = DMMD(generator, auxiliary, nn.Identity(), Uniform(V), DMMDSettings(steps=K))
s, log_x, x, z_s = draw(batch)
log_teacher, log_auxiliary = teacher(z_s, s), auxiliary(z_s, s)
fixed = DMMDDraw(s, log_x, x, z_s)
pairs = {
    "generator": (
        generator_loss(log_x, log_teacher, log_auxiliary.detach()),
        package.generator_terms(fixed, log_teacher, log_auxiliary.detach()),
    ),
    "auxiliary": (
        auxiliary_loss(x, log_teacher, log_auxiliary),
        package.auxiliary_terms(fixed, log_teacher, log_auxiliary),
    ),
}
for name, (ours, terms) in pairs.items():
    theirs, parameters = sum(terms.values()), list(players[name].parameters())
    gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (ours, theirs)]
    apart = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    print(
        f"{name}: loss here {ours.item():+.8f}, in the package {theirs.item():+.8f}; gradients differ by {apart:.1e}"
    )
    assert abs(ours.item() - theirs.item()) < 1e-6 and apart < 1e-6

# %%
from dmmd_lite import Record
from dmmd_lite.utils.records import save_records

records = [
    Record(
        "total_variation", distance, None, None, n_samples, "the world's law", model=name, steps=k, seed=seed
    )
    for name, k, distance in distances
]
save_records("standalone", records)
