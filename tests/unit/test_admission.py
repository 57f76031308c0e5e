"""Ages and rates of requests, with the time passed in."""

from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.admission import (
    CLOCK_OFF,
    MOST_CUSTOMERS,
    MOST_OBEYED,
    Age,
    Obeyed,
    Rates,
    age_of,
)
from pcapdaemon.core.requester import Standing

NOW = 1_800_000_000.0


def test_the_older_of_two_times_counts_and_none_is_new() -> None:
    assert age_of(None, None, NOW) == Age(0)
    assert age_of(NOW - 5, None, NOW) == Age(5)
    assert age_of(None, NOW - 7, NOW) == Age(7)
    assert age_of(NOW - 5, NOW - 7, NOW) == Age(7)


def test_the_future_is_new_and_says_that_a_clock_is_off() -> None:
    assert age_of(NOW + 10, None, NOW) == Age(0)
    assert age_of(NOW + 400, None, NOW) == Age(0, 400)
    assert age_of(NOW - 1, NOW + 400, NOW) == Age(1, 400)


def test_times_that_differ_say_that_a_clock_is_off_and_mere_age_does_not() -> None:
    assert age_of(NOW - 4000, None, NOW) == Age(4000)
    assert age_of(NOW - 1, NOW - 4000, NOW) == Age(4000, -3999)
    assert age_of(NOW - 4000, NOW - 4001, NOW) == Age(4001)


@given(st.none() | st.floats(0, 4e9), st.none() | st.floats(0, 4e9))
def test_no_age_is_negative_and_no_small_difference_is_told(
    sent: float | None, issued: float | None
) -> None:
    age = age_of(sent, issued, NOW)
    assert age.seconds >= 0
    assert age.clock_off == 0 or abs(age.clock_off) > CLOCK_OFF


def test_a_rate_of_nothing_bounds_nothing() -> None:
    rates = Rates()
    assert not any(rates.refusal("acme", 0, 0, NOW) for _ in range(1000))


def test_so_many_a_minute_and_then_evenly_again() -> None:
    rates = Rates()
    assert [bool(rates.refusal(None, 6, 0, NOW)) for _ in range(8)] == [False] * 6 + [True] * 2
    assert rates.refusal(None, 6, 0, NOW + 9)
    assert not rates.refusal(None, 6, 0, NOW + 10.1)
    assert rates.refusal(None, 6, 0, NOW + 10.1) == "more than 6 requests a minute ([general] rate)"


def test_one_customer_does_not_use_up_another_ones_share() -> None:
    rates = Rates()
    assert [bool(rates.refusal("a", 0, 2, NOW)) for _ in range(3)] == [False, False, True]
    assert not rates.refusal("b", 0, 2, NOW)
    assert not rates.refusal(None, 0, 2, NOW), "without a customer it counts only in the total"
    assert "customer a" in rates.refusal("a", 0, 2, NOW)


def test_what_is_refused_does_not_count() -> None:
    rates = Rates()
    rates.refusal("a", 10, 1, NOW)
    for _ in range(20):
        assert rates.refusal("a", 10, 1, NOW)
    assert not rates.refusal("b", 10, 1, NOW), "refused requests of a used up nothing"


def test_customers_are_bounded() -> None:
    rates = Rates()
    for number in range(2 * MOST_CUSTOMERS):
        rates.refusal(str(number), 5, 5, NOW)
    assert len(rates._buckets) <= MOST_CUSTOMERS


def signed(name: str, requester: str = "alice", at: float = NOW) -> Standing:
    return Standing({"id": name}, requester, key="SHA256:x", issued_at=at)


def test_an_order_is_obeyed_once_while_its_signature_is_valid() -> None:
    obeyed = Obeyed(NOW - 5)
    assert obeyed.refusal(signed("a"), 0, 65) is None
    refused = obeyed.refusal(signed("a"), 64, 65)
    assert refused
    assert refused.kind == "conflict"
    assert obeyed.refusal(signed("a", "bob"), 1, 65) is None, "ids belong to their requester"
    assert obeyed.refusal(signed("a"), 66, 65) is None


def test_an_order_of_before_the_start_is_not_obeyed() -> None:
    refused = Obeyed(NOW).refusal(signed("a", at=NOW - 1), 0, 65)
    assert refused
    assert refused.kind == "untrusted"


def test_what_is_not_signed_is_obeyed_each_time() -> None:
    obeyed = Obeyed(NOW)
    assert [obeyed.refusal(Standing({"id": "a"}), 0, 65) for _ in range(2)] == [None, None]


def test_no_requester_drives_out_what_is_known_of_another() -> None:
    obeyed = Obeyed(NOW)
    assert obeyed.refusal(signed("a"), 0, 65) is None
    found = [obeyed.refusal(signed(f"{n}", "bob"), 1, 65) for n in range(MOST_OBEYED + 5)]
    assert [one.kind for one in found if one] == ["busy"] * 5
    assert obeyed.refusal(signed("a"), 2, 65)
    assert obeyed.refusal(signed("0", "bob"), 2, 65)
