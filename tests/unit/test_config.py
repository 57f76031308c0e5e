"""The configuration: read, merge, validate."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon import config, tables
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.units import in_bytes, in_seconds
from pcapdaemon.sources.http import HttpSettings
from pcapdaemon.sources.redis import RedisSettings
from scripts.generate_docs import sections

MINIMAL: dict[str, Any] = {"http": {"listen": True}, "general": {"writelocal": True}}
ORIGINAL = Path(__file__).parent / "original.conf"


def problems(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as refusal:
        config.validate(values, "x.toml")
    return str(refusal.value)


def test_defaults_are_those_of_the_originals_example() -> None:
    settings = config.validate(MINIMAL)
    general = settings.general
    assert (general.maxpackets, general.maxbytes, general.maxduration, general.maxtimeout) == (
        50000,
        100000000,
        3600,
        3600,
    )
    assert (general.snaplength, general.defaulttimeout) == (500, 10)
    assert (general.memory, general.maxcaptures, general.maxfilter) == (256 << 20, 32, 1024)
    assert (settings.capture.buffer, settings.capture.promiscuous) == (8 << 20, True)


def test_the_originals_example_works_as_it_is() -> None:
    settings = config.validate(tables.read(ORIGINAL), "x.toml")
    assert settings.aliases == {"main": ["eth0"], "public": ["eth0"], "local": ["lo"]}
    redis = settings.sources["redis"]
    assert isinstance(redis, RedisSettings)
    assert redis.auth
    assert redis.auth.get_secret_value() == "password"
    assert (settings.syslog and settings.syslog.priority) == 25
    assert {"s3", "cloudshark"} <= settings.destinations.keys()


def test_without_source_or_destination_the_keys_to_set_are_said() -> None:
    words = problems({})
    assert (
        "[http] listen = true or [kafka] listen = true or [redis] listen = true or [sqs] listen ="
        " true" in words
    )
    assert "[general] writelocal = true" in words


def test_all_problems_at_once_each_with_file_section_and_key() -> None:
    words = problems(
        {
            "general": {"maxpackets": "50", "snaplength": -1, "filename": "{x}"},
            "http": {"listen": True, "port": 99999},
            "redis": {"listen": True, "channel": 5},
            "interface": [{"alias": ["a"]}],
        }
    )
    for part in (
        "x.toml: [general] maxpackets",
        "x.toml: [general] snaplength",
        "x.toml: [general] filename",
        "x.toml: [http] port",
        "x.toml: [redis] channel",
        "x.toml: [[interface]] number 1 name",
    ):
        assert part in words


def test_names_in_any_case_as_the_original_took_them(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "[HTTP]\nListen = true\n[General]\nWriteLocal = true\nMaxPackets ="
        ' 7\n[[Interface]]\nName="lo"\nAlias=["X"]\n'
    )
    settings = config.validate(tables.read(path))
    assert settings.general.maxpackets == 7
    assert settings.aliases == {"X": ["lo"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[general", "not valid TOML"),
        ("[a]\nb=1\nB=2\n", "different case"),
        ("\xff", "line 1 is not UTF-8"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_name(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=words) as refusal:
        tables.read(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"/no/such\.toml: No such file"):
        tables.read(Path("/no/such.toml"))


def test_unknown_keys_are_warned_of_with_what_may_be_meant() -> None:
    settings = config.validate(
        {**MINIMAL, "general": {"writelocal": True, "maxpacket": 5}, "htttp": {}}
    )
    said = "\n".join(settings.warnings)
    assert "[general]: unknown key maxpacket; did you mean maxpackets?" in said
    assert "[htttp]" in said


def test_a_section_that_is_not_switched_on_is_warned_of() -> None:
    settings = config.validate({**MINIMAL, "redis": {"host": "r"}})
    assert "redis" not in settings.sources
    assert any("[redis] is not turned on" in warning for warning in settings.warnings)


def test_secrets_come_from_files_variables_and_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret-token\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("REDIS_AUTH", "from-env")
    settings = config.validate(
        {
            **MINIMAL,
            "http": {"listen": True, "token_file": "$CREDENTIALS_DIRECTORY/token"},
            "redis": {"listen": True, "auth_env": "REDIS_AUTH"},
        }
    )
    http, redis = settings.sources["http"], settings.sources["redis"]
    assert isinstance(http, HttpSettings)
    assert isinstance(redis, RedisSettings)
    assert http.token
    assert redis.auth
    assert (http.token.get_secret_value(), redis.auth.get_secret_value()) == (
        "s3cret-token",
        "from-env",
    )
    assert "s3cret" not in repr(settings)
    assert not settings.warnings


def test_a_secret_that_cannot_be_had_is_a_problem_without_the_secret() -> None:
    words = problems(
        {
            **MINIMAL,
            "http": {"listen": True, "token_file": "/no/such"},
            "redis": {"listen": True, "auth_env": "NO_SUCH"},
        }
    )
    assert "[http] token_file: can't read /no/such" in words
    assert "[redis] auth_env: the environment variable NO_SUCH is not set" in words


def test_an_address_that_others_can_reach_needs_a_token() -> None:
    assert "set token_file" in problems({**MINIMAL, "http": {"listen": True, "host": "0.0.0.0"}})
    assert config.validate({**MINIMAL, "http": {"listen": True, "host": "::1"}})
    assert config.validate(
        {**MINIMAL, "http": {"listen": True, "host": "0.0.0.0", "token": "long enough"}}
    )


def test_no_secret_in_the_words_about_it() -> None:
    assert (
        "short"
        not in problems({**MINIMAL, "http": {"listen": True, "token": "short"}}).partition("token")[
            2
        ]
    )


def test_flags_lie_over_the_file() -> None:
    merged = tables.merge(
        {"general": {"maxpackets": 5, "writelocal": True}},
        {"general": {"maxpackets": 7}, "redis": {"port": 1}},
    )
    assert merged == {"general": {"maxpackets": 7, "writelocal": True}, "redis": {"port": 1}}


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({"redis": {"listen": True}}, ["redis"]),
        ({"redis": {"listen": True, "stream": "s"}}, ["redis-stream"]),
        ({"redis": {"listen": True, "stream": "s", "channel": "c"}}, ["redis", "redis-stream"]),
        ({"redis": {"stream": "s"}, "http": {"listen": True}}, ["http"]),
    ],
)
def test_channel_and_stream_of_redis_are_sources_each(
    sections: dict[str, dict[str, object]], names: list[str]
) -> None:
    settings = config.validate({**sections, "general": {"writelocal": True, "localdir": "/tmp"}})
    assert list(settings.sources) == names


def test_sources_that_may_repeat_a_request_want_a_state_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)

    def warnings(section: str, **values: object) -> str:
        general = {"writelocal": True, "localdir": "/tmp"}
        return "".join(
            config.validate({section: {"listen": True, **values}, "general": general}).warnings
        )

    assert "redis-stream may redeliver" in warnings("redis", stream="s")
    assert "sqs may redeliver" in warnings("sqs", queue="q")
    assert "kafka may redeliver" in warnings("kafka", group="{node}")
    assert not warnings("redis") + warnings("kafka")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/pcapdaemon")
    assert not warnings("sqs", queue="q")


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 << 20), ("1.5 kB", 1500), ("2g", 2 * 10**9), ("100B", 100), ("7 b", 7)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert in_bytes(text) == in_bytes(size) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1.5m", 90), ("24h", 86400), ("7d", 604800), ("5 min", 300)]
)
def test_times_have_units(text: str, seconds: int) -> None:
    assert in_seconds(text) == in_seconds(seconds) == seconds


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,6} ?[a-zA-Z]{0,3}"))
def test_any_text_is_a_number_of_units_or_refused(text: str) -> None:
    for parse in (in_bytes, in_seconds):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert str(error).startswith("must be a number")


def test_units_are_taken_everywhere() -> None:
    general = {"memory": "256MiB", "maxage": "24h", "draintime": "1m", "maxbytes": "1GB"}
    settings = config.validate(
        {
            "http": {"listen": True},
            "general": {"writelocal": True, **general},
            "recorder": [{"interface": "lo", "seconds": "1m", "memory": "64MiB"}],
            "spool": {"maxbytes": "2GiB", "maxage": "7d"},
            "capture": {"buffer": "4MiB"},
        }
    )
    found = settings.general
    assert (found.memory, found.maxage, found.draintime, found.maxbytes) == (
        256 << 20,
        86400,
        60,
        10**9,
    )
    assert (settings.recorder[0].seconds, settings.spool.maxage) == (60, 604800)


def test_a_wrong_value_is_shown_and_a_secret_is_not() -> None:
    with pytest.raises(ConfigError) as caught:
        config.validate(
            {
                "http": {"listen": True, "token": "short"},
                "general": {"writelocal": True, "memory": "lots", "maxcaptures": 5000},
                "interface": [{"name": "lo", "alias": 5}],
            }
        )
    text = "\n".join(caught.value.problems)
    assert 'memory: must be a number of bytes, or a size like "64MiB" (it is "lots")' in text
    assert "maxcaptures: must be at most 1024 (it is 5000)" in text
    assert "token: must have at least 8 characters" in text
    assert "short" not in text
    assert "must be an array of strings, not an integer" in text
    assert "Input" not in text


def test_an_alias_may_be_one_text() -> None:
    settings = config.validate(
        {
            "http": {"listen": True},
            "general": {"writelocal": True},
            "interface": [{"name": "lo", "alias": "public"}],
        }
    )
    assert settings.aliases == {"public": ["lo"]}


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'\xef\xbb\xbf[general]\nnode = "x"\n')
    assert tables.read(path) == {"general": {"node": "x"}}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("redis", {"host": "h", "results": "capture"}),
        ("redis", {"host": "h", "stream": "s", "results": ["r", "s"]}),
        ("kafka", {"server": ["h:9092"], "results": "capture"}),
        ("sqs", {"queue": "q", "results": "q", "region": "eu-west-1"}),
    ],
)
def test_results_to_where_requests_come_from_are_refused(
    section: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="requests come from"):
        config.validate({"general": {"writelocal": True}, section: {"listen": True, **values}})


@pytest.mark.parametrize("key", ["token_env", "token_file"])
def test_a_secret_in_the_place_of_its_name_is_not_shown(key: str) -> None:
    words = problems({**MINIMAL, "http": {"listen": True, key: "hunter2hunter2"}})
    assert key in words
    assert "hunter2" not in words
    named = problems({**MINIMAL, "http": {"listen": True, "token_env": "API_TOKEN"}})
    assert "API_TOKEN is not set" in named


VALUES: list[Any] = ["x", "redis://h:1/0", "https://h.example/x", "10s", 1, True, 0.5]
VALUES += [["a", "b"], {"a": "b"}, [], ""]
KEYS = [
    (label.strip("[]"), label.startswith("[["), field.alias or name)
    for label, models in sections()
    for model in models
    for name, field in model.model_fields.items()
]


@pytest.mark.parametrize(("section", "several", "key"), KEYS, ids=str)
def test_any_value_of_any_key_is_taken_or_refused_in_words(
    section: str, several: bool, key: str
) -> None:
    for value in VALUES:
        tables_: dict[str, Any] = {
            "http": {"listen": True},
            "general": {"writelocal": True, "localdir": "/tmp/x"},
        }
        given = {**SWITCHED_ON.get(section, {}), key: value}
        tables_[section] = [given] if several else {**tables_.get(section, {}), **given}
        try:
            config.validate(tables_)
        except ConfigError as error:
            assert error.problems


SWITCHED_ON: dict[str, dict[str, Any]] = {
    "redis": {"listen": True, "results": "r", "channel": "c"},
    "kafka": {"listen": True, "results": "r", "topic": "t", "server": "h:1"},
    "sqs": {"listen": True, "results": "https://sqs.eu.amazonaws.com/1/r", "queue": "q"},
    "s3": {"upload": True, "bucket": "b", "region": "r"},
    "cloudshark": {"upload": True, "host": "h", "token": "t"},
    "recorder": {"interface": "lo"},
    "interface": {"name": "lo"},
    "profile": {"name": "p"},
    "trigger": {"name": "t", "kind": "json", "token": 32 * "t"},
    "callback": {"name": "c", "url": "https://h.example"},
}
