"""Targets of requests: the message's fields, and a node's directories of cgroups and logs."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core import intake
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.interface import Interface, InterfaceKind, Target, TargetKind, described
from pcapdaemon.core.plan import CapturePlan, Rejection, make_plan
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import validate
from pcapdaemon.core.target import TARGETS, Asked, Found, Refused
from pcapdaemon.targets import cgroups, pods
from pcapdaemon.targets.lookup import look_up
from pcapdaemon.targets.settings import TargetSettings
from pcapdaemon.triggers.template import Unfilled, example, filled, template_problems

UID = "0a1b2c3d-1111-2222-3333-444455556666"
OTHER = "ffffffff-1111-2222-3333-444455556666"
STATIC = "0123456789abcdef0123456789abcdef"
ID = "c0ffee" + 58 * "1"


def problems_of(**fields: Any) -> list[str]:
    return [str(problem) for problem in validate(fields)[1]]


@pytest.mark.parametrize(
    "fields",
    [
        {"pod": "shop/web-1"},
        {"pod": ["shop/web-*", "*/db-[01]"]},
        {"pod": "shop/web-1", "container": "app"},
        {"pod": "shop/web-1", "inside": True, "interface": ["lo", "eth0"]},
        {"container": "c0ffee111111"},
        {"node": "any", "netns": "blue"},
        {"node": "any", "process": 1234},
        {"node": "any", "process": ["nginx", 7]},
        {"nodere": "web", "unit": "nginx"},
        {"node": "any", "pod": "shop/web-1"},
    ],
    ids=str,
)
def test_a_target_stands_in_for_an_interface(fields: dict[str, Any]) -> None:
    assert problems_of(**fields) == []
    assert validate(fields)[0].targets


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pod": "web"}, "pod.0: must be"),
        ({"pod": "a/b/c"}, "pod.0: must be"),
        ({"pod": "../x/y"}, "pod.0: must be"),
        ({"pod": "shop/web", "interface": "eth0"}, "interface: can't be combined with pod"),
        ({"pod": "shop/web", "alias": "lan"}, "alias: can't be combined with pod"),
        ({"container": "app"}, "container: app: give pod too"),
        ({"node": "any", "netns": "../../etc"}, "netns.0: must have only"),
        ({"node": "any", "netns": ".."}, "netns.0: must have only"),
        ({"node": "any", "unit": "a b"}, "unit.0: must have only"),
        ({"netns": "blue"}, "node: must be present"),
        ({"node": "any", "process": 0}, "interface: must be present"),
        ({"node": "any", "interface": "lo", "process": False}, "process.0: must be"),
        ({"pod": "a/b", "unit": "web"}, "unit: can't be combined with pod"),
        ({"node": "any", "interface": "eth0", "inside": True}, "inside: must come with one of"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    (problem,) = problems_of(**fields)
    assert problem.startswith(words)


def test_what_is_wrong_needs_no_look() -> None:
    assert intake.targets_of({"pod": "a/b"}, {}) == Asked(pods=("a/b",))
    for fields in ({"container": "app"}, {"pod": "a/b", "unit": "x"}, {"pod": "x"}):
        assert intake.targets_of(fields, {}) is None
    assert intake.targets_of({"pod": "a/b", "packets": -1}, {}), "another node answers that"


def test_the_names_of_units_may_lack_their_kind() -> None:
    asked = validate({"node": "any", "unit": ["nginx", "a.socket", "my.app"]})[0].targets
    assert asked
    assert asked.units == ("nginx.service", "a.socket", "my.app.service")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*TARGETS, "inside", "interface", "node"]), VALUES))
def test_any_value_is_taken_or_refused_in_words(fields: dict[str, Any]) -> None:
    _, problems = validate(fields)
    assert all(problem.message for problem in problems)
    asked = intake.targets_of(fields, {})
    if asked and not problems:
        assert any((asked.pods, asked.containers, asked.netns, asked.processes, asked.units))
        for name in (*asked.netns, *asked.units, *asked.processes):
            assert "/" not in name and name not in (".", "..")  # noqa: PT018


def test_an_alert_names_one_pod_and_no_others() -> None:
    wanted = {"pod": "{ns}/{pod}", "container": ["{id}"]}
    assert template_problems(wanted) == []
    assert validate({"node": "any", **example(wanted)})[1] == []
    alert = {"ns": "shop", "pod": "web-1", "id": "c0ffee111111"}
    made = {"pod": "shop/web-1", "container": ["c0ffee111111"]}
    assert filled(wanted, alert) == made
    for bad in ("*", "web-?", "[a]"):
        with pytest.raises(Unfilled):
            filled(wanted, {**alert, "pod": bad})
    assert problems_of(**filled(wanted, {**alert, "pod": "a/b"}))


def plan_of(found: Found, **fields: Any) -> CapturePlan | Rejection:
    request, problems = validate({"node": "any", "pod": "shop/web-*", **fields})
    policy = Policy(interfaces=("veth*",), filename="{target}-{interface}-{id}.pcap")
    around = Surroundings("here", 1.0, {}, {}, targets=found)
    return make_plan("ID", request, problems, policy, around)


def test_a_plan_has_the_interfaces_of_the_targets() -> None:
    target = Target(TargetKind.POD, "shop/web-1", UID)
    refused = Refused(TargetKind.POD, "shop/web-2", "why")
    there = Interface("veth1", InterfaceKind.NETWORK, target=target)
    other = Interface("cali1", InterfaceKind.NETWORK, target=target)
    plan = plan_of(Found((there, other), (refused,)))
    assert isinstance(plan, CapturePlan)
    (part,) = plan.captures
    assert part.file_name == "shop_web-1-veth1-ID.pcap"
    assert "pod:shop/web-1," in part.tags
    not_allowed = "cali1: [general] interfaces does not allow it"
    assert plan.unavailable == (("shop/web-2", "why"), ("shop/web-1", not_allowed))


def test_one_file_of_several_targets_names_them_all() -> None:
    targets = [
        Target(TargetKind.NETNS, "a", inside=True),
        Target(TargetKind.NETNS, "b", inside=True),
        Target(TargetKind.PROCESS, "c", inside=True),
    ]
    there = tuple(
        Interface(f"any@{one.label}", InterfaceKind.ANY, target=one, namespace="/x")
        for one in targets
    )
    plan = plan_of(Found(there), merge=True, tags="netns:a")
    assert isinstance(plan, CapturePlan)
    assert plan.whole.target == {"netns": "a+b", "process": "c", "inside": True}
    interfaces = "any@netns:a+any@netns:b+any@process:c"
    tags = f"netns:a,node:here,netns:a,netns:b,process:c,interface:{interfaces},snaplength:500"
    assert plan.whole.tags == tags
    assert described([]) is None


def test_without_any_interface_a_request_is_rejected_with_all_reasons() -> None:
    refused = Refused(TargetKind.POD, "shop/web-2", "why")
    found = plan_of(Found((), (refused, refused)))
    assert isinstance(found, Rejection)
    assert [str(problem) for problem in found.problems] == 2 * ["pod: shop/web-2: why"]


def test_captures_of_other_targets_are_not_shared() -> None:
    def plan(target: Target) -> CapturePlan:
        there = Interface("veth1", InterfaceKind.NETWORK, target=target)
        made = plan_of(Found((there,)))
        assert isinstance(made, CapturePlan)
        return made

    first = plan(Target(TargetKind.POD, "shop/db-0", UID))
    assert first.equals(plan(Target(TargetKind.POD, "shop/db-0", UID)))
    assert not first.equals(plan(Target(TargetKind.POD, "shop/db-0", OTHER)))
    assert not first.equals(plan(Target(TargetKind.CONTAINER, "shop/db-0", UID)))


class Node:
    """A node's directories, with groups and logs as different programs make them."""

    def __init__(self, directory: Path) -> None:
        self.logs, self.cgroup = directory / "logs", directory / "cgroup"
        self.logs.mkdir()
        self.cgroup.mkdir()
        (self.cgroup / "cgroup.controllers").touch()

    def log(self, name: str, uid: str, *containers: str) -> None:
        for container in containers or ("app",):
            (self.logs / f"{name.replace('/', '_')}_{uid}" / container).mkdir(parents=True)

    def group(self, path: str, *pids: int) -> Path:
        group = self.cgroup / path
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return group

    def settings(self, **more: Any) -> TargetSettings:
        return TargetSettings(logs=str(self.logs), cgroup=str(self.cgroup), **more)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


