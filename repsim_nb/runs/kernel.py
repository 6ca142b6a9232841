"""A kernel of the running interpreter, whatever kernels are installed."""

import os
from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from repsim_nb.runs.interpreter import same_package


def this_interpreter(environment: dict[str, str]) -> type[AsyncKernelManager]:
    """A kernel manager that ignores kernel names and starts ipykernel under `sys.executable`.

    The kernel imports the same repsim_nb as this process. `environment` is added to its environment literally, unlike
    the env of a kernel spec, which is a template that expands `$HOME`.
    """
    spec = KernelSpec(**get_kernel_dict())
    spec.argv.append("--log-level=CRITICAL")  # silence the kernel's messages at start and end

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **given: Any) -> None:  # type: ignore[override]  # the base is typed as not async
            given["env"] = {**(given.get("env") or os.environ), **same_package(), **environment}
            await super().start_kernel(**given)

    return ThisInterpreter
