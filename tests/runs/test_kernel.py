"""The client of a run's kernel."""

import asyncio
import time

import zmq

from repsim_nb.runs.kernel import this_interpreter


def test_this_interpreter_hears_a_reply_whose_only_notice_was_taken():
    """As when a message to an Output widget is sent through the second handle of the socket on which it arrives."""

    async def heard() -> dict:
        manager = this_interpreter({})()
        with zmq.Context() as context, context.socket(zmq.ROUTER) as kernel:
            manager.shell_port = kernel.bind_to_random_port("tcp://127.0.0.1")
            client = manager.client()
            client.session.send(client.shell_channel.socket, "execute_request")
            identity = kernel.recv_multipart()[0]
            waiting = asyncio.ensure_future(client.shell_channel.get_msg(timeout=None))
            await asyncio.sleep(0.1)
            client.session.send(kernel, "execute_reply", ident=identity)
            time.sleep(0.2)  # it arrives while nothing else runs
            zmq.Socket.shadow(client.shell_channel.socket.underlying).get(zmq.EVENTS)
            try:
                return await asyncio.wait_for(waiting, 5)
            finally:
                client.shell_channel.close()

    assert asyncio.run(heard())["header"]["msg_type"] == "execute_reply"
