"""The kernels that run pages: this interpreter, a page's own environment, and a way to end them all.

A kernel watches the process that started it and ends within seconds after that one does.
"""

import os
from pathlib import Path

_managers = set()  # of the kernels that run pages in this process


def kernel_manager(folder: str, cwd: Path, threads: int | None = None):
    """A class of kernel managers that start this interpreter in `cwd`, whatever kernels are registered.

    folder: where `save_records` writes. threads: of torch and numpy in the kernel; None: what OMP_NUM_THREADS
    says here, or 1. The working directory is the kernel's alone, so that pages may run in
    several threads of one process.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    number = os.environ.get("OMP_NUM_THREADS", "1") if threads is None else str(threads)
    environment = {
        "DMMD_PAGE_OUT": folder,
        "OMP_NUM_THREADS": number,
        "TQDM_DISABLE": "1",  # a progress widget would ask the site for scripts
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # with another, figures are lost
    }
    if threads is not None:  # these go before the first where they are set
        environment |= {"MKL_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number}

    class PageKernelManager(AsyncKernelManager):
        def __init__(self, **kwargs):
            super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **kwargs)
            self.kernel_spec.env.update(environment)
            self.kernel_spec.argv.append("--log-level=CRITICAL")  # no word on unencrypted loopback

        async def start_kernel(self, **kwargs):
            await super().start_kernel(**{**kwargs, "cwd": str(cwd)})
            _managers.add(self)

        async def cleanup_resources(self, restart: bool = False):
            _managers.discard(self)
            await super().cleanup_resources(restart)

    return PageKernelManager


def stop_kernels() -> None:
    """Kill every kernel that runs a page in this process; the page then fails."""
    for manager in list(_managers):
        if manager.has_kernel:
            manager.provisioner.process.kill()
