"""Published checkpoints of discrete diffusion models as teachers.

`from_public` reads a folder with safetensors and config.json, or one of the Hugging Face hub where
DMMD_DOWNLOAD=1 is set; pickles are refused, and no code of a checkpoint is run. The families share one
network (`networks.dit.DiT`) and differ in what its conditioning number and its logits stand for:

| family | noise | conditioning number | logits |
|---|---|---|---|
| mdlm, sdtt | masked | 0 | posterior; that of MASK is ignored |
| sedd | masked | -log alpha | log ratios to MASK's probability up to a constant: posterior |
| duo, udlm | uniform | -log alpha | leave-one-out distribution |

Sources: kuleshov-group/mdlm, jdeschena/sdtt, s-sahoo/duo, kuleshov-group/discrete-diffusion-guidance and
louaaron/Score-Entropy-Discrete-Diffusion on GitHub.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dmmd_lite.models.custom import adapt
from dmmd_lite.models.model import Model
from dmmd_lite.networks.base import SplitNetwork
from dmmd_lite.networks.dit import DiT
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import Count, check_choice, checked
from dmmd_lite.utils.files import read_json, read_tensors
from dmmd_lite.utils.paths import may_download
from dmmd_lite.utils.weights import load_weights
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.tokens import TokensWorld

CONFIG = "config.json"
EMBEDDING = "vocab_embed.embedding"  # its place gives the prefix of all names
ROTARY = "rotary_emb.inv_freq"  # they follow from the sizes, and need not be there
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LENGTHS = ("model_length", "length", "max_length")  # names of the length in configurations
HEADS, HEAD = ("n_heads", "num_heads", "heads"), 64  # names of the number of heads; its width by default
LEAST_ALPHA = 1e-3  # kept at t = 1 by the published schedules, whose numbers are not larger


@dataclass(frozen=True)
class Family:
    """What the numbers of a family's checkpoints mean.

    Args:
    process: name of the noise process. output: the distribution that its logits describe.
    conditioned: whether the network reads -log alpha, and not 0.
    """

    process: str
    output: str
    conditioned: bool


FAMILIES = {
    "mdlm": Family("masked", "posterior", False),
    "sdtt": Family("masked", "posterior", False),
    "sedd": Family("masked", "posterior", True),
    "udlm": Family("uniform", "leave_one_out", True),
    "duo": Family("uniform", "leave_one_out", True),
}


class PublicNetwork(SplitNetwork):
    """A `DiT` as a function of the time t: its number is -log alpha_t, at most 6.9, or 0."""

    def __init__(self, network: DiT, process: Process, conditioned: bool):
        super().__init__()
        self.network, self.process, self.conditioned = network, process, conditioned

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None, held: Tensor | None = None) -> Tensor:
        """Map symbols [B, L] and times t [B] to vectors, as `DiT.hidden` does."""
        number = -self.process.alpha(t).flatten().clamp(min=LEAST_ALPHA).log()
        return self.network.hidden(z, number if self.conditioned else torch.zeros_like(number), noise)

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, L, width] to logits [B, L, V or more]."""
        return self.network.logits(h)


@checked
def from_public(
    source: str | Path,
    family: str | None = None,
    *,
    world: World | None = None,
    length: Count | None = None,
    name: str = "",
) -> Model:
    """Load a published checkpoint as a teacher, with frozen weights in single precision.

    Args:
    source: a folder with config.json and safetensors, or a name on the hub.
    family: a key of `FAMILIES`; None: the one that the configuration or the folder's name mentions.
    world: the data to distil on and to compare with; None: one without data.
    length: of the sequences, where neither a world nor the configuration says it.
    name: of the model.
    Errors: ValueError for a folder without such files, a pickle, a family that is not recognised, names or
    shapes of weights that do not fit, and a world of another vocabulary.
    """
    folder = _folder(source)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if not isinstance(config, dict):
        raise ValueError(f"source: {CONFIG} of {str(folder)!r} is not allowed; it holds no settings")
    known = _family(config, source) if family is None else family
    check_choice("family", known, FAMILIES)
    spec, tensors = FAMILIES[known], _weights(folder)
    network = _network(tensors, config, folder)
    vocab_size = network.vocab_embed.embedding.shape[0] - (spec.process == "masked")
    if world is None:
        size = length or next((config[key] for key in LENGTHS if isinstance(config.get(key), int)), None)
        if size is None:
            raise ValueError(f"length: None is not allowed; neither a world nor {CONFIG} says it")
        world = TokensWorld(name or Path(source).name, {}, vocab_size, size)
    if world.vocab_size != vocab_size:
        raise ValueError(
            f"world: {world.name!r} is not allowed; it has {world.vocab_size} classes,"
            f" the checkpoint {vocab_size}"
        )
    network = PublicNetwork(network, get_process(spec.process, vocab_size), spec.conditioned)
    return adapt(network, world, spec.process, output=spec.output, name=name)


def _folder(source: str | Path) -> Path:
    """Return the folder of a checkpoint, fetched from the hub where that is allowed."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not may_download():
        words = "it is no folder; set DMMD_DOWNLOAD=1 to look for it on the hub"
        raise ValueError(f"source: {str(source)!r} is not allowed; {words}")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(source), allow_patterns=["*.safetensors", CONFIG]))


def _family(config: dict, source: str | Path) -> str:
    """Return the family that a configuration mentions, or else the name of its folder."""
    mentioned = [str(config.get(key, "")) for key in ("model_type", "architectures", "algo", "type")]
    for text in (" ".join(mentioned).lower(), Path(source).name.lower()):
        found = [family for family in FAMILIES if family in text]
        if len(found) == 1:
            return found[0]
    words = f"neither {CONFIG} nor the name says which; give one of {list(FAMILIES)}"
    raise ValueError(f"family: None is not allowed for {str(source)!r}; {words}")


def _weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a folder, with names as in `DiT`."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        words = "it holds no safetensors"
        if pickles:
            words = f"{pickles[0]} is a pickle, which is never read; convert it with the tools of safetensors"
        raise ValueError(f"source: {str(folder)!r} is not allowed; {words}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= read_tensors(file)[0]
        except ValueError as error:
            raise ValueError(f"source: {str(file)!r} is not allowed; {error}") from None
    prefix = next((key.removesuffix(EMBEDDING) for key in tensors if key.endswith(EMBEDDING)), None)
    if prefix is None:
        raise ValueError(f"source: {str(folder)!r} is not allowed; it has no weight {EMBEDDING!r}")
    return {key.removeprefix(prefix): value.float() for key, value in tensors.items()}


def _network(tensors: dict[str, Tensor], config: dict, folder: Path) -> DiT:
    """Make the network that weights fit, its sizes read from them."""
    num_symbols, width = tensors[EMBEDDING].shape
    depth = 1 + max((int(key.split(".")[1]) for key in tensors if key.startswith("blocks.")), default=0)
    heads = next((config[key] for key in HEADS if isinstance(config.get(key), int)), None)
    if heads is None and ROTARY in tensors:
        heads = width // (2 * len(tensors[ROTARY]))
    sizes = {
        "condition": len(tensors.get("sigma_map.mlp.2.bias", [0])),
        "mlp_ratio": len(tensors.get("blocks.0.mlp.0.bias", [0] * width)) // width,
    }
    try:
        network = DiT(num_symbols, width=width, depth=depth, heads=heads or width // HEAD, **sizes)
        load_weights(network, {ROTARY: network.rotary_emb.inv_freq} | tensors)
    except ValueError as error:
        raise ValueError(f"source: the weights of {str(folder)!r} are not allowed ({error})") from None
    return network
