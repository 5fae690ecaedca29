"""Files of events: every row becomes a call or a clear rejection, from any place, in whatever state the file is."""

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import InvalidArgument, Reason
from services.profiles.imports import mapping as rules
from services.profiles.imports.parquet import ParquetRows
from services.profiles.imports.rows import Batches, Row, body_of, csv_rows, identifying, json_rows
from services.profiles.imports.run import adds_up
from services.profiles.imports.spool import CHUNK_BYTES, PIECE_BYTES, SealedFile, Spool, binding, sealed_bytes
from services.profiles.store.imports import JobRow
from services.profiles.vault import TenantKeys, Unreadable

KEYS = TenantKeys("shop", bytes(32))
IDENTIFY = identifying(KEYS, "test")
TRACK: dict[str, Any] = {"type": "track", "event": "Seen"}


def mapping(**parts: Any) -> rules.ColumnMapping:
    return rules.read_mapping(json.dumps(parts).encode())


def shown(rows: list[Row]) -> list[Any]:
    """Calls as JSON without derived ids, rejections by their reason."""
    found: list[Any] = []
    for row in rows:
        if isinstance(row.call, InvalidArgument):
            found.append(row.call.reason.name)
        else:
            call = json.loads(row.call.decode(errors="replace"))
            found.append({key: value for key, value in call.items() if not str(value).startswith("import-")})
    return found


def of_json(content: bytes, place: int = 0) -> list[Row]:
    return list(json_rows(io.BytesIO(content), place, IDENTIFY))  # pyright: ignore[reportArgumentType]


def of_csv(content: bytes, place: int = 0, **parts: Any) -> list[Row]:
    parts = parts or {"constants": TRACK}
    return list(csv_rows(io.BytesIO(content), place, mapping(**parts), IDENTIFY))  # pyright: ignore[reportArgumentType]


def of_parquet(table: pa.Table, place: int = 0, *, group: int | None = None, **parts: Any) -> list[Row]:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=group)
    return list(ParquetRows(file, mapping(**(parts or {"constants": TRACK})), IDENTIFY).rows(place))  # pyright: ignore[reportArgumentType]


def refusal(work: Callable[[], object]) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        work()
    return caught.value


def test_a_line_is_a_call_and_an_empty_line_is_nothing() -> None:
    content = b'\xef\xbb\xbf{"userId":"a","messageId":"m"}\r\n\r\n   \n{"userId":"b"}'
    assert shown(of_json(content)) == [{"userId": "a", "messageId": "m"}, {"userId": "b"}]
    assert of_json(content)[-1].place == len(content)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "MALFORMED_JSON"),
        (b"[1]", "MALFORMED_JSON"),
        (b'"text"', "MALFORMED_JSON"),
        (b'{"a":"\x00"}', "MALFORMED_JSON"),
        (b'{"a":"\\ud800"}', "MALFORMED_TEXT"),
        (b'{"a":"' + b"x" * 33_000 + b'"}', "EVENT_TOO_LARGE"),
        (b"x" * 700_000, "EVENT_TOO_LARGE"),
        (b"[" * 20_000, "MALFORMED_JSON"),
    ],
)
def test_a_bad_line_spoils_nothing_but_itself(line: bytes, reason: str) -> None:
    good = b'{"userId":"a"}'
    rows = shown(of_json(b"\n".join([good, line, good])))
    assert rows == [{"userId": "a"}, reason, {"userId": "a"}]


@pytest.mark.parametrize("given", [b"null", b'""', b'"  "'])
def test_an_id_that_says_nothing_is_replaced_by_one_of_the_content(given: bytes) -> None:
    call = of_json(b'{"messageId":%s,"userId":"a"}' % given)[0].call
    assert isinstance(call, bytes)
    assert json.loads(call)["messageId"].startswith("import-")
    assert json.loads(str(of_json(b"{ }")[0].call, "utf-8"))["messageId"].startswith("import-")  # pyright: ignore[reportArgumentType]


def test_the_id_of_a_row_depends_on_tenant_source_and_content_only() -> None:
    content = b'{"userId":"a"}'
    ids = {
        identifying(KEYS, "test")(content),
        identifying(KEYS, "other")(content),
        identifying(TenantKeys("bank", bytes(32)), "test")(content),
        identifying(TenantKeys("shop", bytes(31) + b"1"), "test")(content),
        IDENTIFY(b'{"userId":"b"}'),
    }
    assert len(ids) >= 4
    assert identifying(TenantKeys("shop", bytes(32)), "test")(content) == IDENTIFY(content)


