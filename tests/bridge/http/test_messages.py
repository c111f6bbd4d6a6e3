"""What is answered with 202 is in telemetry.raw as it came; what is refused is not there at all."""

import gzip
import http.client
import time

import cbor2
import orjson
import pytest
import zstandard

from schemas.vocabulary import Transport
from tests.bridge.http.client import JSON, NDJSON, Device
from tests.bridge.http.conftest import HttpService
from tests.bridge.raw_reader import RawReader


def test_a_json_message_becomes_one_row_with_all_that_is_known_of_it(device: Device, raw: RawReader) -> None:
    body = b'{"temperature": 21.5, "x": "\xc3\xa4"}'
    before_ms = time.time() * 1000
    answer = device.post(body, Millrace_Boot="3", Millrace_Seq="017", Millrace_Ts="2026-01-01T00:00:00Z")
    assert (answer.status, answer.json) == (202, {"messages": 1})
    (row,) = raw.wait_for_rows(1)
    received_ms = row.pop("received_at").timestamp() * 1000
    assert before_ms - 1 <= received_ms <= time.time() * 1000
    assert row == {
        "device": device.name,
        "topic": f"d/{device.name}/telemetry/climate",
        "payload": body,
        "content_type": JSON,
        "ts": "2026-01-01T00:00:00Z",
        "boot": "3",
        "seq": "017",
        "transport": Transport.HTTP,
        "qos": 0,
        "retain": False,
        "replay_of": None,
    }


def test_ndjson_lines_become_rows_in_order_with_seq_counting_up(device: Device, raw: RawReader) -> None:
    lines = [b'{"n":%d}' % i for i in range(100)]
    answer = device.post(b"\r\n".join(lines) + b"\n", NDJSON, Millrace_Boot="1", Millrace_Seq="40")
    assert (answer.status, answer.json) == (202, {"messages": 100})
    rows = raw.wait_for_rows(100)
    assert [row["payload"] for row in rows] == lines
    assert [row["seq"] for row in rows] == [str(40 + i) for i in range(100)]
    assert {(row["boot"], row["ts"], row["content_type"]) for row in rows} == {("1", None, JSON)}


@pytest.mark.parametrize("kind", ["application/senml+json", "application/senml+cbor"])
def test_a_senml_pack_is_one_message(device: Device, raw: RawReader, kind: str) -> None:
    pack = [{"bn": "boiler/", "n": "temperature", "v": 21.5}]
    body = orjson.dumps(pack) if kind.endswith("json") else cbor2.dumps([{-2: "boiler/", 0: "temperature", 2: 21.5}])
    assert device.post(body, kind).json == {"messages": 1}
    (row,) = raw.wait_for_rows(1)
    assert (row["payload"], row["content_type"], row["seq"]) == (body, kind, None)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_are_stored_as_they_were_before(device: Device, raw: RawReader, encoding: str) -> None:
    body = b'{"temperature":21.5}' + b" " * 5_000
    squeezed = gzip.compress(body) if encoding == "gzip" else zstandard.ZstdCompressor().compress(body)
    assert device.post(squeezed, Content_Encoding=encoding).status == 202
    assert raw.wait_for_rows(1)[0]["payload"] == body


def test_a_chunked_body_and_a_polite_client_are_served(device: Device, raw: RawReader) -> None:
    assert device.post(iter([b'{"a":', b"1}"])).status == 202
    head = device.head("Content-Type: application/json", "Content-Length: 7", "Expect: 100-continue")
    answer = device.raw(head, b'{"a":2}')
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202")
    assert [row["payload"] for row in raw.wait_for_rows(2)] == [b'{"a":1}', b'{"a":2}']


def test_what_access_must_judge_is_not_judged_here(device: Device, raw: RawReader) -> None:
    strange = [b"5", b"[]", b'{"a":1,"a":2}', b'{"ts":-1}', b"null", b'{"n":123456789012345678901234567890}']
    for body in strange:
        assert device.post(body, Millrace_Seq="minus one").status == 202
    rows = raw.wait_for_rows(len(strange))
    assert [row["payload"] for row in rows] == strange
    assert {row["seq"] for row in rows} == {"minus one"}


