"""The sources of requests.

A new source is one file here, one line in this table and one fixture for the contract tests.
"""

from pcapdaemon import plugins
from pcapdaemon.plugins import Plugin
from pcapdaemon.sources.base import Source

TABLE = {
    "http": Plugin("pcapdaemon.sources.http:HttpSource", "http", "listen"),
    "kafka": Plugin(
        "pcapdaemon.sources.kafka:KafkaSource", "kafka", "listen", extra="kafka", is_bus=True
    ),
    "redis": Plugin(
        "pcapdaemon.sources.redis:RedisSource",
        "redis",
        "listen",
        extra="redis",
        unless="stream",
        or_with="channel",
        is_bus=True,
    ),
    "redis-stream": Plugin(
        "pcapdaemon.sources.redis_stream:RedisStreamSource",
        "redis",
        "listen",
        extra="redis",
        needs="stream",
        is_bus=True,
    ),
    "sqs": Plugin("pcapdaemon.sources.sqs:SqsSource", "sqs", "listen", extra="aws", is_bus=True),
}


def buses() -> list[str]:
    """Return the sections of buses: what `pcapdaemon request --via` takes besides `http`."""
    return list(dict.fromkeys(plugin.section for plugin in TABLE.values() if plugin.is_bus))


def load(name: str) -> type[Source]:
    """Return the class of the source with this name in the table."""
    source: type[Source] = plugins.load(TABLE, name)
    return source
