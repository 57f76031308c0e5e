"""`[targets]`: what requests may be aimed at besides interfaces."""

from pydantic import Field

from pcapdaemon.core.policy import Strings
from pcapdaemon.core.section import Section


class TargetSettings(Section):
    """What requests may be aimed at besides interfaces, and where this node finds it."""

    allow: Strings = Field(
        ("*",),
        description=(
            "Globs of the targets that requests may name, as `pod:NAMESPACE/NAME`, `container:ID`,"
            " `netns:NAME`, `process:NAME` and `unit:NAME`. An empty array allows none."
        ),
    )
    inside: bool = Field(
        False,
        description=(
            "Whether requests may capture `inside` a target's network namespace, where its loopback"
            " is. It needs the capability CAP_SYS_ADMIN."
        ),
    )
    most: int = Field(
        8, gt=0, le=1024, description="Most interfaces that the targets of a request may have."
    )
    logs: str = Field(
        "/var/log/pods",
        description="Directory in which the kubelet keeps the logs of pods. It has their names.",
    )
    cgroup: str = Field(
        "/sys/fs/cgroup",
        description="Where the cgroups are mounted. They have the processes of pods and units.",
    )
    netns: str = Field("/run/netns", description="Directory of named network namespaces.")
