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
# # Theory, checked
#
# Why does D-MMD work, if it does? This page puts numbers under equations 6 to 12 of the paper and its appendices A, B and D.
# On a world of a few outcomes every expectation is a finite sum, so nothing is sampled: what should be equal is compared to
# the last digits, what should vanish in a limit is shown to vanish at its rate.
#
# Notation: $\hat x_\theta$ is the teacher, $\hat x_\varphi$ the auxiliary, $\hat x_\eta$ the generator; $z_t$ is noisier
# than $z_s$, $s<t$. $g$ is what the generator implies at $z_s$, $E_{g_\eta}[x \mid z_s]$: it draws tokens at $z_t$, steps
# back, and forgets $z_t$. Run time: seconds on one core of a laptop.

# %% tags=["parameters"]
world_name: str = "parity"  # an enumerable world: coins, parity or permutations
process_name: str = "uniform"  # noise: masked or uniform
s: float = 0.4  # the earlier, cleaner time
t: float = 0.7  # the later, noisier time
train_steps: int = 800  # updates of the two students that are trained at the end; 0: none
seed: int = 0  # of the generator that is checked, and of training

# %%
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from dmmd_lite import DMMD, DMMDSettings, evaluate, get_process, get_recipe, get_world, load_model
from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.models.loading import model_of
from dmmd_lite.objectives.dmmd import DMMDDraw
from dmmd_lite.studies.theory.descent import (
    masked_loss,
    noisy_divergence,
    smoothed,
    subset_divergences,
    subset_shares,
    subset_weights,
    uniform_loss,
)
from dmmd_lite.studies.theory.reverse_kernels import (
    all_states,
    distance,
    implied_posterior,
    noisy_law,
    product_kernel,
    times,
    true_kernel,
)
from dmmd_lite.utils.records import save_records

world = get_world(world_name)
process = get_process(process_name, world.vocab_size)
z = all_states(process, world.length)  # every noisy state, [S, L]
q_t = noisy_law(world, process, t)  # how likely each is at time t
log_theta = log_posterior(world, z, times(s, z), process, floor=1e-4)  # the teacher at z_s, [S, L, V]
theta = log_theta.exp()

torch.manual_seed(seed)
eta = torch.randn(log_theta.shape, dtype=torch.float64).softmax(-1)  # some generator at z_t, far from right
p_s, g = implied_posterior(eta, q_t, process, s, t)
half = (g + theta) / 2
pd.set_option("display.max_colwidth", None)
differences = {}  # what is compared -> the largest difference