def test_values_of_a_csv_are_text_unless_the_mapping_says_otherwise() -> None:
    content = b'Customer,properties.zip,Total,Gift,Cart,Count,Junk\n007,01234,12.50,TRUE,"[1,{""a"":2}]",3,x\n'
    columns = {
        "Customer": "userId",
        "Total": {"field": "properties.total", "type": "number"},
        "Gift": {"field": "properties.gift", "type": "boolean"},
        "Cart": {"field": "properties.deep.cart", "type": "json"},
        "Count": {"field": "properties.count", "type": "integer"},
        "Junk": None,
    }
    (call,) = shown(of_csv(content, columns=columns, constants=TRACK | {"context.channel": "file"}))
    assert call == TRACK | {
        "userId": "007",
        "context": {"channel": "file"},
        "properties": {"zip": "01234", "total": 12.5, "gift": True, "deep": {"cart": [1, {"a": 2}]}, "count": 3},
    }


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("number", "12,5"),
        ("number", "1e999"),
        ("number", "nan"),
        ("number", "9" * 5000),
        ("integer", "1.5"),
        ("boolean", "yes"),
        ("json", "{"),
    ],
)
def test_a_value_that_is_not_what_the_mapping_says_rejects_its_row_and_is_not_repeated(type_: str, text: str) -> None:
    columns = {"x": {"field": "properties.x", "type": type_}}
    rows = of_csv(f'userId,x\na,"{text}"\nb,\n'.encode(), columns=columns, constants=TRACK)
    error = rows[0].call
    assert isinstance(error, InvalidArgument)
    assert (error.reason, error.field) == (Reason.INVALID_FIELD, "properties.x")
    assert text not in error.message
    assert shown(rows)[1] == TRACK | {"userId": "b"}


def test_a_csv_may_have_a_bom_crlf_quoted_newlines_and_empty_lines() -> None:
    content = b'\xef\xbb\xbfuserId,properties.note\r\n\r\na,"two\r\nlines, ""quoted"""\r\n\r\nb,last'
    rows = of_csv(content)
    assert shown(rows) == [
        TRACK | {"userId": "a", "properties": {"note": 'two\r\nlines, "quoted"'}},
        TRACK | {"userId": "b", "properties": {"note": "last"}},
    ]
    assert rows[-1].place == len(content)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a", "MALFORMED_ROW"),
        (b"a,b,c", "MALFORMED_ROW"),
        (b'"a"b,c', "MALFORMED_ROW"),
        (b"a,\xff", "MALFORMED_TEXT"),
        (b"a," + b"x" * 40_000, "EVENT_TOO_LARGE"),
        (b"a," + b"x" * 400_000, "EVENT_TOO_LARGE"),
    ],
)
def test_a_bad_row_of_a_csv_spoils_nothing_but_itself(row: bytes, reason: str) -> None:
    rows = shown(of_csv(b"\n".join([b"userId,properties.x", b"a,1", row, b"b,2"])))
    assert rows[1] == reason
    assert [rows[0]["userId"], rows[2]["userId"]] == ["a", "b"]


def test_a_quote_that_is_never_closed_does_not_swallow_the_file_in_silence() -> None:
    content = b"userId,properties.x\n" + b'a,"open\n' + b"".join(b"u%d,%s\n" % (n, b"y" * 100) for n in range(3_000))
    rows = shown(of_csv(content))
    assert rows[0] == "MALFORMED_ROW"
    assert rows[-1]["userId"] == "u2999"


