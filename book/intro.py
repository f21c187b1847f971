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
# # dmmd_lite
#
# A page to test with. The law of a token is $p(x_\ell \mid z_t)$.
#
# $$\alpha_t = \cos(\pi t / 2)$$

# %% tags=["parameters"]
scale: str = "laptop"  # scale of the run, = how large (see scales.toml)
n_points: int = 50  # number of points
rate: float = 0.5  # decay
values: list[int] = [1, 2, 3]  # a list

# %%
import base64
import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

from dmmd_lite.pages import save_records


# %%
def show(fig, alt):
    buf = io.BytesIO()
    fig.savefig(buf, format="png", dpi=80)
    plt.close(fig)
    png = base64.b64encode(buf.getvalue()).decode()
    display(
        {"text/html": f'<img alt="{alt}" src="data:image/png;base64,{png}">', "text/plain": alt}, raw=True
    )


t = np.linspace(0, 1, n_points)
fig, ax = plt.subplots(figsize=(4, 2.5))
ax.plot(t, np.cos(np.pi * t / 2) ** rate)
ax.set_xlabel("$t$")
show(fig, "The schedule falls from one to zero.")

# %%
save_records("intro", [{"name": "points", "value": n_points, "scale": scale}], claim=True)