def slope(loss, *of):
    """Gradients of a loss, one after the other in one vector."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, of, retain_graph=True)])


def compare(name, a, b):
    differences[name] = float((a - b).abs().max())


# %% [markdown]
# ## Moment matching, continuous data: equations 6, 7, 8
#
# The goal: at every noise level the generator's samples should have the data's mean.
#
# (eq-6)=
# $$\min_\eta\; E\bigl[w(t)\,\lVert E_q[x\mid z_t]-E_{g_\eta}[x\mid z_t]\rVert^2\bigr] \tag{6}$$
#
# The mean of the generator is not known, so an auxiliary network learns it, and the generator follows the difference:
#
# (eq-7)=
# $$L_\mathrm{GEN} = E\bigl[w(s)\,\hat x_\eta(z_t)^\top \mathrm{sg}\bigl(\hat x_\varphi(z_s)-\hat x_\theta(z_s)\bigr)\bigr]
# \tag{7}$$
#
# (eq-8)=
# $$L_\mathrm{AUX} = E\bigl[w(s)\bigl(\lVert \hat x_\eta(z_t)-\hat x_\varphi(z_s)\rVert^2
# +\lVert \hat x_\varphi(z_s)-\hat x_\theta(z_s)\rVert^2\bigr)\bigr] \tag{8}$$
#
# **Checked.** At fixed $z_s$ the slope of (6) in the generator's mean is twice that of (7) where the auxiliary is that mean.
# With the second term of (8), the anchor, the best auxiliary is not the generator's mean but half-way to the
# teacher: the gradient of (8), over all outcomes and states, is zero there.

# %%
mean = g.clone().requires_grad_()
equation_6, equation_7 = (theta - mean).square().sum(), (mean * (g - theta)).sum()
compare("(6): its slope is twice that of (7)", slope(equation_6, mean), 2 * slope(equation_7, mean))

classes = torch.eye(world.vocab_size, dtype=torch.float64)
phi = half.clone().requires_grad_()
squares = (classes - phi.unsqueeze(-2)).square().sum(-1)
to_generator = (g * squares).sum(-1)  # E_g |x - phi|^2 at each position
to_teacher = (phi - theta).square().sum(-1)
compare(
    "(8) has no slope half-way between g and the teacher",
    slope((p_s @ (to_generator + to_teacher)).sum(), phi),
    0,
)

# %% [markdown]
# ## From squares to any loss: equations 9 and 10
#
# (eq-9)=
# $$\min_\eta \max_\varphi\; E\bigl[L_s(x,\hat x_\theta(z_s)) - L_s(x,\hat x_\varphi(z_s))
# - L_s(\hat x_\theta(z_s),\hat x_\varphi(z_s))\bigr] \tag{9}$$
#
# with $x$ from the generator. With squared errors, and $z_s$ held fixed, this is what moment matching does:
#
# (eq-10)=
# $$\nabla_\eta = 2\,w(s)\,\Bigl(\tfrac{d\hat x_\eta}{d\eta}\Bigr)^{\!\top}\bigl(\hat x_\varphi(z_s)-\hat x_\theta(z_s)\bigr)
# = 2\,\nabla_\eta\,(7) \tag{10}$$
#
# **Checked** by differentiating (9) and (7) with respect to the generator's logits, for an arbitrary auxiliary.

# %%
logits = eta.log().requires_grad_()
x_eta = logits.softmax(-1)
phi = torch.randn(theta.shape, dtype=torch.float64).softmax(-1)
expected = [
    (x_eta * (classes - x.unsqueeze(-2)).square().sum(-1)).sum() for x in (theta, phi)
]  # E_x |x - .|^2
equation_9 = expected[0] - expected[1]
equation_7 = (x_eta * (phi - theta)).sum()
compare("(10): slope of (9) is twice that of (7)", slope(equation_9, logits), 2 * slope(equation_7, logits))

# %% [markdown]
# ## Cross-entropy: equations 11 and 12
#
# Discrete models are trained with cross-entropy, and (9) with that loss falls into
#
# (eq-11)=
# $$L_\mathrm{GEN}(\eta) = -\sum_c \hat x_\eta(z_t)_c\,\bigl(\log\hat x_\theta(z_s)-\log\hat x_\varphi(z_s)\bigr)_c \tag{11}$$
#
# (eq-12)=
# $$L_\mathrm{AUX}(\varphi) = -\sum_c \bigl(x+\hat x_\theta(z_s)\bigr)_c \log\hat x_\varphi(z_s)_c \tag{12}$$
#
# **Checked**, with the package's own losses: the slope of (9) in the generator is that of [(11)](#eq-11), its slope in the
# auxiliary, averaged over the tokens that come with each state, minus that of [(12)](#eq-12); and the table that minimises (12), found by a general optimiser, is
# $\tfrac12(g+\hat x_\theta)$.

# %%
method = DMMD(nn.Identity(), nn.Identity(), nn.Identity(), process, DMMDSettings(steps=1, target="hard"))
scored = process.loss_mask(z)  # masked noise: positions still masked
logits, auxiliary = eta.log().requires_grad_(), phi.log().requires_grad_()
log_eta, log_phi = logits.log_softmax(-1), auxiliary.log_softmax(-1)
draw = DMMDDraw(times(s, z), log_eta, torch.zeros_like(z), z)


def scale(per_position):
    """As the package reduces: summed over scored positions, averaged over states, per token."""
    return torch.where(scored, per_position, 0).sum(-1).mean() / world.length


(package_11,) = method.generator_terms(draw, log_theta, log_phi.detach()).values()
equation_9 = scale(-(log_eta.exp() * log_theta).sum(-1) + (log_eta.exp() * log_phi.detach()).sum(-1))
compare("slope of (9) in the generator is that of (11)", slope(equation_9, logits), slope(package_11, logits))

share = g.detach()  # E_g[x | z_s]: how often each x comes with this z_s


def equation_12(log_phi):
    """(12) summed over the states and the tokens that come with them."""
    student = -(share * log_phi).sum(-1)
    anchor = -(theta * log_phi).sum(-1)
    return torch.where(scored, student + anchor, 0).sum()


def package_12(log_phi):
    """The package's (12) at every token, averaged as often as it comes with each state."""
    values = []
    for c in range(world.vocab_size):
        terms = method.auxiliary_values(replace(draw, x=torch.full_like(z, c)), log_theta, log_phi)
        values.append(share[..., c] * sum(terms.values()))
    return torch.where(scored, sum(values), 0).sum()