SYSTEMD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice"
GROUPS = {
    "systemd, containerd": f"{SYSTEMD.format(UID.replace('-', '_'))}/cri-containerd-{ID}.scope",
    "systemd, CRI-O": f"{SYSTEMD.format(UID.replace('-', '_'))}/crio-{ID}.scope",
    "systemd, guaranteed": f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{ID}",
    "cgroupfs": f"kubepods/besteffort/pod{UID}/{ID}",
    "below another group": f"system.slice/k3s.service/kubepods/burstable/pod{UID}/{ID}",
    "kubelet.slice": f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice/{ID}",
}


@pytest.mark.parametrize("path", GROUPS.values(), ids=GROUPS)
def test_the_processes_of_a_pod_are_found(node: Node, path: str) -> None:
    node.log("shop/web-1", UID)
    node.group(path, 4711, 0)
    node.group(path.replace(UID, OTHER).replace(UID.replace("-", "_"), OTHER), 815)
    (pod,) = pods.pods_in(node.logs, ["shop/*"])
    group = pods.groups_of([pod], node.cgroup)[UID]
    assert cgroups.processes(group) == [4711]
    assert cgroups.containers(group) == [ID]


def test_a_static_pod_has_a_hash_in_place_of_an_uid(node: Node) -> None:
    node.log("kube-system/etcd-node1", STATIC)
    node.group(SYSTEMD.format(STATIC) + f"/crio-{ID}.scope", 12)
    (pod,) = pods.pods_in(node.logs, ["kube-system/*"])
    assert cgroups.processes(pods.groups_of([pod], node.cgroup)[STATIC]) == [12]


