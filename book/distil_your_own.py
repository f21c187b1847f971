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
# # Distil your own model
#
# Two ways to a student of a few steps: from data of your own, and from a network that somebody else has trained. Run
# time: about a minute and a half on one core of a laptop.

# %% tags=["parameters"]
steps: int = 4  # sampling steps the students are for
teacher_updates: int = 600  # of the first teacher
student_updates: int = 400  # of each student
their_updates: int = 600  # of the network that is not ours
num: int = 1000  # samples measured
seed: int = 0  # random seed
folder: str = ""  # where runs and models go; empty: a folder that is removed at the end

# %%
import tempfile
from pathlib import Path

removed_at_the_end = tempfile.TemporaryDirectory()
runs = Path(folder or removed_at_the_end.name)

# %% [markdown]
# ## From data
#
# The data here are words, as they come in the docstrings of Python's standard library: those of three to eight letters,
# filled up with spaces. Any integers will do, as rows of one length: a tensor, an array, or a column of a Hugging Face
# `datasets` set. For running text there is `text_world`, which takes a file, a folder or a set on the hub, and for
# pictures an argument `image_shape`. Files of a folder and parts of a set are training, validation or test data by a
# whole word in their names: `train`; `valid`, `validation`, `val` or `dev`; `test`. What is missing is held out of the
# training data, and the records say which file made which split.

# %%
from datasets import Dataset

from dmmd_lite import get_world
from dmmd_lite.worlds.text import SYMBOLS, show_symbols

text = show_symbols(get_world("docstrings").stream("train")[None])[0]
words = [word.ljust(8) for word in text.split() if 3 <= len(word) <= 8]
data = Dataset.from_dict({"tokens": [[SYMBOLS.index(c) for c in word] for word in words]})
print(len(words), "words:", *words[:8])

# %% [markdown]
# From here on, everything you write:

# %%
from dmmd_lite import distil, evaluate, fit_teacher, from_pretrained, save_pretrained, tokens_world

world = tokens_world("words", data, vocab_size=27, symbols=SYMBOLS)
small = {"width": 64, "depth": 2, "heads": 4, "positions": True}
teacher = fit_teacher(world, runs / "teacher", network=small, updates=teacher_updates, seed=seed)
student = distil(teacher, runs / "student", steps, updates=student_updates, seed=seed)
records = []
for model, k in [(teacher, steps), (teacher, 8), (student, steps)]:
    records += evaluate(model, ["kernel_distance", "coverage"], steps=k, num=num, seed=seed)
save_pretrained(student, runs / "words-dmmd", records, license="apache-2.0")

again = from_pretrained(runs / "words-dmmd", world=world)
print(*again.world.show(again.sample(20, steps, seed=seed).tokens))

# %% [markdown]
# The numbers. `kernel_distance` compares samples with held-out words by the joint law of every three positions (squared
# maximum mean discrepancy with the kernel $(1 + \text{share of equal tokens})^3$; 0 is perfect, negative values are
# noise), `coverage` is the share of held-out words with a sample near them. A third number is easy to have for words: how many of
# the samples are words of the data at all.

# %%
import numpy as np

from dmmd_lite import Record
from dmmd_lite.metrics.intervals import mean_share
from dmmd_lite.utils.records import table

known = set(words)


def real_words(model, k):
    """Record of the share of samples that occur in the data."""
    drawn = world.show(model.sample(num, k, seed=seed).tokens)
    share = mean_share(np.array([float(word in known) for word in drawn]))
    return Record("real_words", *share, num, "all data", model=model.name, steps=k, seed=seed)


records += [real_words(model, k) for model, k in [(teacher, steps), (teacher, 8), (again, steps)]]
table(records, ["model", "steps"], digits=3)

# %% [markdown]
# Read the three together. A student of this length of training usually spells more words than its teacher does, in
# half the steps or fewer, and its samples are further from the law of all words: it prefers the frequent ones, as
# students of D-MMD do. Longer training at a lower rate (`updates`, `lr`) gives back some of that; the teacher bounds
# the rest.
#
# ## What was saved
#
# Three files in the style of the Hugging Face hub, on this machine only: the weights, the configuration, and a model
# card that says how the model was made and how it was measured.

# %%
print(*sorted(path.name for path in (runs / "words-dmmd").iterdir()), "\n")
print((runs / "words-dmmd" / "README.md").read_text())

# %% [markdown]
# ## From a network that is not ours
#
# Somebody else's network stands in here for any you may have: a masked language model of plain PyTorch that has never
# heard of diffusion. It numbers letters its own way (0 is padding, 1 the mask, letters begin at 2), wants `input_ids`
# and no time, and was trained by a loop of its own. Any masked language model will do, since the best prediction of a
# masked token does not depend on the time, and so will a diffusion model whose noise is masked or uniform.

# %% tags=["hide-input"]
import torch


class TheirModel(torch.nn.Module):
    """`input_ids` [B, 8] to logits [B, 8, 29]."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(29, 64)
        self.position = torch.nn.Parameter(torch.randn(8, 64) / 8)
        layer = torch.nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(64, 29)

    def forward(self, input_ids):
        return self.head(self.encoder(self.embedding(input_ids) + self.position))


torch.manual_seed(seed)
theirs, ids = TheirModel(), world.split("train") + 2
optimizer = torch.optim.Adam(theirs.parameters(), lr=2e-3)
for _ in range(their_updates):
    x = ids[torch.randint(len(ids), (128,))]
    hidden = torch.rand(x.shape) < torch.rand(len(x), 1)
    logits = theirs(torch.where(hidden, 1, x))
    loss = torch.nn.functional.cross_entropy(logits[hidden], x[hidden])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% [markdown]
# What you write: an adapter, which speaks their language on one side and on the other the package's, a function of
# tokens $z$ (with the mask as token $V$) and times $t$ that gives logits; and the same calls as before. Masked noise
# begins with the same masks every time, so a student of few steps needs other random numbers to differ from itself
# ([Two coins](coins.py)): `draw_noise` draws them. Their weights begin at zero, and so the student as the teacher.
# Without them `distil` warns.

# %%
from dmmd_lite import adapt


class Adapter(torch.nn.Module):
    def __init__(self, theirs):
        super().__init__()
        self.theirs, self.mix = theirs, torch.nn.Parameter(torch.zeros(8, 8 * 27))

    def draw_noise(self, batch, generator):
        return torch.randn(batch, 8, generator=generator)

    def forward(self, z, t, noise=None):
        logits = self.theirs(input_ids=torch.where(z == 27, 1, z + 2))[..., 2:]
        return logits if noise is None else logits + (noise @ self.mix).view(-1, 8, 27)


their_teacher = adapt(Adapter(theirs), world, "masked", name="their-model")
their_student = distil(their_teacher, runs / "theirs", steps, updates=student_updates, lr=5e-4, seed=seed)
save_pretrained(their_student, runs / "their-dmmd")
their_student = from_pretrained(runs / "their-dmmd", network=Adapter(TheirModel()), world=world)

# %%
their_records = [
    record
    for model, k in [(their_teacher, steps), (their_teacher, 8), (their_student, steps)]
    for record in [
        *evaluate(model, ["kernel_distance", "coverage"], steps=k, num=num, seed=seed),
        real_words(model, k),
    ]
]
table(their_records, ["model", "steps"], digits=3)

# %%
from dmmd_lite.utils.records import save_records

save_records("distil_your_own", records + their_records)
removed_at_the_end.cleanup()
