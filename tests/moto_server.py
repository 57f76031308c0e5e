"""moto's server, with queues that work correctly for concurrent consumers.

moto deletes by replacing the list of messages, and marks a message as received some time after it
found it visible. So two threads can bring deleted messages back, or give one message to two
consumers. Here only one thread at a time runs inside moto.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from moto.server import main
from moto.sqs.models import Message, SQSBackend

_inside = threading.RLock()


def _one_at_a_time(name: str) -> None:
    original: Callable[..., Any] = getattr(SQSBackend, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        with _inside:
            return original(*args, **kwargs)

    setattr(SQSBackend, name, call)


def _wait_outside() -> None:
    """Let a long poll wait without the lock."""
    original = SQSBackend.receive_message

    def receive(
        self: SQSBackend, queue_name: str, count: int, wait: int, *more: Any
    ) -> list[Message]:
        until = time.monotonic() + wait
        while True:
            with _inside:
                found = original(self, queue_name, count, 0, *more)
            if found or time.monotonic() >= until:
                return found
            time.sleep(0.1)

    setattr(SQSBackend, original.__name__, receive)


_wait_outside()
for name in ("send_message", "delete_message", "change_message_visibility", "get_queue_attributes"):
    _one_at_a_time(name)
main()
