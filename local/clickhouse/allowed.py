"""Settings that come with a request: which a reader may give, and how far.

A closed list: what is not in it is refused, whatever it is called. Formats read and write files by some settings
(`format_schema`, `format_template_resultset`, `output_format_schema`), others lift limits or change the dialect.
In a statement's SETTINGS clause a reader sets nothing at all: the engine refuses that by `readonly = 1`.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from local.clickhouse import errors
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.users import User

_READER: Final = frozenset(
    (
        # how a result looks: what clickhouse-connect, Grafana's data sources, JDBC and our own commands give
        *("date_time_input_format", "date_time_output_format", "session_timezone", "extremes", "limit", "offset"),
        *("output_format_json_quote_64bit_integers", "output_format_json_quote_denormals"),
        *("output_format_json_quote_decimals", "output_format_json_named_tuples_as_objects"),
        *("output_format_json_escape_forward_slashes", "output_format_write_statistics"),
        *("output_format_arrow_string_as_string", "output_format_arrow_low_cardinality_as_dictionary"),
        *("output_format_arrow_compression_method", "output_format_arrow_fixed_string_as_fixed_byte_array"),
        *("output_format_parquet_string_as_string", "output_format_parquet_compression_method"),
        *("output_format_parquet_row_group_size", "output_format_parquet_version"),
        *("output_format_native_write_json_as_string", "output_format_binary_write_json_as_string"),
        *("output_format_csv_crlf_end_of_line", "output_format_tsv_crlf_end_of_line"),
        *("output_format_decimal_trailing_zeros", "output_format_pretty_color", "output_format_pretty_max_rows"),
        *("format_csv_delimiter", "format_csv_null_representation", "format_tsv_null_representation"),
        *("bool_true_representation", "bool_false_representation"),
        # what a query means
        *("join_use_nulls", "group_by_use_nulls", "union_default_mode", "final", "log_comment"),
        *("result_overflow_mode", "max_block_size", "wait_end_of_query"),
    )
)
_IGNORED: Final = frozenset(("readonly",))
"""Clients say that they only want to read; whoever may only read does so anyway."""
_OVERFLOW_MODES: Final = ("throw", "break")


def settings(user: User, given: Mapping[str, str]) -> dict[str, str]:
    """What is set for a request: the reader's limits, and of what was given all that this user may set.

    Raises ClickHouseError. For whoever may do everything the engine's own list decides.
    """
    for name in given:
        if not name.isidentifier() or not name.isascii():
            raise ClickHouseError(f"Unknown setting '{name[:100]}'. (UNKNOWN_SETTING)", 115)
    if not user.reads_only:
        return dict(given)
    wanted = {name: value for name, value in given.items() if name not in _IGNORED}
    for name in _others(wanted, user):
        raise errors.readonly(f"Cannot modify '{name[:100]}' setting in readonly mode")
    if (mode := wanted.get("result_overflow_mode", "throw")) not in _OVERFLOW_MODES:
        raise ClickHouseError(f"Unexpected value of result_overflow_mode: '{mode[:20]}'. (BAD_ARGUMENTS)", 36)
    limits = {name: str(_lower(name, wanted.get(name), most)) for name, most in user.limits.items()}
    return wanted | limits


def _others(wanted: Iterable[str], user: User) -> Iterable[str]:
    return (name for name in wanted if name not in _READER and name not in user.limits)


def _lower(name: str, given: str | None, most: int) -> int:
    """The value of a limit. 0 means none to the engine, so it is refused with everything above."""
    if given is None:
        return most
    if not (given.isascii() and given.isdecimal() and len(given) <= 20 and 0 < int(given) <= most):
        raise ClickHouseError(
            f"Setting {name} should be from 1 to {most} for this user. (SETTING_CONSTRAINT_VIOLATION)", 452
        )
    return int(given)
