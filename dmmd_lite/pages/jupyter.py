"""Jupyter kernels that run pages: they use this interpreter and the page's folder, and can all be ended.

A kernel watches the process that started it and ends within seconds after that process.
"""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

_managers = set()  # the managers of all kernels that run pages in this process


def kernel_manager(page: Path, folder: Path, threads: int | None = None):
    """Make a class of kernel managers that start this interpreter in a page's folder, whatever kernels are
    registered. Its attribute `stopped` says whether `stop_kernels` has killed one of its kernels.

    Only the kernel changes its working directory, so pages may run in several threads of one process.

    Args:
    folder: the folder that `save_records` writes to.
    threads: threads of torch and numpy in the kernel; None: OMP_NUM_THREADS of this process, or 1.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    number = os.environ.get("OMP_NUM_THREADS", "1") if threads is None else str(threads)
    environment = {
        "DMMD_PAGE": page.stem,
        "DMMD_PAGE_OUT": str(folder),
        "OMP_NUM_THREADS": number,
        "TQDM_DISABLE": "1",  # a progress widget would ask the site for scripts
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # with another, figures are lost
    }
    if threads is not None:  # where these variables are set, they take precedence over OMP_NUM_THREADS
        environment |= {"MKL_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number}

    class PageKernelManager(AsyncKernelManager):
        stopped = False

        def __init__(self, **kwargs):
            super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **kwargs)
            self.kernel_spec.env.update(environment)
            self.kernel_spec.argv.append("--log-level=CRITICAL")  # no warning of unencrypted loopback

        async def start_kernel(self, **kwargs):
            await super().start_kernel(**{**kwargs, "cwd": str(page.parent)})
            _managers.add(self)

        async def cleanup_resources(self, restart: bool = False):
            _managers.discard(self)
            await super().cleanup_resources(restart)

    return PageKernelManager


def stop_kernels() -> None:
    """Kill every kernel that runs a page in this process; the page then fails."""
    for manager in list(_managers):
        if manager.has_kernel:
            type(manager).stopped = True
            manager.provisioner.process.kill()


def completed(runs: Iterable[Future], asked: list[int]) -> Iterator[Future]:
    """Yield runs of pages, by threads of this process, as they end. Once a signal has been collected in
    `asked`, no other begins, those in progress end with their kernels, and none of them is yielded."""
    waiting = set(runs)
    while waiting and not asked:
        finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        yield from finished
    for run in waiting:
        run.cancel()
    while not all(run.done() for run in waiting):
        stop_kernels()
        time.sleep(0.1)
