"""Glyphs: letters and digits of matplotlib's fonts under random affine maps, 16 x 16 pixels, without end.

Pillow draws every character of every font once, large; torch applies the maps to these drawings, a batch at a
time. A training image is a fresh font, character and map, so training never sees an image twice; "valid" and
"test" are samples of the same distribution from other seeds. Therefore no generator can win by copying: there
is no training set, maps are six continuous numbers, and a fresh copy of the training stream would score what
the distribution itself scores (`frechet_floor`) and no better.
"""

import string
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from dmmd_lite.utils.checks import checked
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import sha256_of
from dmmd_lite.utils.rng import generator_for, integers, uniform
from dmmd_lite.worlds.images import ImageWorld, Levels

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
FONTS = (  # the fonts of matplotlib that have all characters
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-BoldItalic", "-Italic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "BolIta", "Italic")),
    *("cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
LARGE, FONT_SIZE, BASELINE = 64, 48, 46  # pixels: side of a drawing, size of the font, row of the baseline
SIZE, FINER = 16, 2  # side of an image in pixels; samples per pixel in each direction
PART = 250  # images rendered together
HELD_OUT = {"valid": (5000, 7_201_001), "test": (5000, 7_202_003)}  # images and their seed
TURN, SHEAR, STRETCH, SHIFT = 0.21, 0.2, 0.15, 0.125  # maxima: radians, -, logarithm, half sides


class Glyphs(ImageWorld):
    """256 tokens of 16 or another number of levels; labels are the 62 characters.

    A map turns by up to 12 degrees, shears by up to 0.2, stretches each axis by up to 16 % and shifts by up
    to one pixel; every number is uniform.
    """

    length, image_shape, num_classes = SIZE * SIZE, (SIZE, SIZE, 1), len(CHARACTERS)
    traits, extractor = ImageWorld.traits - {"finite"}, "glyphs-classifier"
    packages = ("matplotlib", "PIL")

    @checked
    def __init__(self, levels: Levels = 16, name: str = "glyphs"):
        self.name, self.vocab_size = name, levels

    @cached_property
    def drawings(self) -> Tensor:
        """The drawing of every character of every font, uint8 [fonts, characters, 64, 64]; ValueError for a
        font that matplotlib does not have."""
        require(*self.packages)
        import matplotlib
        from PIL import Image, ImageDraw, ImageFont

        folder, drawn = Path(matplotlib.get_data_path()) / "fonts" / "ttf", []
        for name in FONTS:
            try:
                font = ImageFont.truetype(
                    folder / f"{name}.ttf", FONT_SIZE, layout_engine=ImageFont.Layout.BASIC
                )
            except OSError:
                raise ValueError(
                    f"glyphs: matplotlib {matplotlib.__version__} has no font {name!r}; all are needed"
                ) from None
            for character in CHARACTERS:
                image = Image.new("L", (LARGE, LARGE))
                place = (LARGE // 2, BASELINE)
                ImageDraw.Draw(image).text(place, character, fill=255, font=font, anchor="ms")
                drawn.append(np.asarray(image))
        return torch.from_numpy(np.stack(drawn)).view(len(FONTS), len(CHARACTERS), LARGE, LARGE)

    @cached_property
    def provenance(self) -> dict:
        """The fonts, the versions that drew them, and the SHA-256 of the drawings."""
        import matplotlib
        import PIL

        return {
            "glyphs_sha256": sha256_of(self.drawings.numpy().tobytes()),
            "matplotlib": matplotlib.__version__,
            "pillow": PIL.__version__,
            "fonts": ", ".join(FONTS),
        }

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The held-out sets: tokens, uint8 [n, 256], and characters [n]."""
        sets = {split: self.draw(n, generator_for("cpu", seed)) for split, (n, seed) in HELD_OUT.items()}
        return {split: (x.to(torch.uint8), y) for split, (x, y) in sets.items()}

    def draw(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `num` fresh images, int64 [num, 256], and the characters they show [num]."""
        font = integers(len(FONTS), (num,), generator)
        character = integers(len(CHARACTERS), (num,), generator)
        maps = affine_maps(2 * uniform((6, num), generator).float() - 1)
        parts = zip(*(v.split(PART) for v in (font, character, maps)), strict=True)
        return torch.cat([self._render(*part) for part in parts]), character

    def _render(self, font: Tensor, character: Tensor, maps: Tensor) -> Tensor:
        drawings = self._ink.to(maps.device)[font, character].unsqueeze(1)
        fine = grid_sample(drawings, sampling_points(maps), align_corners=False)
        return (avg_pool2d(fine, FINER).flatten(1) * (self.vocab_size - 1)).round().long()

    @cached_property
    def _ink(self) -> Tensor:
        return self.drawings.float() / 255


def affine_maps(u: Tensor) -> Tensor:
    """Make affine maps [n, 2, 3] from the image's square [-1, 1]^2 to the drawing's, for u [6, n]."""
    angle, shear, (wide, high) = TURN * u[0], SHEAR * u[1], (STRETCH * u[2:4]).exp()
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos * wide, (shear * cos - sin) * high, SHIFT * u[4]], -1)
    down = torch.stack([sin * wide, (shear * sin + cos) * high, SHIFT * u[5]], -1)
    return torch.stack([across, down], 1)


def sampling_points(maps: Tensor) -> Tensor:
    """Compute where the fine pixels of an image lie in the drawing, [n, 32, 32, 2]; rows go down."""
    side = FINER * SIZE
    middles = (2 * torch.arange(side, device=maps.device) + 1) / side - 1
    x_part, y_part, shift = maps.unsqueeze(1).unbind(-1)  # [n, 1, 2] each
    columns = middles.view(1, side, 1) * x_part + shift
    return columns.unsqueeze(1) + (middles.view(1, side, 1) * y_part).unsqueeze(2)


def glyphs256() -> Glyphs:
    """Make the world of the same images with 256 levels."""
    return Glyphs(256, "glyphs256")
