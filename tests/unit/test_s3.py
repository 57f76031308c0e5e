"""What S3 accepts and refuses before anything is sent."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from email.header import decode_header, make_header
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from pcapdaemon.core.request import validate
from pcapdaemon.destinations.s3 import MOST_CLIENTS, S3
from pcapdaemon.destinations.s3_parts import metadata
from pcapdaemon.destinations.s3_settings import S3Settings

KEYS = {"accessid": "test", "accesskey": "secret-key"}


@pytest.fixture(autouse=True)
def no_configuration_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


def settings(**values: Any) -> S3Settings:
    return S3Settings.model_validate({"upload": True, "bucket": "captures", **KEYS, **values})


def objections(fields: dict[str, object], **values: Any) -> list[str]:
    """Return what a configuration objects to in the fields of a request."""
    request, problems = validate({"node": "any", "interface": ["lo"], **fields})
    assert not problems
    return [str(problem) for problem in S3(settings(**values)).objections(request)]


def decoded(text: str) -> str:
    return str(make_header(decode_header(text)))


@pytest.mark.parametrize(
    "tags",
    ["node:a,customer:acme", "node:bär,customer:Äpfel & Söhne", "node:ノード", "", "a" * 2000],
)
def test_tags_that_fit_are_kept_whole(tags: str) -> None:
    assert decoded(metadata(tags)) == tags


def test_tags_lose_their_control_characters() -> None:
    assert metadata("node:a\r\nX-Evil: 1\x00\x1b,b") == "node:a  X-Evil: 1  ,b"


def test_tags_are_cut_at_a_whole_one() -> None:
    tags = [f"tag{number}:{'x' * 90}" for number in range(30)]
    assert metadata(",".join(tags)) == ",".join(tags[:20])


@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(st.text(min_size=20, max_size=200), max_size=40).map(",".join),
    )
)
def test_metadata_is_a_short_header_that_has_nothing_but_the_tags(tags: str) -> None:
    assume("=?" not in tags)
    header = metadata(tags)
    assert header.isascii()
    assert not header or header.isprintable()
    assert len(header) <= 2000
    rest = iter("".join(c if c.isprintable() else " " for c in tags).split(","))
    assert all(tag in rest for tag in decoded(header).split(","))


@pytest.mark.parametrize(
    "tags", ["é" + "," * 4095, ",".join(["é"] * 2000), "é" * 4096, ",".join(["ab"] * 1300)]
)
def test_tags_of_4_kb_do_not_hold_the_loop_up(tags: str) -> None:
    begun = time.process_time()
    metadata(tags)
    assert time.process_time() - begun < 0.2


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("minio.example.com:9000", "https://minio.example.com:9000"),
        ("https://minio.example.com", "https://minio.example.com"),
        ("http://minio.example.com:9000/", "http://minio.example.com:9000"),
        ("192.0.2.1", "https://192.0.2.1"),
        ("[2001:db8::1]:9000", "https://[2001:db8::1]:9000"),
        (None, "https://s3.eu-central-1.amazonaws.com"),
        ("s3.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("https://s3.amazonaws.com/", "https://s3.eu-central-1.amazonaws.com"),
        ("s3.eu-west-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("s3-eu-west-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
    ],
)
def test_endpoint_may_lack_its_scheme_and_amazons_own_means_none(
    endpoint: str | None, url: str
) -> None:
    assert (
        S3(settings(endpoint=endpoint, region="eu-central-1"))._client(None, None).meta.endpoint_url
        == url
    )
    if endpoint:
        assert S3(settings(region="eu-central-1"))._client(None, endpoint).meta.endpoint_url == url


@pytest.mark.parametrize(
    ("configured", "requested", "environment", "region"),
    [
        ("eu-west-1", None, None, "eu-west-1"),
        ("eu-west-1", "ap-south-1", "us-west-2", "ap-south-1"),
        (None, "ap-south-1", None, "ap-south-1"),
        (None, None, "us-west-2", "us-west-2"),
        (None, None, None, "us-east-1"),
    ],
)
def test_region_is_that_of_the_request_else_of_the_configuration_else_of_aws(
    configured: str | None,
    requested: str | None,
    environment: str | None,
    region: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment:
        monkeypatch.setenv("AWS_DEFAULT_REGION", environment)
    assert S3(settings(region=configured))._client(requested, None).meta.region_name == region


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://S3.EU-WEST-1.amazonaws.com/", "eu-west-1"),
        ("https://s3.eu-west-1.amazonaws.com:443", "eu-west-1"),
        ("s3.amazonaws.com", "us-east-1"),
        ("s3-external-1.amazonaws.com", "us-east-1"),
        ("s3-accelerate.amazonaws.com", "us-east-1"),
    ],
)
def test_region_is_that_of_amazons_endpoint_where_nothing_else_names_one(
    endpoint: str, region: str
) -> None:
    assert S3(settings(endpoint=endpoint))._client(None, None).meta.region_name == region
    assert S3(settings())._client(None, endpoint).meta.region_name == region


@pytest.mark.parametrize(
    ("values", "host", "path"),
    [
        ({}, "captures.s3.amazonaws.com", "/key"),
        ({"region": "eu-west-1"}, "captures.s3.eu-west-1.amazonaws.com", "/key"),
        (
            {"region": "eu-west-1", "addressing_style": "virtual"},
            "captures.s3.eu-west-1.amazonaws.com",
            "/key",
        ),
        (
            {"region": "eu-west-1", "addressing_style": "path"},
            "s3.eu-west-1.amazonaws.com",
            "/captures/key",
        ),
        ({"endpoint": "minio.example.com:9000"}, "minio.example.com:9000", "/captures/key"),
        (
            {"endpoint": "minio.example.com:9000", "addressing_style": "virtual"},
            "captures.minio.example.com:9000",
            "/key",
        ),
        (
            {"endpoint": "minio.example.com:9000", "addressing_style": "path"},
            "minio.example.com:9000",
            "/captures/key",
        ),
    ],
)
def test_bucket_stands_in_the_url_where_the_configuration_says(
    values: dict[str, str], host: str, path: str
) -> None:
    client = S3(settings(**values))._client(None, None)
    url = urlsplit(
        client.generate_presigned_url("get_object", Params={"Bucket": "captures", "Key": "key"})
    )
    assert (url.netloc, url.path) == (host, path)


def test_clients_are_made_once_for_a_region_and_an_endpoint_whoever_asks() -> None:
    s3 = S3(settings(region="eu-west-1"))
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: s3._client(None, None), range(8)))) == 1
    assert s3._client("eu-west-1", "s3.amazonaws.com") is s3._client(None, None)
    assert s3._client("eu-west-2", None) is not s3._client(None, None)
    assert s3._client(None, "minio.example.com") is not s3._client(None, None)


def test_clients_that_were_not_used_for_longest_are_let_go() -> None:
    s3 = S3(settings())
    first, second = s3._client("eu-1", None), s3._client("eu-2", None)
    for number in range(3, MOST_CLIENTS + 2):
        assert s3._client("eu-1", None) is first
        s3._client(f"eu-{number}", None)
    assert len(s3._clients) == MOST_CLIENTS
    assert s3._client("eu-1", None) is first
    assert s3._client("eu-2", None) is not second


@pytest.mark.parametrize(
    "folder",
    [
        ".",
        "..",
        "a/../b",
        "a/.",
        "a//b",
        "../etc",
        "a\x00b",
        "a\nb",
        "a\x1b[31m",
        "\u202eb",
        "x" * 701,
        "ü" * 351,
    ],
)
def test_folders_that_are_none_are_refused(folder: str) -> None:
    (problem,) = objections({"folder": folder})
    assert problem.startswith("folder: ")
    with pytest.raises(ValidationError, match="folder"):
        settings(folder=folder)


@pytest.mark.parametrize(
    "folder", ["a", "/a/b/", "fra1/2026-11", "...", "Ünïcode", "a b", "x" * 700]
)
def test_folders_that_are_some_are_taken(folder: str) -> None:
    assert objections({"folder": folder}) == []
    assert settings(folder=folder).folder == settings(pcaps=folder).folder == folder.strip("/")


@pytest.mark.parametrize(
    "region",
    ["EU-WEST-1", "eu west", "eu.west", "a/b", "evil.example#", "eu-west-1\n", "x" * 41, "é"],
)
def test_regions_that_are_none_are_refused(region: str) -> None:
    (problem,) = objections({"region": region})
    assert problem.startswith("region: ")
    with pytest.raises(ValidationError, match="region"):
        settings(region=region)


@pytest.mark.parametrize("region", ["-", "-eu-west-1", "eu-west-1-"])
def test_regions_that_aws_would_not_take_are_refused_too(region: str) -> None:
    assert objections({"region": region})
    with pytest.raises(ValidationError, match="region"):
        settings(region=region)


ALLOWING = {
    "allow_buckets": ["others"],
    "allow_endpoints": ["minio.example.com", "http://192.0.2.1:9000"],
    "allow_acls": ["bucket-owner-read"],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bucket", "theirs"),
        ("bucket", "CAPTURES"),
        ("endpoint", "evil.example"),
        ("endpoint", "http://minio.example.com"),
        ("endpoint", "https://minio.example.com:444"),
        ("endpoint", "https://minio.example.com@evil.example"),
        ("endpoint", "s3.amazonaws.com.evil.example"),
        ("endpoint", "not a host"),
        ("acl", "public-read"),
        ("acl", "nonsense"),
    ],
)
@pytest.mark.parametrize("allowing", [{}, ALLOWING])
def test_what_the_configuration_does_not_allow_is_refused_with_its_key(
    field: str, value: str, allowing: dict[str, list[str]]
) -> None:
    (problem,) = objections({field: value}, **allowing)
    assert problem.startswith(f"{field}: {value!r}")
    assert f"[s3] allow_{field}s" in problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bucket", "captures"),
        ("bucket", "others"),
        ("endpoint", "s3.amazonaws.com"),
        ("endpoint", "s3.eu-west-1.amazonaws.com"),
        ("endpoint", "https://s3.amazonaws.com/"),
        ("endpoint", "minio.example.com"),
        ("endpoint", "https://minio.example.com/"),
        ("endpoint", "http://192.0.2.1:9000"),
        ("acl", "private"),
        ("acl", "bucket-owner-read"),
    ],
)
def test_what_is_configured_or_allowed_is_taken(field: str, value: str) -> None:
    assert objections({field: value}, **ALLOWING) == []


def test_amazon_is_not_allowed_where_another_endpoint_is_configured() -> None:
    assert objections({"endpoint": "minio.example.com"}, endpoint="https://minio.example.com") == []
    assert objections({"endpoint": "s3.amazonaws.com"}, endpoint="https://minio.example.com")
    assert objections({"acl": "public-read"}, acl="public-read") == []


def test_all_objections_are_told_at_once() -> None:
    fields = {
        "folder": "..",
        "region": "A",
        "bucket": "theirs",
        "endpoint": "evil.example",
        "acl": "public-read",
    }
    assert {problem.partition(":")[0] for problem in objections(dict(fields))} == set(fields)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bucket": None}, "bucket is missing"),
        ({"bucket": ""}, "bucket"),
        ({"acl": "everybody"}, "acl"),
        ({"allow_acls": ["everybody"]}, "allow_acls"),
        ({"accesskey": None}, "accessid and accesskey"),
        ({"accessid": None}, "accessid and accesskey"),
        ({"endpoint": "not a host"}, "not a host"),
        ({"endpoint": "https://"}, "must be a host name"),
        ({"endpoint": "https://user:pw@minio.example.com"}, "must be a host name"),
        ({"endpoint": "https://minio.example.com?a=b"}, "must be a host name"),
        ({"endpoint": "ftp://minio.example.com"}, "must be a host name"),
        ({"endpoint": "https://https://minio.example.com"}, "must be a host name"),
        ({"endpoint": "minio.example.com:nine"}, "must be a host name"),
        ({"endpoint": "minio.example.com:90000"}, "must be a host name"),
        ({"endpoint": "2001:db8::1"}, "must be a host name"),
        ({"allow_endpoints": ["not a host"]}, "not a host"),
        ({"presign": -1}, "presign"),
        ({"presign": 604_801}, "presign"),
        ({"presign": "an hour"}, "presign"),
        ({"addressing_style": "both"}, "addressing_style"),
        ({"checksums": "never"}, "checksums"),
        ({"object_tags": {str(number): "x" for number in range(11)}}, "object_tags"),
        ({"object_tags": {"": "x"}}, "object_tags"),
    ],
)
def test_wrong_settings_are_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**values)


def test_a_key_that_is_wrong_is_never_repeated() -> None:
    with pytest.raises(ValidationError) as error:
        settings(accessid=None, accesskey=SecretStr("secret-key"))
    assert "secret-key" not in f"{error.value} {settings()!r}"


def test_bucket_may_be_missing_where_nothing_is_uploaded() -> None:
    assert settings(upload=False, bucket=None).bucket is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"acl": "public-read"}, "public-read: anybody"),
        ({"allow_acls": ["authenticated-read"]}, "authenticated-read: anybody"),
        ({"endpoint": "http://minio.example.com"}, "http://minio.example.com: .* unencrypted"),
        ({"endpoint": "HTTP://minio.example.com"}, "HTTP://minio.example.com: .* unencrypted"),
        ({"allow_endpoints": ["http://192.0.2.1"]}, "http://192.0.2.1: .* unencrypted"),
    ],
)
def test_what_strangers_can_read_is_warned_of(values: dict[str, Any], words: str) -> None:
    (flaw,) = settings(**values).flaws()
    assert re.search(words, flaw)


def test_what_nobody_else_can_read_is_not_warned_of() -> None:
    assert (
        settings(
            acl="bucket-owner-read", allow_acls=["private"], endpoint="minio.example.com"
        ).flaws()
        == []
    )