def equation_9_of_phi(log_phi):
    taught = sum(share[..., c] * (log_theta - log_phi)[..., c] for c in range(world.vocab_size))
    return torch.where(scored, -taught + (theta * log_phi).sum(-1), 0).sum()


compare(
    "slope of (9) in the auxiliary is minus that of (12)",
    slope(equation_9_of_phi(auxiliary.log_softmax(-1)), auxiliary),
    -slope(package_12(auxiliary.log_softmax(-1)), auxiliary),
)
compare(
    "(12) of the package, token by token, is the sum over them",
    slope(package_12(auxiliary.log_softmax(-1)), auxiliary),
    slope(equation_12(auxiliary.log_softmax(-1)), auxiliary),
)

best = torch.zeros_like(theta, requires_grad=True)
optimizer = torch.optim.LBFGS(
    [best], max_iter=1000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
)


def closure():
    optimizer.zero_grad()
    loss = equation_12(best.log_softmax(-1))
    loss.backward()
    return loss


optimizer.step(closure)
compare("the least of (12) is half-way", best.detach().softmax(-1)[scored], half[scored])

# %% [markdown]
# **What is descended.** With the auxiliary at its best, (11) has the slope of $2\,\mathrm{KL}(m\,\|\,\hat x_\theta)$,
# $m=\tfrac12(g+\hat x_\theta)$: a reverse divergence softened half-way. Its pull is bounded: no class attracts with more
# than $\log 2$, because $\log \hat x_\varphi - \log\hat x_\theta \ge \log\tfrac12$ there. Its push is not, where the
# teacher's probability is tiny.

# %%
logits = g.clamp(min=1e-9).log().requires_grad_()
free = logits.softmax(-1)
m = (free + theta) / 2
divergence = 2 * (m * (m.log() - log_theta)).sum()
equation_11 = (free * (m.detach().log() - log_theta)).sum()
compare("slope of (11) is that of 2 KL(m | teacher)", slope(equation_11, logits), slope(divergence, logits))
pull = float((m.detach().log() - log_theta).min())
print(f"strongest attraction: {-pull:.4f}, log 2 = {torch.tensor(2.0).log():.4f}")
assert pull >= -0.6931472

# %%
pd.DataFrame({"largest difference": {name: f"{value:.1e}" for name, value in differences.items()}})

# %%
assert max(differences.values()) < 1e-6, "an equation does not hold"

# %% [markdown]
# ## What one step descends
#
# In (11) $z_s$ is held constant, though it is made of the student's own tokens. What does that lose? For a student of one step
# under masked noise, a mixture over its input noise of product distributions $p_g$, **nothing**. For a set $A$ of positions
# let $F_A=\mathrm{KL}(p_g(x_A)\,\|\,p_\theta(x_A))$. The slope of $F_A$ in the probability of a class at position $k\in A$ is
# $\log p_g(x_k\mid x_R)-\log p_\theta(x_k\mid x_R)$ up to a term without the class, where $R$ is $A$ without $k$; and that is
# the bracket of (11) at a $z_s$ that shows exactly $R$, with the auxiliary at its best and no anchor. So D-MMD descends
#
# $$\sum_A c_{|A|}\,F_A,\qquad c_m=\int_0^1 p(s)\,w(s)\,(1-s)^{m-1}s^{L-m+1}\,ds .$$
#
# Under uniform noise it is not the slope of $\mathrm{KL}(p_g(z_s)\,\|\,p_\theta(z_s))$. That one has
# $\alpha_s\bigl(\log(\alpha_s v_\varphi+\tfrac{1-\alpha_s}V)-\log(\alpha_s v_\theta+\tfrac{1-\alpha_s}V)\bigr)_c$ in the place of the
# bracket, with the leave-one-out distributions $v$; both vanish where student and teacher agree. **Checked** by enumeration
# against automatic differentiation, for a random student with three values of its noise.

