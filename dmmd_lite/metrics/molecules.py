"""Molecules: how many samples are valid, different and new, by rdkit. No trained network decides.

A sample is valid if rdkit reads its SMILES string and the molecule has an atom. Valid samples are compared as
canonical SMILES. Published runs count valid ones among 1,024 samples (UDLM, arXiv 2412.10193); a collapsed
model is valid too, so `valid_unique` is the number to compare models by. Only `fcd` asks a network, one that
others have trained and published.
"""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.feature_distances import frechet
from dmmd_lite.metrics.intervals import mean_share, share_interval, union_error
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds.molecules import Molecules


def valid(tokens: Tensor, world: Molecules) -> Record:
    """Compute the share of valid molecules among samples [n, 24]."""
    found = np.array([smiles is not None for smiles in canonical(world.show(tokens))])
    return Record("valid", *mean_share(found.astype(float)), len(tokens), "rdkit")


def unique(tokens: Tensor, world: Molecules) -> Record:
    """Compute the share of different molecules among the valid samples. It falls with n: compare at equal
    n."""
    found = [smiles for smiles in canonical(world.show(tokens)) if smiles is not None]
    return _distinct("unique", found, len(found), "the valid samples")


def valid_unique(tokens: Tensor, world: Molecules) -> Record:
    """Compute the number of different valid molecules over that of samples [n, 24]; compare at equal n."""
    found = [smiles for smiles in canonical(world.show(tokens)) if smiles is not None]
    return _distinct("valid_unique", found, len(tokens), "rdkit")


def novel(tokens: Tensor, world: Molecules) -> Record:
    """Compute the share of different valid molecules that are not in the training set."""
    different = {smiles for smiles in canonical(world.show(tokens)) if smiles is not None}
    known = set(world.smiles["train"])  # canonical already
    new = np.array([smiles not in known for smiles in sorted(different)], dtype=float)
    value = mean_share(new) if len(new) > 1 else (0.0, 0.0, 1.0)
    return Record("novel", *value, len(new), "the training molecules")


def fcd(tokens: Tensor, world: Molecules, split: str) -> Record:
    """Compute the Fréchet ChemNet distance of the valid samples to the molecules of a split.

    The features are the 512 of the network in the package `fcd` (K. Preuer and others, 2018); the formula is
    that of `feature_distances.frechet`, with its interval and extrapolation. ValueError for fewer than 512
    valid samples.
    """
    require("fcd")
    found = tuple(smiles for smiles in canonical(world.show(tokens)) if smiles is not None)
    record = frechet(_chemnet(found), _chemnet(tuple(world.smiles[split])))
    reference = f"{len(world.smiles[split])} molecules of the {split} split"
    return replace(record, name="fcd", reference=reference, details=record.details | {"split": split})


@cache
def _chemnet(smiles: tuple[str, ...]) -> np.ndarray:
    """Compute ChemNet's features of SMILES strings, [n, 512] in double precision."""
    from fcd import get_predictions, load_ref_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls a function of NumPy by its old name
        return get_predictions(load_ref_model(), list(smiles), n_jobs=0, device="cpu").astype(float)


def canonical(smiles: list[str]) -> list[str | None]:
    """Return the canonical SMILES of strings, None for what is no molecule. ValueError without rdkit."""
    require("rdkit")
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():  # rdkit says why each string is no molecule
        read = [None if "." in text else Chem.MolFromSmiles(text) for text in smiles]
        return [Chem.MolToSmiles(m) if m is not None and m.GetNumAtoms() else None for m in read]


def _distinct(name: str, found: list[str], total: int, reference: str) -> Record:
    """Compute the number of different strings over a total, with the interval of a union."""
    if not found:
        return Record(name, 0.0, *share_interval(0.0, max(1, total)), total, reference)
    item = np.unique(found, return_inverse=True)[1]
    number = np.bincount(item)
    alone = (number[item] == 1).astype(float)
    influence = np.concatenate([alone, np.zeros(total - len(found))])
    influence = influence - len(number) / total
    error, df = union_error(np.arange(len(number)), number, influence)
    value = len(number) / total
    return Record(name, value, *share_interval(value, total, error / total, df), total, reference)
