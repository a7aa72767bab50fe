"""Pods as network namespaces on this machine: what `tproxy pod`, the demo, the tests and the bench stand on.

    async with open_pod(PodSpec("web")) as web, open_pod(PodSpec("client")) as client:
        await web.start(["nginx", "-g", "daemon off;"])
        page = await client.run(["curl", "http://web/"])

A pod is a network namespace on a bridge that the host does not see, a view of the host's file system
with names of its own, and a pid namespace that ends with its supervisor (`namespaces`, `network`,
`records`). `lifecycle` runs the init step and the sidecar around the applications in it.
"""

from tproxy.lab.lifecycle import open_pod, remove, require_root
from tproxy.lab.namespaces import Stdio
from tproxy.lab.pod import Pod, attach
from tproxy.lab.process import Process
from tproxy.lab.publish import serve
from tproxy.lab.records import Addresses, Lab, Record, State
from tproxy.lab.spec import LabError, PodSpec, Publish, User

__all__ = [
    "Addresses",
    "Lab",
    "LabError",
    "Pod",
    "PodSpec",
    "Process",
    "Publish",
    "Record",
    "State",
    "Stdio",
    "User",
    "attach",
    "open_pod",
    "remove",
    "require_root",
    "serve",
]