@pytest.mark.parametrize(
    ("content", "parts", "words"),
    [
        (b"", {}, "no header"),
        (b"\xff\xfeu\x00", {}, "UTF-16"),
        (b"\x1f\x8b\x08", {}, "gzip"),
        (b"userId,userId\n", {}, "twice"),
        (b"userId,Total\n", {}, "'Total' is no field"),
        (b"ann@example.com\n", {}, "looks personal"),
        (b"event\nx\n", {"constants": {"type": "track"}}, "userId or anonymousId"),
        (b"userId\nx\n", {"constants": {"event": "Seen"}}, "no column type"),
        (b"userId\nx\n", {"columns": {"Gone": None}, "constants": TRACK}, "'Gone'"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_a_sentence(content: bytes, parts: dict[str, Any], words: str) -> None:
    error = refusal(lambda: of_csv(content, **parts))
    assert words in error.message
    assert "ann@" not in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "a mapping is JSON"),
        ('{"colums": {}}', "a mapping is JSON"),
        ('{"columns": {"a": {"field": "userId", "type": "date"}}}', "a column's type is one of"),
        ('{"columns": {"a": "nothing"}}', "no field 'nothing'"),
        ('{"columns": {"a": "properties."}}', "no field"),
        ('{"columns": {"a": "userId", "b": "userId"}}', "two columns"),
        ('{"columns": {"a": "properties"}, "constants": {"properties.x": 1}}', "two columns"),
        (" " * 20_000, "16 KB"),
    ],
)
def test_a_wrong_mapping_is_refused_before_any_file(text: str, words: str) -> None:
    error = refusal(lambda: rules.read_mapping(text.encode()))
    assert words in error.message
    assert error.field == "mapping"


def test_values_of_a_parquet_file_are_what_its_schema_says() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    table = pa.table(
        {
            "userId": pa.array([7, None]),
            "anonymousId": pa.array(["x", "y"]).dictionary_encode(),
            "timestamp": pa.array([moment, moment], pa.timestamp("ns", "UTC")),
            "properties.day": pa.array([date(2026, 1, 2), None]),
            "properties.total": pa.array([Decimal("12.50"), None], pa.decimal128(10, 2)),
            "properties.rate": pa.array([0.5, float("nan")]),
            "properties.gift": pa.array([True, None]),
            "properties.products": pa.array([[{"sku": "a", "price": 1.5}], None]),
        }
    )
    first, second = shown(of_parquet(table))
    assert first == TRACK | {
        "userId": 7,
        "anonymousId": "x",
        "timestamp": moment.isoformat(),
        "properties": {
            "day": "2026-01-02",
            "total": 12.5,
            "rate": 0.5,
            "gift": True,
            "products": [{"sku": "a", "price": 1.5}],
        },
    }
    assert second == TRACK | {"anonymousId": "y", "timestamp": moment.isoformat()}


def test_a_parquet_file_says_what_cannot_be_read_of_it() -> None:
    wrong = refusal(lambda: ParquetRows(io.BytesIO(b"PAR1 nonsense"), mapping(), IDENTIFY))  # pyright: ignore[reportArgumentType]
    assert wrong.reason is Reason.MALFORMED_FILE
    assert "'Total'" in refusal(lambda: of_parquet(pa.table({"userId": ["a"], "Total": [1]}))).message
    assert "give it a type" in refusal(lambda: of_parquet(pa.table({"userId": ["a"], "properties.x": [b"\x00"]}))).message
    rows = of_parquet(pa.table({"userId": ["a"], "properties.x": [float("inf")]}))
    assert shown(rows) == ["INVALID_FIELD"]


def _people(count: int) -> pa.Table:
    return pa.table({"userId": [f"u{number}" for number in range(count)]})


@given(place=st.integers(0, 60), group=st.integers(1, 60))
@settings(max_examples=30)
def test_reading_goes_on_at_any_row_of_a_parquet_file(place: int, group: int) -> None:
    table = _people(57)
    assert of_parquet(table, place, group=group) == of_parquet(table)[place:]


_CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(_CELL, _CELL), max_size=12))
@settings(max_examples=60)
def test_reading_goes_on_after_any_row_of_a_text(cells: list[tuple[str, str]]) -> None:
    text = "userId,properties.x\n" + "".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in cells
    )
    content = text.encode()
    rows = of_csv(content)
    assert len(rows) == len(cells)
    for number, row in enumerate(rows, 1):
        assert of_csv(content, row.place) == rows[number:]
    lines = b"".join(json.dumps({"userId": cell}).encode() + b"\n" for cell, _ in cells)
    calls = of_json(lines)
    for number, row in enumerate(calls, 1):
        assert of_json(lines, row.place) == calls[number:]


