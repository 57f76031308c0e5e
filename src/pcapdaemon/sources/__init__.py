"""Where requests come from. One source is one file here, one line in this table, one fixture for the contract tests."""

from pcapdaemon import plugins
from pcapdaemon.plugins import Plugin
from pcapdaemon.sources.base import Source

TABLE = {
    "http": Plugin("pcapdaemon.sources.http:HttpSource", "http", "listen"),
    "kafka": Plugin("pcapdaemon.sources.kafka:KafkaSource", "kafka", "listen", extra="kafka"),
    "redis": Plugin("pcapdaemon.sources.redis:RedisSource", "redis", "listen", extra="redis", unless="stream", or_with="channel"),
    "redis-stream": Plugin("pcapdaemon.sources.redis_stream:RedisStreamSource", "redis", "listen", extra="redis", needs="stream"),
    "sqs": Plugin("pcapdaemon.sources.sqs:SqsSource", "sqs", "listen", extra="aws"),
}


def load(name: str) -> type[Source]:
    """The class of a source by its name in the table."""
    source: type[Source] = plugins.load(TABLE, name)
    return source