def test_each_mistake_has_its_status_and_its_place_and_leaves_no_row(
    service: HttpService, device: Device, raw: RawReader
) -> None:
    lines = [b'{"n":1}'] * 99
    lines[56] = b'{"n":1'
    big = b'"' + b"a" * 1_500_000 + b'"'
    many = b"1\n" * 10_001
    other = "/v1/devices/somebody-else/telemetry/climate"
    refused = [
        (device.post(b"\n".join(lines), NDJSON), 400, {"line": 57, "column": 7, "byte": 56 * 8 + 6}),
        (device.post(b'{"a":\xff}'), 400, {"line": 1, "column": 6, "byte": 5}),
        (device.post(b""), 400, {"line": 1, "column": 1, "byte": 0}),
        (device.post(b"", NDJSON), 400, {"byte": 0}),
        (device.post(b"\x81", "application/senml+cbor"), 400, {"byte": 1}),
        (device.post(b"[" * 5_000), 400, {}),
        (device.post(gzip.compress(b"{}")[:-3], Content_Encoding="gzip"), 400, {}),
        (device.post(b"{}", Content_Encoding="zstd"), 400, {}),
        (device.post(b"{}", Millrace_Boot="x" * 65), 400, {}),
        (device.post(b"{}", path="/v1/devices/HTTP-1/telemetry/climate"), 400, {}),
        (device.post(b"{}", path="/v1/devices/a%2fb/telemetry/climate"), 400, {}),
        (device.post(b"{}", path="/v1/devices/a/../b/telemetry/climate"), 404, {}),
        (device.post(b"{}", path=device.path() + "/x"), 404, {}),
        (device.post(b"{}", path=other), 401, {}),
        (device.post(b"{}", Authorization="Bearer wrong"), 401, {}),
        (device.post(b"{}", Authorization=f"Basic {device.token}"), 401, {}),
        (device.ask("POST", device.path(), b"{}"), 401, {}),
        (device.ask("PUT", device.path(), b"{}"), 405, {}),
        (device.post(big), 413, {}),
        (device.post(b"1\n" + big, NDJSON), 413, {"line": 2, "byte": 2}),
        (device.post(many, NDJSON), 413, {}),
        (device.post(b"{}", "text/plain"), 415, {}),
        (device.post(b"{}", None), 415, {}),
        (device.post(b"{}", Content_Encoding="br"), 415, {}),
        (device.post(b"{}", Expect="a-miracle"), 417, {}),
    ]
    for number, (answer, status, place) in enumerate(refused):
        body = answer.json
        assert (number, answer.status, answer.headers["Server"]) == (number, status, "millrace"), body
        assert body["error"] and {key: body.get(key) for key in place} == place
    assert device.ask("PUT", device.path(), b"{}").headers["Allow"] == "POST"
    assert device.post(b"{}", Authorization="").headers["WWW-Authenticate"].startswith("Bearer")
    assert device.post(b"{}", Content_Encoding="br").headers["Accept-Encoding"] == "gzip, zstd"
    assert device.post(b"{}").status == 202
    raw.wait_for_rows(1)
    raw.settle()
    assert len(raw.rows()) == 1
    assert service.metric('millrace_http_requests_total{status="415"}') >= 4


def test_ten_megabytes_are_refused_announced_or_not(device: Device) -> None:
    assert device.post(bytes(10 << 20)).status == 413
    assert device.post(iter([bytes(1 << 16)] * 160)).status == 413


def test_headers_that_stand_twice_are_refused(device: Device) -> None:
    twins = [
        f"Authorization: Bearer {device.token}",
        "Content-Type: text/plain",
        "Content-Encoding: identity\nContent-Encoding: gzip",
        "Millrace-Seq: 1\nMillrace-Seq: 2",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
    ]
    for twin in twins:
        answer = device.raw(device.head("Content-Type: application/json", "Content-Length: 2", twin), b"{}")
        assert answer[8:13] == b" 400 ", (twin, answer)


def test_the_documentation_is_served(device: Device) -> None:
    described = device.ask("GET", "/openapi.json")
    assert described.json["paths"]["/v1/devices/{id}/telemetry/{channel}"]["post"]["responses"]["202"]
    page = device.ask("GET", "/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"Millrace-Boot" in page.body and b"src=" not in page.body and b"http://" not in page.body
    assert device.ask("HEAD", "/docs").body == b""


def test_two_answers_in_a_row_come_on_one_connection(device: Device) -> None:
    assert device.post(b"{}").status == 202
    before = device._connection.sock
    assert device.post(b"{").status == 400
    assert device.post(b"{}").status == 202
    assert before is not None and device._connection.sock is before
    assert isinstance(device._connection, http.client.HTTPConnection)
