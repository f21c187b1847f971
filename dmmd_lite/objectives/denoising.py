"""Training of teachers: cross-entropy (equation 5) or the continuous-time bound."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.likelihood_bound import bound_at
from dmmd_lite.objectives.terms import soft_cross_entropy, stratified_times, token_nats
from dmmd_lite.processes.base import Process

LOSSES = ("cross_entropy", "bound")


class DenoisingObjective:
    """Train one denoiser on data.

    loss: "cross_entropy" (equation 5 with w = 1, the paper's teachers) or "bound" (masked: weight
    -alpha'/(1-alpha); uniform: the traditional bound). exact: if given, cross-entropy targets are this
    denoiser's probabilities instead of the data's tokens, which fits a network to exact posteriors.
    """

    def __init__(
        self, denoiser: Denoiser, process: Process, loss: str = "cross_entropy", exact: Denoiser | None = None
    ):
        if loss not in LOSSES:
            raise ValueError(f"loss: {loss!r} is not allowed; choose one of {LOSSES}")
        self.players = {"denoiser": denoiser}
        self.process, self.loss, self.exact = process, loss, exact

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Nats per token that carries noise."""
        denoiser, process = self.players["denoiser"], self.process
        t, tokens = stratified_times(len(x), generator, x.device), process.num_noised(x.shape[1])
        if self.loss == "bound":
            return {"denoiser": {"bound": bound_at(denoiser, process, x, t, generator).mean() / tokens}}
        z = process.corrupt(x, t, generator)
        law = predict(denoiser, process, z, t, generator)
        if self.exact is None:
            nats = token_nats(law, x)
        else:
            with torch.no_grad():
                exact = predict(self.exact, process, z, t, generator)
            scored = process.loss_mask(z)
            nats = map_chunks(lambda *logs: {"nats": soft_cross_entropy(*logs)}, [exact, law], [], scored)
            nats = nats["nats"].sum(-1)
        return {"denoiser": {"cross_entropy": nats.mean() / tokens}}