# %%
rows = {}
for name in ("coins", "parity", "permutations"):
    smooth = smoothed(get_world(name))  # every sequence possible, so that all divergences are finite
    logits = torch.randn(3, smooth.length, smooth.vocab_size, dtype=torch.float64).requires_grad_()
    weights, uniform = subset_weights(smooth.length), get_process("uniform", smooth.vocab_size)

    def of(loss, *arguments, logits=logits, smooth=smooth):
        return slope(loss(logits.log_softmax(-1), smooth, *arguments), logits)

    masked_gap = (of(subset_divergences, weights) - of(masked_loss, weights)).abs().max()
    noisy = of(noisy_divergence, uniform, s)
    exact_form, moment = (of(uniform_loss, uniform, s, form) for form in ("exact", "moment"))
    compare(
        f"{name}: (11) in one masked step is the slope of the divergences of subsets",
        masked_gap,
        torch.zeros(()),
    )
    compare(f"{name}: the exact form for uniform noise is the slope of the divergence", noisy, exact_form)
    rows[name] = {
        "masked: largest difference": f"{float(masked_gap):.0e}",
        "uniform, exact form": f"{float((noisy - exact_form).abs().max()):.0e}",
        "uniform, (11): length over the exact one's": f"{float(moment.norm() / noisy.norm()):.2f}",
        "cosine to it": f"{float(moment @ noisy / moment.norm() / noisy.norm()):.3f}",
    }
assert max(differences.values()) < 1e-6, "a slope is another one"
pd.DataFrame(rows).transpose()

# %% [markdown]
# How much of the weight falls on sets of each size, for four positions: the recipe's times spend most of it on single
# positions, which know nothing of what goes together, and next to nothing on the joint distribution.

# %%
shares = {
    "bridge, w = 1 (the recipes)": subset_shares(4),
    "t = 1, w = 1": subset_shares(4, "start"),
    "t = 1, w = 1/s (the bound's)": subset_shares(4, "start", "bound"),
}
columns = [f"{m} position{'s' * (m > 1)}" for m in range(1, 5)]
pd.DataFrame(
    {name: [f"{x:.1%}".replace("%", " %") for x in share] for name, share in shares.items()}, index=columns
).transpose()

# %% [markdown]
# ## Appendices A and B: means are enough
#
# A denoiser gives means, position by position: it knows nothing of which tokens go together. Two facts make it enough.
# In a short time $dt$ hardly more than one position changes, so a step by independent draws differs from the true reverse
# step by $O(dt^2)$ only (first table: halving $dt$ divides the distance by four). And $K$ steps of that kind leave $O(1/K)$
# in the end (second table: steps times distance settles). So if all means agree, the laws do; and a student whose implied
# means agree with the teacher's has the teacher's law. Few steps are where this argument ends, and where distillation
# begins.

# %%
gaps = [0.2, 0.1, 0.05, 0.025, 0.0125]
weight = q_t
means = log_posterior(world, z, times(t, z), process, 0).exp()
apart = [
    distance(true_kernel(world, process, t - dt, t), product_kernel(means, process, t - dt, t), weight)
    for dt in gaps
]
pd.DataFrame(
    {
        "dt": gaps,
        "distance of the kernels": [f"{d:.2e}" for d in apart],
        "over dt squared": [f"{d / dt**2:.3f}" for d, dt in zip(apart, gaps, strict=True)],
    }
)

