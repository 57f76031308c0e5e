"""Answers of brokers that only some of them give."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pcapdaemon.sources.kafka_reader import Positions, Reader


class Consumer:
    """A consumer whose group has no position. `raises` is how the library passes on the error."""

    def __init__(self, code: int, raises: bool) -> None:
        self._code, self._raises = code, raises

    def committed(self, places: list[TopicPartition], timeout: float) -> Any:
        if self._raises:
            raise KafkaException(KafkaError(self._code))

        class Place:
            offset, error = -1001, KafkaError(self._code)

        return [Place]


async def _committed(code: int, raises: bool) -> int | None:
    assert asyncio.get_running_loop()
    reader = Reader({}, ("t",), 1.0, Positions(commit=True), lambda _: [], lambda _: None)
    consumer: Any = Consumer(code, raises)
    return reader._committed(consumer, ("t", 0))


@pytest.mark.parametrize("raises", [True, False])
async def test_a_group_that_the_coordinator_does_not_know_has_no_position(raises: bool) -> None:
    assert await _committed(KafkaError.GROUP_ID_NOT_FOUND, raises) is None


@pytest.mark.parametrize("raises", [True, False])
async def test_another_error_of_the_coordinator_is_no_position_either(raises: bool) -> None:
    with pytest.raises(KafkaException):
        await _committed(KafkaError.NOT_COORDINATOR, raises)
