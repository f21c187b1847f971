"""What every test shares: quiet threads, no network, seeded randomness, and the book built once."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from helpers import ROOT

from dmmd_lite.utils.rng import generator_for


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=1, help="disturbances of each kind in test_kills.py (1)")
    parser.addoption("--fuzz-seconds", type=float, default=40, help="how long test_fuzz.py tries values")
    parser.addoption("--fuzz-seed", type=int, default=0, help="seed of the values of test_fuzz.py")


def pytest_configure():
    torch.set_num_threads(1)
    os.environ["MPLBACKEND"] = "Agg"  # of this process; the kernels that run pages choose their own
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("DMMD_CACHE_DIR", str(ROOT / "_build" / "cache"))


@pytest.fixture
def rng() -> torch.Generator:
    """A generator seeded with $DMMD_TEST_SEED (0)."""
    return generator_for("cpu", int(os.environ.get("DMMD_TEST_SEED", "0")))


@contextmanager
def building():
    """One test process builds at a time; the others then find everything unchanged."""
    (ROOT / "_build").mkdir(exist_ok=True)
    with FileLock(ROOT / "_build" / "tests.lock"):
        yield


@pytest.fixture(scope="session")
def smoke_pages() -> dict[str, str | None]:
    """Every page of the book run at smoke scale: name -> None, or what went wrong."""
    from dmmd_lite.pages.site import run_pages

    with building():
        return run_pages("smoke")


@pytest.fixture(scope="session")
def smoke_site(smoke_pages) -> Path:
    """The site built from the smoke pages, warnings counting as errors."""
    from dmmd_lite.pages.site import build_book

    failed = [failure for failure in smoke_pages.values() if failure]
    if failed:
        pytest.fail("\n".join(failed))
    with building():
        return build_book("smoke")
