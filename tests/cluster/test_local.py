"""A local cluster is of this machine alone, and its executor is closed with it."""

import psutil

from repsim_nb.system.cluster import opened


def test_opened_starts_a_cluster_that_only_this_machine_can_reach():
    with opened("dask") as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        own = psutil.Process()
        started = own.children(recursive=True)
        sockets = [socket for process in [own, *started] for socket in process.net_connections("inet")]
        listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        workers = [process for process in started if "resource_tracker" not in " ".join(process.cmdline())]
        assert workers
    assert psutil.wait_procs(workers, timeout=60)[1] == []
