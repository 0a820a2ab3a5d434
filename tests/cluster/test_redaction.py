"""No secret stays in what leaves the process, nothing else is changed, and an id is one visible line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.redaction import has_password, printable, redact, redacted, secret_parameters

SECRET = "7/sEsAmE+0p3n/x9"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIA:{SECRET}@bucket/x",
        f"Cannot open 's3://AKIA:{SECRET}@bucket/x': no.",
        f"sftp://me@corp.org:{SECRET}@host/x",
        f"filecache::sftp://me:{SECRET}@host/x",
        f"zip://a::https://me:{SECRET}@host/x.zip",
        f"s3://bucket/x?endpoint_override=http://me:{SECRET}@host:1",
        f"s3://bucket/x?endpoint_override=http%3A%2F%2Fme%3A{SECRET}%40host",
        f"s3://bucket/x?endpoint_override=me:{SECRET}@host:1&scheme=http",
        f"s3://bucket/x?scheme=http&endpoint_override=me%3A{SECRET}%40host",
        f"https://{SECRET.replace('/', '_')}@host/x",
        f"s3:/me:{SECRET}@bucket/x is a path",
        f"'//me:{SECRET}@bucket/x' does not exist",
        f"https://h/x?pw={SECRET}",
        f"s3://bucket/x?token={SECRET}",
        f"'s3://bucket/x?scheme=http&secret_key={SECRET}'.",
        f"https://h/x?X-Amz-Signature={SECRET}&X-Amz-Date=20261126",
        f"abfs://container@account/x?sv=2020&sig={SECRET}",
        f"https://h/x?sas={SECRET}#part",
        f"<a href='https://h/x?a=b&amp;password={SECRET}'>",
        f"{{'key': None, 'secret_access_key': '{SECRET}'}}",
        f"AWS_SESSION_TOKEN={SECRET} python",
        f"Authorization: Bearer {SECRET}",
        f"the value of the environment is {SECRET}.",
    ],
)
def test_a_secret_is_taken_out(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if text.startswith("the value"):
        monkeypatch.setenv("INKRAY_TEST_SECRET_ACCESS_KEY", SECRET)
    assert SECRET not in redact(text) and "sEsAmE" not in redact(text) and "***" in redact(text)
    assert "sEsAmE" not in str(redacted({"a": [text], text: 1}))
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a b/c?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
        "sftp://user@host:22/data, http://127.0.0.1:8265 and mail to a@b.org",
        "zip://inside::s3://bucket/a@b.zip",
        "file:///home/a:b@c/d, https://host/a@b?c=d:1&e=f@g and C:/a",
        "abfs://container@account.dfs.core.windows.net/x",
        "max_tokens: 200, stream.cache.location=memory, tokens=[a, b]",
        r"truth  \frac { a } { b } = \sqrt { x } & y",
        "data:\n  dataset: /home/me@work/data\n",
        "token 'x' is not in the vocabulary; key=value overrides",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_the_place_of_a_secret_is_told_apart() -> None:
    assert has_password("s3://AKIA:7/abc@bucket") and has_password("s3://b/x?endpoint_override=http://u%3Ap%40h")
    assert has_password("https://token@host/x") and has_password("s3://b/x?endpoint_override=u:p@h:1")
    assert has_password("s3://b/x?scheme=http&endpoint_override=u%3Ap%40h:1")
    assert not has_password("sftp://user@host/a:b") and not has_password("s3://b/x?endpoint_override=http://host:1")
    assert secret_parameters("s3://b/x?region=a&Token=b&secret_key=c") == ["Token", "secret_key"]
    assert secret_parameters("s3://b/x?endpoint_override=h:1&scheme=http&region=r") == []
    assert secret_parameters("s3://b/x%3Ftoken%3Da") == []  # a name with a question mark in it


@given(st.text(st.characters()))
def test_an_id_is_one_line_without_controls(text: str) -> None:
    shown = printable(text)
    assert len(f"{shown}|".splitlines()) == 1
    assert all(character.isprintable() or character == "\u3000" for character in shown)
    assert shown == text or not text.isprintable()
    shown.encode()


def test_an_id_shows_its_escapes() -> None:
    assert printable("a\n\x1b[31m\u202eb\udcff é 中\u3000\\frac") == r"a\n\x1b[31m\u202eb\xff é 中" + "\u3000\\frac"
