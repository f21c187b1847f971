"""The features of the Fréchet inception distance (arXiv 1706.08500), from the package torch-fidelity.

They need the extra `fid` (pip install "dmmd-lite[fid]") and weights of 91 MB, which no other features can
replace: without them FID is not measured, and the error says where they are found.
"""

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from dmmd_lite.metrics.features import Features
from dmmd_lite.utils.files import made_once, sha256_of
from dmmd_lite.utils.paths import cache_dir, external_data_dir, may_download
from dmmd_lite.worlds.images import ImageWorld

FILES = (
    "weights-inception-2015-12-05-6726825d.pth",
    "pt_inception-2015-12-05-6726825d.pth",
)  # two names of one file
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILES[0]}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
VARIABLE = "DMMD_INCEPTION"  # environment variable with the path of the weights
IMAGES_PER_BATCH = 50  # the network enlarges every image to 299 x 299


class Inception(nn.Module):
    """torch-fidelity's port of the published network, with its 2,048 pooled features."""

    dim = 2048

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def features(self, images: Tensor) -> Tensor:
        """Compute features [n, 2048] of images [n, 1 or 3, height, width] with values in [0, 1]."""
        (features,) = self.network((images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1))
        return features


@cache
def load_inception(world: ImageWorld, device: torch.device | str = "cpu") -> Features:
    """Load the extractor for an image world, on a device.

    ValueError without torch-fidelity, without its weights, and for a file that is not the published one,
    which would be unsafe, as the package unpickles it.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise ValueError(
            f"fid: torch-fidelity cannot be imported ({' '.join(str(error).split())}); pip install"
            " 'dmmd-lite[fid]', with the torchvision that belongs to your torch"
        ) from None
    weights = inception_file()
    if sha256_of(weights) != SHA256:
        raise ValueError(f"fid: {weights} is not the published file, whose sha256 is {SHA256}; get {URL}")
    network = FeatureExtractorInceptionV3(
        "inception", [str(Inception.dim)], feature_extractor_weights_path=str(weights)
    )
    name = f"inception-2015-12-05-{SHA256[:8]}"
    return Features(Inception(network), name, world, device, IMAGES_PER_BATCH)


def inception_file() -> Path:
    """Return the path of the weights, fetched into the cache where DMMD_DOWNLOAD=1; else ValueError."""
    found = local_inception()
    if found:
        return found
    if not may_download():
        raise ValueError(
            f"fid: no {FILES[0]} in DMMD_DATA_DIR; get {URL} and name it in {VARIABLE}, or set"
            " DMMD_DOWNLOAD=1"
        )
    try:
        return made_once(
            cache_dir() / "features" / FILES[0],
            lambda path: torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256),
        )
    except (OSError, RuntimeError) as error:  # RuntimeError: another SHA-256
        raise ValueError(f"fid: {URL} cannot be fetched ({' '.join(str(error).split())})") from None


def local_inception() -> Path | None:
    """Find the weights: $DMMD_INCEPTION, else in $DMMD_DATA_DIR, else downloaded before.

    ValueError where the variable names something that is not a file."""
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).expanduser().is_file():
            raise ValueError(f"{VARIABLE}: {named!r} is not a file; get {URL}")
        return Path(named).expanduser()
    folders = [folder for folder in (external_data_dir(), cache_dir() / "features") if folder]
    return next((folder / name for folder in folders for name in FILES if (folder / name).is_file()), None)