# %%
exact = load_model(f"{world_name}-{process_name}-exact")
steps = [1, 2, 4, 8, 16, 32, 64, 128]
records = [r for k in steps for r in evaluate(exact, ["total_variation"], steps=k)]
pd.DataFrame(
    {
        "steps": steps,
        "total variation": [f"{r.value:.4f}" for r in records],
        "steps times it": [f"{r.steps * r.value:.3f}" for r in records],
    }
)

# %%
assert 3 < apart[-2] / apart[-1] < 5, "the kernels do not approach each other as dt squared"
assert 1.5 < records[-2].value / records[-1].value < 2.5, "the law does not approach the world's as 1 / K"

# %% [markdown]
# ## Appendix D beside the main form
#
# Teachers of uniform noise that were trained with the traditional bound do not learn $E[x\mid z_t]$ but the leave-one-out
# law. For them appendix D puts the law of the next small step, $\pi_{s-ds}(v)$ (equation 4 with probabilities $v$ in place
# of $x$), into both losses:
#
# $$L_\mathrm{GEN} = \frac1{ds}\sum_c \pi_{s-ds}(\hat x_\eta)_c\,\log\frac{\pi_{s-ds}(\hat x_\varphi)_c}{\pi_{s-ds}(\hat x_\theta)_c}$$
#
# The package has it in the limit $ds\to0$ (`form="reverse_kernel"`). **Checked:** the finite form approaches the package's,
# with a difference in proportion to $ds$. Like the main form it is zero where auxiliary and teacher agree.

# %%
uniform = get_process("uniform", world.vocab_size)
states = all_states(uniform, world.length)
laws = [torch.randn(*states.shape, world.vocab_size, dtype=torch.float64).softmax(-1) for _ in range(3)]


def posterior_of(v):
    """A leave-one-out law as the posterior the package's denoisers give."""
    return (v * uniform.likelihood(states, times(s, states))).log().log_softmax(-1)


kernel_form = DMMD(
    nn.Identity(), nn.Identity(), nn.Identity(), uniform, DMMDSettings(steps=1, form="reverse_kernel")
)
draw = DMMDDraw(times(s, states), laws[0].log(), torch.zeros_like(states), states)
(limit,) = kernel_form.generator_terms(draw, posterior_of(laws[1]), posterior_of(laws[2])).values()


def finite(ds):
    at = times(s - ds, states), times(s, states)
    student, teacher, auxiliary = (uniform.posterior_given_probs(states, v, *at) for v in laws)
    return (student * (auxiliary / teacher).log()).sum(-1).sum(-1).mean() / world.length / ds


shrinking = [0.1, 0.01, 0.001, 0.0001]
errors = [abs(float(finite(ds) - limit)) for ds in shrinking]
print(f"limit, as in the package: {limit:.6f}")
pd.DataFrame({"ds": shrinking, "difference": [f"{e:.1e}" for e in errors]})

# %%
assert 5 < errors[1] / errors[2] < 20, "the finite form does not approach the limit in proportion to ds"
same = kernel_form.generator_terms(draw, posterior_of(laws[1]), posterior_of(laws[1]))
assert abs(float(same["moment"])) < 1e-12

# %% [markdown]
# Trained side by side on the two coins under uniform noise, one step, the same number of updates: total variation from the
# world (least is best). The exact teacher can serve both, because each is given the law it asks for. One seed and a short
# run: this shows that both work, not which is better; the paper calls its traditional uniform teachers clearly worse.

# %%
rows = {}
for form in ("cross_entropy", "reverse_kernel") if train_steps else ():
    changes = {"training.steps": train_steps, "method.form": form}
    student = model_of(get_recipe("coins-uniform-dmmd-1", changes=changes), seed)
    measured = evaluate(student, ["total_variation", "invalid_mass"], steps=1)
    records += [replace(r, details={**r.details, "form": form, "updates": train_steps}) for r in measured]
    rows[form] = {r.name: round(r.value, 3) for r in measured}
pd.DataFrame.from_dict(rows, orient="index")

# %%
save_records("theory", records)