def test_the_process_that_watches_a_container_does_not_count(node: Node) -> None:
    path = SYSTEMD.format(UID.replace("-", "_"))
    group = node.group(f"{path}/crio-{ID}.scope", 12).parent
    node.group(f"{path}/crio-conmon-{ID}.scope", 1)
    assert cgroups.processes(group) == [12]
    assert cgroups.containers(group) == [ID]


@pytest.mark.parametrize("tree", ["unified", "systemd", "pids"])
def test_the_hierarchies_of_version_1_are_searched(node: Node, tree: str) -> None:
    (node.cgroup / "cgroup.controllers").unlink()
    node.log("shop/web-1", UID)
    node.group(f"{tree}/kubepods/pod{UID}/{ID}", 12)
    (pod,) = pods.pods_in(node.logs)
    assert cgroups.processes(pods.groups_of([pod], node.cgroup)[UID]) == [12]


def test_a_pod_that_has_ended_leaves_its_logs(node: Node) -> None:
    node.log("shop/web-1", UID)
    asked = Asked(pods=("shop/web-1",))
    assert look_up(asked, node.settings()).starting
    os.utime(next(node.logs.iterdir()), (1, 1))
    assert look_up(asked, node.settings()).elsewhere


def test_names_that_no_kubelet_makes_are_ignored(node: Node) -> None:
    for name in ("x", "a_b_c", "shop_web_" + UID + "_more", "sh op_web_" + UID, "shop_web_.."):
        (node.logs / name).mkdir()
    (node.logs / f"shop_file_{UID}").touch()
    assert pods.pods_in(node.logs) == []
    assert pods.pods_in(node.logs / "missing") == []


def test_a_pod_in_the_network_of_the_host_is_refused(node: Node) -> None:
    node.log("shop/agent", UID)
    node.group(f"kubepods/pod{UID}/{ID}", os.getpid())
    (refused,) = look_up(Asked(pods=("shop/agent",)), node.settings()).refused
    assert "shares the network of the host" in refused.reason


def test_each_kind_of_target_is_allowed_by_itself(node: Node) -> None:
    node.group("system.slice/web.service", os.getpid())
    asked = Asked(netns=("x",), processes=(str(os.getpid()),), units=("web.service",))
    found = look_up(asked, node.settings(allow=("pod:*",)))
    assert [one.reason for one in found.refused] == 3 * ["[targets] allow does not allow it"]


def test_a_container_of_a_pod_is_allowed_with_the_pod(node: Node) -> None:
    node.log("shop/web-1", UID)
    node.group(f"kubepods/pod{UID}/{ID}", os.getpid())
    asked = Asked(containers=(ID[:12],))
    (refused,) = look_up(asked, node.settings(allow=("pod:shop/*",))).refused
    assert "shares the network" in refused.reason
    (refused,) = look_up(asked, node.settings(allow=("pod:bank/*",))).refused
    assert refused.reason == "[targets] allow does not allow it"
    assert look_up(Asked(containers=(12 * "0",)), node.settings()).elsewhere


def test_groups_of_users_are_not_searched(node: Node) -> None:
    node.log("shop/web-1", UID)
    node.group(f"user.slice/user-1.slice/user@1.service/kubepods/pod{UID}/{ID}", 12)
    node.group(f"a.slice/pod{UID}/{ID}", 13)
    (pod,) = pods.pods_in(node.logs)
    assert pods.groups_of([pod], node.cgroup) == {}
    node.group(f"kubepods/pod{UID}/{ID}", 14)
    node.group(f"kubepods.slice/kubepods-pod{UID}.slice/{ID}")
    assert cgroups.processes(pods.groups_of([pod], node.cgroup)[UID]) == [14]
