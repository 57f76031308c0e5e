"""Who sent a message, and what is refused before anything in it is obeyed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.events import Event
from pcapdaemon.core.message import read
from pcapdaemon.core.node_events import MessageUntrusted
from pcapdaemon.core.plan import Rejection
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.requester import Group, Requester, Standing
from pcapdaemon.sources.base import Message
from pcapdaemon.trust.gate import Gate, Reason
from pcapdaemon.trust.requesters import Requesters, digest
from pcapdaemon.trust.settings import TrustSettings
from tests.signing import Signer, moment
from tests.unit.test_signatures import HOSTILE, certified, ssh_key

ALICE, BOB, STRANGER = Signer("alice"), Signer("bob"), Signer("stranger")
REQUEST = {"id": "r1", "node": "any", "interface": ["eth0"]}


class Door:
    """A gate, and the reasons for which it refused messages."""

    def __init__(
        self,
        signatures: str = "require",
        started_at: float = 0.0,
        requesters: list[Requester] | None = None,
        **trust: Any,
    ) -> None:
        self.events: list[Event] = []
        self.gate = Gate(self.events.append, started_at)
        general = Policy.model_validate({"signatures": signatures})
        known = requesters or [
            Requester(name="oncall", keys=(ALICE.line,)),
            Requester(name="admins", keys=(BOB.line,)),
        ]
        table = Requesters(known, ())
        assert not table.problems
        self.gate.configure("web1", general, TrustSettings.model_validate(trust), table)

    def judge(self, fields: Any, source: str = "redis", by: str = "") -> Standing | Rejection:
        body = json.dumps(fields).encode()
        return self.gate.standing(Message(body, source, requester=by), read(body))

    def taken(self, fields: Any, **more: str) -> Standing:
        found = self.judge(fields, **more)
        assert isinstance(found, Standing), found
        return found

    def refused(self, fields: Any, **more: str) -> str:
        found = self.judge(fields, **more)
        assert isinstance(found, Rejection), found
        return found.kind

    @property
    def reasons(self) -> list[str]:
        return [one.reason for one in self.events if isinstance(one, MessageUntrusted)]


def test_a_signature_says_who_sent_it() -> None:
    found = Door().taken(ALICE.message(REQUEST))
    assert (found.requester, found.key) == ("oncall", ALICE.fingerprint)
    assert found.fields["interface"] == ["eth0"]
    assert not {"jws", "audience"} & found.fields.keys()


def test_only_what_was_signed_counts() -> None:
    found = Door().taken(ALICE.message(REQUEST, interface=["eth9"], packets=1_000_000, id="r2"))
    assert (found.fields["interface"], found.fields["id"]) == (["eth0"], "r1")
    assert "packets" not in found.fields


@pytest.mark.parametrize("token", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_token_is_refused(token: str) -> None:
    door = Door()
    assert door.refused({**REQUEST, "jws": token}) is AnswerKind.UNTRUSTED
    assert door.reasons in ([Reason.MALFORMED], [Reason.BAD_SIGNATURE])


@pytest.mark.parametrize("token", [5, True, [], {}, ["x"]])
def test_a_token_that_is_no_text_is_refused(token: object) -> None:
    door = Door()
    assert door.refused({**REQUEST, "jws": token}) is AnswerKind.UNTRUSTED
    assert door.reasons == [Reason.MALFORMED]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (REQUEST, Reason.UNSIGNED),
        (STRANGER.message(REQUEST), Reason.UNKNOWN_KEY),
        (ALICE.message({**REQUEST, "issued_at": moment(-61)}), Reason.EXPIRED),
        (ALICE.message({**REQUEST, "issued_at": moment(10 * 86400)}), Reason.FUTURE),
        (ALICE.message({**REQUEST, "issued_at": "yesterday"}), Reason.MALFORMED),
        (ALICE.message({**REQUEST, "issued_at": None}), Reason.MALFORMED),
        (ALICE.message({"node": "any", "interface": ["eth0"]}), Reason.MALFORMED),
        (ALICE.message({**REQUEST, "id": 5}), Reason.MALFORMED),
    ],
)
def test_what_is_not_signed_for_now_is_refused(message: Any, reason: Reason) -> None:
    door = Door()
    assert door.refused(message) is AnswerKind.UNTRUSTED
    assert door.reasons == [reason]


def test_another_key_can_not_borrow_a_name() -> None:
    forged = STRANGER.token({**REQUEST, "issued_at": moment()})
    _, payload, signature = forged.split(".")
    mine = ALICE.token({**REQUEST, "issued_at": moment()}).split(".")
    door = Door()
    assert door.refused({"jws": f"{mine[0]}.{payload}.{signature}"}) is AnswerKind.UNTRUSTED
    assert door.refused({"jws": f"{mine[0]}.{payload}.{mine[2]}"}) is AnswerKind.UNTRUSTED
    assert door.reasons == [Reason.BAD_SIGNATURE] * 2


def test_a_revoked_key_signs_no_longer() -> None:
    door = Door(revoked=[ALICE.fingerprint])
    door.refused(ALICE.message(REQUEST))
    assert door.reasons == [Reason.REVOKED]
    assert door.taken(BOB.message(REQUEST)).requester == "admins"


def test_a_requester_ends_after_its_last_day() -> None:
    over = Requester(name="oncall", keys=(ALICE.line,), until="2020-01-01")
    door = Door(requesters=[over])
    door.refused(ALICE.message(REQUEST))
    assert door.reasons == [Reason.EXPIRED]


def test_a_message_is_for_one_fleet() -> None:
    door = Door(audience="prod")
    door.refused(ALICE.message(REQUEST))
    door.refused(ALICE.message({**REQUEST, "audience": "test"}))
    assert door.reasons == [Reason.AUDIENCE] * 2
    assert door.taken(ALICE.message({**REQUEST, "audience": "prod"})).requester == "oncall"


def test_without_a_memory_older_signatures_are_worth_nothing() -> None:
    door = Door(started_at=time.time())
    door.refused(ALICE.message({**REQUEST, "issued_at": moment(-1)}))
    assert door.reasons == [Reason.BEFORE_START]


def test_verifications_are_limited() -> None:
    door = Door(verify_rate=3)
    header, payload, _ = ALICE.token({**REQUEST, "issued_at": moment()}).split(".")
    for _ in range(5):
        door.judge({"jws": f"{header}.{payload}.{BOB.token(REQUEST).split('.')[2]}"})
    assert door.reasons.count(Reason.RATE) in (1, 2)  # a second may begin meanwhile
    assert set(door.reasons) == {Reason.BAD_SIGNATURE, Reason.RATE}


def test_unknown_keys_cost_no_verification() -> None:
    door = Door(verify_rate=1)
    for _ in range(5):
        door.refused(STRANGER.message(REQUEST))
    assert door.reasons == [Reason.UNKNOWN_KEY] * 5
    door.taken(ALICE.message(REQUEST))


def test_an_unsigned_message_is_taken_if_unsigned_is_a_requester() -> None:
    door = Door(requesters=[Requester(name="unsigned", may=("list",))])
    assert door.taken(REQUEST).requester == "unsigned"


@pytest.mark.parametrize("by", ["local", "http", "trigger:ids", "alice"])
def test_whoever_is_no_requester_may_do_nothing(by: str) -> None:
    door = Door("off")
    assert door.refused(REQUEST, by=by) is AnswerKind.FORBIDDEN


def test_a_trigger_may_be_named_by_a_glob() -> None:
    door = Door(requesters=[Requester(name="trigger:*", payload="headers")])
    found = door.taken(REQUEST, by="trigger:ids")
    assert found.requester == "trigger:ids"


def test_without_requesters_everything_is_as_before() -> None:
    events: list[Event] = []
    gate = Gate(events.append)
    gate.configure("web1", Policy(), TrustSettings(), Requesters((), ()))
    found = gate.standing(Message(b"", "redis"), dict(REQUEST))
    assert found == Standing(dict(REQUEST))
    signed = gate.standing(Message(b"", "redis"), ALICE.message(REQUEST, id="other"))
    assert isinstance(signed, Standing)
    assert (signed.requester, signed.fields["id"]) == ("", "r1")
    assert not events


def test_warn_takes_everything_and_says_what_require_would_refuse() -> None:
    door = Door("warn")
    assert door.taken(ALICE.message(REQUEST)).warnings == ()
    for message in (REQUEST, STRANGER.message(REQUEST)):
        found = door.taken(message)
        assert (found.rights, found.is_signed) == (None, False)
        assert "signatures" in found.warnings[0]
    assert door.reasons[0] == Reason.UNSIGNED


def test_rights_may_be_for_some_nodes_and_sources() -> None:
    narrow = [
        Requester(name="here", keys=(ALICE.line,), nodes=("db*",)),
        Requester(name="bus", keys=(BOB.line,), sources=("kafka",)),
    ]
    door = Door(requesters=narrow)
    # another node may be meant
    assert door.refused(ALICE.message(REQUEST)) is AnswerKind.ELSEWHERE
    assert door.refused(ALICE.message(REQUEST), by="local") is AnswerKind.FORBIDDEN
    assert door.refused(BOB.message(REQUEST)) is AnswerKind.FORBIDDEN
    assert door.taken(BOB.message(REQUEST), source="kafka").requester == "bus"


def test_a_certificate_vouches_for_a_key(tmp_path: Path) -> None:
    text = certified(tmp_path, "-n", "oncall", "-V", "+1h")
    signer = Signer.from_file(tmp_path / "user")
    message = {**REQUEST, "issued_at": moment()}
    token = {"jws": signer.token(message, certificate=text)}
    authority = (tmp_path / "ca.pub").read_text()
    trusting = Door(requesters=[Requester(name="oncall", authorities=(authority,))])
    assert trusting.taken(token).requester == "oncall"
    other = Door(requesters=[Requester(name="admins", authorities=(authority,))])
    other.refused(token)
    assert other.reasons == [Reason.CERTIFICATE]
    stranger = ssh_key(tmp_path, "ed25519", "other")
    foreign = Door(requesters=[Requester(name="oncall", authorities=(stranger,))])
    foreign.refused(token)
    assert foreign.reasons == [Reason.UNKNOWN_KEY]
    revoked = Door(
        requesters=[Requester(name="oncall", authorities=(authority,))],
        revoked=list(Requesters([Requester(name="x", authorities=(authority,))], ()).fingerprints),
    )
    revoked.refused(token)
    assert revoked.reasons == [Reason.REVOKED]
    borrowed = Door(requesters=[Requester(name="oncall", authorities=(authority,))])
    borrowed.refused({"jws": ALICE.token(message, certificate=text)})
    assert borrowed.reasons == [Reason.CERTIFICATE]


def test_what_is_wrong_with_requesters_is_said_at_once() -> None:
    token = digest(b"secret")
    table = Requesters(
        [
            Requester(name="a", keys=(ALICE.line, "ssh-rsa AAAA"), until="tomorrow"),
            Requester(name="a", keys=(ALICE.line,), group="nobody"),
            Requester(name="b", tokens=(token, "secret")),
            Requester(name="c", tokens=(token,)),
        ],
        (),
    )
    found = "\n".join(table.problems)
    for words in (
        "number 1 (a) keys",
        "until",
        "there is another requester a",
        "there is no [[group]] nobody",
        "is that of a too",
        "must be sha256:",
        "number 4 (c) tokens",
    ):
        assert words in found


def test_a_group_gives_what_a_requester_does_not_say() -> None:
    group = Group(name="narrow", payload="headers", maxpackets=5, may=("list",))
    table = Requesters([Requester(name="a", group="narrow", maxpackets=9)], [group])
    found = table.named("a")
    assert found
    assert (found.payload, found.maxpackets, found.may) == ("headers", 9, ("list",))


def test_a_name_without_a_key_ends_too() -> None:
    door = Door("off", requesters=[Requester(name="ops", users=("root",), until="2020-01-01")])
    assert door.refused(REQUEST, by="ops") is AnswerKind.FORBIDDEN


def test_a_message_for_a_fleet_is_not_for_one_without_a_name() -> None:
    door = Door()
    door.refused(ALICE.message({**REQUEST, "audience": "prod"}))
    assert door.reasons == [Reason.AUDIENCE]


def test_a_certificate_of_a_stranger_costs_no_verification(tmp_path: Path) -> None:
    text = certified(tmp_path, "-n", "oncall")
    signer = Signer.from_file(tmp_path / "user")
    door = Door(verify_rate=1)
    for _ in range(5):
        message = {**REQUEST, "issued_at": moment()}
        door.refused({"jws": signer.token(message, certificate=text)})
    assert door.reasons == [Reason.UNKNOWN_KEY] * 5
    door.taken(ALICE.message(REQUEST))
