"""A kernel of the running interpreter, whatever kernels are installed."""

import os
from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets import Type

from repsim_nb.runs.interpreter import same_package

AWAKE_MS = 1000  # after which a channel looks again for a message it may have missed


class WakingChannel(AsyncZMQSocketChannel):
    """A channel that looks again for messages.

    zmq tells of a message once. jupyter_client sends through a second, synchronous handle of the same socket, which can
    take that notice: the reply to a cell that writes into an Output widget has then arrived, and is waited for forever.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]  # as its base
        """Wait for a message, at most `timeout` seconds, and look for one every second."""
        while timeout is None and not await self.socket.poll(AWAKE_MS):
            pass
        return await super().get_msg(timeout)


class WakingClient(AsyncKernelClient):
    """A kernel's client that looks again for the reply to a cell."""

    shell_channel_class = Type(WakingChannel)


def this_interpreter(environment: dict[str, str]) -> type[AsyncKernelManager]:
    """A kernel manager that ignores kernel names and starts ipykernel under `sys.executable`.

    The kernel imports the same repsim_nb as this process. `environment` is added to its environment literally, unlike
    the env of a kernel spec, which is a template that expands `$HOME`.
    """
    spec = KernelSpec(**get_kernel_dict())
    spec.argv.append("--log-level=CRITICAL")  # silence the kernel's messages at start and end

    class ThisInterpreter(AsyncKernelManager):
        client_factory = Type(WakingClient)

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **given: Any) -> None:  # type: ignore[override]  # the base is typed as not async
            given["env"] = {**(given.get("env") or os.environ), **same_package(), **environment}
            await super().start_kernel(**given)

    return ThisInterpreter