def test_batches_keep_to_the_limits_of_a_body_and_are_the_same_again() -> None:
    content = b"".join(b'{"userId":"u%d","properties":{"x":"%s"}}\n' % (n, b"x" * (n % 7 * 400)) for n in range(6_000))

    def lengths(sizes: list[int]) -> list[int]:
        batches, found = Batches(iter(of_json(content))), []
        while rows := batches.take(*([sizes[len(found)]] if sizes else [])):
            body = body_of([row.call for row in rows if isinstance(row.call, bytes)])
            assert len(body) <= 500 * 1024
            assert len(rows) <= 2_500
            assert len(json.loads(body)["batch"]) == len(rows)
            found.append(len(rows))
        return found

    sizes = lengths([])
    assert sum(sizes) == 6_000
    assert len(sizes) > 3
    assert lengths([*sizes, 1]) == sizes


def _spooled(folder: Path, content: bytes, cipher: AESGCM, job_id: UUID) -> Path:
    spool = Spool(folder)
    for index, at in enumerate(range(0, len(content), CHUNK_BYTES)):
        spool.write("shop", job_id, cipher, index, content[at : at + CHUNK_BYTES])
    spool.settle("shop", job_id, len(content))
    return spool.path("shop", job_id)


def test_a_spooled_file_is_read_at_any_place_and_holds_nothing_in_plain(tmp_path: Path) -> None:
    job_id, cipher = uuid4(), AESGCM(bytes(32))
    content = b"".join(b"ann-%09d@example.com\n" % number for number in range(120_000))
    path = _spooled(tmp_path, content, cipher, job_id)
    sealed = path.read_bytes()
    assert b"ann-" not in sealed
    assert len(sealed) == sealed_bytes(len(content))
    assert path.stat().st_mode & 0o077 == 0
    with SealedFile(path, cipher, binding("shop", job_id), len(content)) as file:
        for at in (0, 1, PIECE_BYTES - 3, CHUNK_BYTES - 1, len(content) - 5, len(content)):
            file.seek(at)
            assert file.read(10) == content[at : at + 10]
            assert file.tell() == min(len(content), at + 10)
        file.seek(0)
        assert file.read() == content


def test_a_spooled_file_that_was_changed_or_moved_is_not_read(tmp_path: Path) -> None:
    job_id, cipher = uuid4(), AESGCM(bytes(32))
    content = bytes(3 * PIECE_BYTES)
    path = _spooled(tmp_path, content, cipher, job_id)
    sealed = path.read_bytes()
    record = len(sealed) // 3
    path.write_bytes(sealed[record : 2 * record] + sealed[:record] + sealed[2 * record :])
    for bound in (binding("shop", job_id), binding("bank", job_id)):
        with SealedFile(path, cipher, bound, len(content)) as file, pytest.raises(Unreadable):
            file.read(1)


def test_an_upload_without_all_of_its_chunks_is_no_file(tmp_path: Path) -> None:
    job_id, spool = uuid4(), Spool(tmp_path)
    spool.write("shop", job_id, AESGCM(bytes(32)), 0, b"some")
    assert "not all of its chunks" in refusal(lambda: spool.settle("shop", job_id, 5)).message
    assert list(spool.files()) == [("shop", job_id)]
    spool.remove("shop", job_id)
    assert spool.idle_s("shop", job_id) is None


@pytest.mark.parametrize(
    ("changed", "kept", "total", "holds"),
    [
        ({}, 2, 10, True),
        ({"row_count": 11}, 2, 10, False),
        ({"accepted_count": 6}, 2, 10, False),
        ({}, 1, 10, False),
        ({"format": "parquet", "place": 10}, 2, 10, True),
        ({"format": "parquet", "place": 10}, 2, 11, False),
    ],
)
def test_sums_hold_only_where_every_row_has_one_fate(changed: dict[str, Any], kept: int, total: int, holds: bool) -> None:
    counts = {"row_count": 10, "accepted_count": 5, "duplicate_count": 2, "rejected_count": 2, "quarantined_count": 1}
    blank = dict.fromkeys(JobRow.__dataclass_fields__)
    job = JobRow(**(blank | {"format": "csv", "place": 99} | counts | changed))  # pyright: ignore[reportArgumentType]
    assert adds_up(job, kept, total) is holds
