"""For each alert: series with which it fires, and what it then says; and series close to them with which it does not.

Values are promtool's: `0+60x20` counts up by 60 at each of 20 samples after the first, 15 s apart; `_` is no sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Series = Mapping[str, str]
ALWAYS = "1x400"
NEVER = "0x400"
_BUCKET = 'millrace_sink_device_to_queryable_seconds_bucket{{le="{}"}}'
_COUNT = "millrace_sink_device_to_queryable_seconds_count"


@dataclass(frozen=True)
class Case:
    """`at` is when it is looked at, in promtool's words; `labels` beside alertname."""

    alert: str
    says: str
    labels: Mapping[str, str]
    fires: Series
    quiet: Series
    at: str = "20m"
    quiet_at: str = ""
    interval: str = "15s"
    also: tuple[tuple[Mapping[str, str], str], ...] = ()
    """What else fires under this name: labels that differ, and what it says."""


def _delays(good: str, all_: str) -> Series:
    """Readings counted up to 2 s and in all; those that are late take up to 5 s."""
    return {
        _BUCKET.format("1.0"): good,
        _BUCKET.format("2.0"): good,
        _BUCKET.format("5.0"): all_,
        _BUCKET.format("+Inf"): all_,
        _COUNT: all_,
    }


def _services(*names: str) -> Series:
    return {f'up{{job="millrace", service="{name}", instance="{name}:9100"}}': ALWAYS for name in names}


_BEGUN = 'process_start_time_seconds{job="millrace", service="sink", instance="sink:9100"}'
_VITAL = ("relay", "bridge", "access", "sink", "watch")
_DECIDED = 'millrace_access_messages_total{{verdict="{}"}}'
_REFUSED = 'millrace_access_refused_total{{rule="{}"}}'

CASES = (
    Case(
        "ReadingsBudgetBurning",
        "2% of the readings of the last hour took longer than 2 s (objective: 0.1 %)",
        {"severity": "critical", "window": "1h"},
        _delays("0+980x260", "0+1000x260"),
        _delays("0+9995x260", "0+10000x260"),
        at="1h5m",
        also=(
            (
                {"window": "6h"},
                "2% of the readings of the last 6 hours took longer than 2 s (objective: 0.1 %)",
            ),
            (
                {"window": "3d", "severity": "warning"},
                "2% of the readings of the last 3 days took longer than 2 s (objective: 0.1 %)",
            ),
        ),
    ),
    Case(
        "ReadingsBudgetBurning",
        "1% of the readings of the last 6 hours took longer than 2 s (objective: 0.1 %)",
        {"severity": "critical", "window": "6h"},
        _delays("0+990x400", "0+1000x400"),
        _delays("0+9995x400", "0+10000x400"),
        at="6h30m",
        interval="1m",
        also=(
            (
                {"window": "3d", "severity": "warning"},
                "1% of the readings of the last 3 days took longer than 2 s (objective: 0.1 %)",
            ),
        ),
    ),
    Case(
        "ReadingsBudgetBurning",
        "0.2% of the readings of the last 3 days took longer than 2 s (objective: 0.1 %)",
        {"severity": "warning", "window": "3d"},
        _delays("0+998x1000", "0+1000x1000"),
        _delays("0+9995x1000", "0+10000x1000"),
        at="3d12h",
        interval="5m",
    ),
    Case(
        "ReadingsLate",
        "1 % of readings take longer than 4.25s from receipt to query",
        {"severity": "warning"},
        _delays("0+960x80", "0+1000x80"),
        _delays("0+995x80", "0+1000x80"),
    ),
    Case(
        "LedgerDifference",
        "the ledger cannot account for 3 readings: lost or duplicated",
        {"severity": "critical", "of": "readings"},
        {
            'millrace_ledger{of="readings", count="difference"}': "-3x80",
            'millrace_ledger{of="messages", count="difference"}': NEVER,
        },
        {
            # of a look between two inserts, and gone at the next
            'millrace_ledger{of="readings", count="difference"}': "0 0 5 5 0 0 0 7 7 0x70",
            'millrace_ledger{of="messages", count="in_flight"}': "900x80",
        },
        at="10m",
        quiet_at="2m",
    ),
    Case(
        "LedgerUnseen",
        "the ledger could not be read for 10m 0s: losses would not be detected",
        {"severity": "warning"},
        {'millrace_watch_looked_timestamp_seconds{at="ledger"}': "600x80"},
        {'millrace_watch_looked_timestamp_seconds{at="ledger"}': "0+15x80"},
    ),
    Case(
        "MessagesNotAcknowledged",
        "bridge holds messages that Kafka does not acknowledge; new ones wait in mosquitto, HTTP clients get 503",
        {"severity": "critical", "service": "bridge", "instance": "bridge:9100"},
        {
            'millrace_bridge_groups{service="bridge", instance="bridge:9100"}': "4x80",
            'millrace_bridge_acknowledged_total{service="bridge", instance="bridge:9100"}': "500x80",
        },
        {
            'millrace_bridge_groups{service="bridge", instance="bridge:9100"}': "4x80",
            'millrace_bridge_acknowledged_total{service="bridge", instance="bridge:9100"}': "0+1x80",
            'millrace_bridge_groups{service="bridge-http", instance="h:9100"}': NEVER,
            'millrace_bridge_acknowledged_total{service="bridge-http", instance="h:9100"}': NEVER,
        },
    ),
    Case(
        "MessagesNotDecided",
        "10 messages a second are received, and access processes none",
        {"severity": "critical", "service": "access"},
        {"millrace_bridge_acknowledged_total": "0+150x80", _DECIDED.format("accepted"): "700x80"},
        {
            "millrace_bridge_acknowledged_total": "0+150x80",
            _DECIDED.format("accepted"): "700x80",
            _DECIDED.format("denied"): "0+1x80",
        },
    ),
    Case(
        "ReadingsNotStored",
        "100 readings a second are accepted, and none is stored",
        {"severity": "critical"},
        {"millrace_access_readings_total": "0+1500x80", 'millrace_sink_rows_total{table="readings"}': "100x80"},
        {"millrace_access_readings_total": "0+1500x80", 'millrace_sink_rows_total{table="readings"}': "0+1500x80"},
    ),
    Case(
        "MessagesMissing",
        "7 numbered messages of devices never reached the bridge, in 15 minutes",
        {"severity": "warning"},
        {"millrace_access_missing_total": "0x40 7x40"},
        {"millrace_access_missing_total": "7x80"},
    ),
    Case(
        "MessagesDropped",
        "bridge dropped 100 messages in 5 minutes",
        {"severity": "warning", "by": "bridge"},
        {
            "millrace_bridge_mqtt_dropped_qos0_total": "0+5x80",
            "millrace_mosquitto_dropped_messages": "3x80",
        },
        {"millrace_bridge_mqtt_dropped_qos0_total": "9x80", "millrace_mosquitto_dropped_messages": "3x80"},
    ),
    Case(
        "MessagesDropped",
        "mosquitto dropped 20 messages in 5 minutes",
        {"severity": "warning", "by": "mosquitto"},
        {"millrace_mosquitto_dropped_messages": "0+1x80"},
        {"millrace_mosquitto_dropped_messages": "3x80"},
    ),
    Case(
        "HttpErrors",
        "5% of HTTP requests are answered with 503",
        {"severity": "warning", "status": "503"},
        {
            'millrace_http_requests_total{status="202"}': "0+95x80",
            'millrace_http_requests_total{status="503"}': "0+5x80",
        },
        {
            'millrace_http_requests_total{status="202"}': "0+995x80",
            'millrace_http_requests_total{status="503"}': "0+5x80",
            'millrace_http_requests_total{status="400"}': "0+300x80",
        },
    ),
    # ---- engines
    Case(
        "KafkaDown",
        "Kafka does not answer",
        {"severity": "critical", "engine": "kafka"},
        {'millrace_watch_up{at="kafka"}': NEVER, 'millrace_watch_up{at="clickhouse"}': ALWAYS},
        {'millrace_watch_up{at="kafka"}': "1 1 0 1 1x80"},
        quiet_at="45s",
    ),
    Case(
        "KafkaLeaderless",
        "2 partitions of Kafka have no leader: nothing can be written there",
        {"severity": "critical", "engine": "kafka"},
        {'millrace_kafka_partitions{state="leaderless"}': "2x80"},
        {
            'millrace_kafka_partitions{state="leaderless"}': NEVER,
            'millrace_kafka_partitions{state="under_replicated"}': "2x80",
        },
    ),
    Case(
        "KafkaUnderReplicated",
        "2 partitions of Kafka are under-replicated",
        {"severity": "warning", "engine": "kafka"},
        {'millrace_kafka_partitions{state="under_replicated"}': "2x80"},
        # a broker that is started again is back within minutes
        {'millrace_kafka_partitions{state="under_replicated"}': "0x60 2x10 0x20"},
    ),
    Case(
        "ClickHouseDown",
        "ClickHouse does not answer",
        {"severity": "critical", "engine": "clickhouse"},
        {'millrace_watch_up{at="clickhouse"}': NEVER},
        {'millrace_watch_up{at="clickhouse"}': ALWAYS, 'millrace_watch_up{at="kafka"}': NEVER},
    ),
    Case(
        "TablePartsMany",
        "a partition of table readings has 600 parts: ClickHouse does not keep up with merging",
        {"severity": "warning", "engine": "clickhouse", "table": "readings"},
        {'millrace_clickhouse_partition_parts{table="readings"}': "600x80"},
        {  # 1,200 months of history: one part each, and nothing to merge
            'millrace_clickhouse_partition_parts{table="readings"}': "1x80",
            'millrace_clickhouse_table_parts{table="readings"}': "1200x80",
        },
    ),
    Case(
        "MosquittoDown",
        "mosquitto does not answer",
        {"severity": "critical", "engine": "mosquitto"},
        {'millrace_watch_up{at="mosquitto"}': NEVER},
        {'millrace_watch_up{at="mosquitto"}': ALWAYS},
    ),
    Case(
        "MosquittoQueueGrowing",
        "mosquitto's queue grew by 20k messages in 5 minutes: the bridge does not consume them",
        {"severity": "critical", "engine": "mosquitto"},
        {"millrace_mosquitto_stored_messages": "50+1000x80", "millrace_mosquitto_received_messages": "0+1000x80"},
        # a busy broker: what waits for a moment goes up and down, what came in went out
        {"millrace_mosquitto_stored_messages": "50+90x80", "millrace_mosquitto_received_messages": "0+9000x80"},
    ),
    Case(
        "MosquittoMemoryLarge",
        "mosquitto holds 2GiB of messages in memory",
        {"severity": "warning", "engine": "mosquitto"},
        {"millrace_mosquitto_heap_bytes": "2147483648x80"},
        {"millrace_mosquitto_heap_bytes": "500000000x80"},
    ),
    # ---- services
    Case(
        "ServiceDown",
        "access at access:9100 does not answer: down, hung or unreachable",
        {"severity": "critical", "job": "millrace", "service": "access", "instance": "access:9100"},
        {'up{job="millrace", service="access", instance="access:9100"}': "1x40 0x40"},
        {'up{job="millrace", service="access", instance="access:9100"}': "1x40 0 1x40"},
        quiet_at="10m15s",
    ),
    Case(
        "ServiceMissing",
        "no target for sink",
        {"severity": "critical", "service": "sink"},
        _services("relay", "bridge", "access", "watch"),
        _services(*_VITAL),
    ),
    Case(
        "ServiceMissing",
        "no target for anomaly",
        {"severity": "critical", "service": "anomaly"},
        {**_services(*_VITAL), 'up{job="millrace", service="anomaly", instance="a:9100"}': "1x20 _x60"},
        {**_services(*_VITAL), 'up{job="millrace", service="anomaly", instance="a:9100"}': NEVER},
    ),
    Case(
        "ServiceNotReady",
        "bridge is not ready: its check kafka fails",
        {"severity": "warning", "service": "bridge", "instance": "bridge:9100", "check": "kafka"},
        {'millrace_check_failed{service="bridge", instance="bridge:9100", check="kafka"}': ALWAYS},
        {'millrace_check_failed{service="bridge", instance="bridge:9100", check="start"}': "1 1 1 _x80"},
    ),
    Case(
        "ServiceRestarting",
        "sink restarted 5 times in 15 minutes",
        {"severity": "warning", "service": "sink", "instance": "sink:9100"},
        {_BEGUN: "1x20 2x5 3x5 4x5 5x5 6x50"},
        {_BEGUN: "1x40 2x20 3x20"},
    ),
    Case(
        "CertificateEnding",
        "the certificate /keys/client.crt expires in 5d 0h 0m 0s",
        {"severity": "warning", "service": "bridge", "certificate": "/keys/client.crt"},
        {'millrace_certificate_end_timestamp_seconds{service="bridge", certificate="/keys/client.crt"}': "433200x80"},
        {'millrace_certificate_end_timestamp_seconds{service="bridge", certificate="/keys/client.crt"}': "5184000x80"},
    ),
    Case(
        "CertificateEnding",
        "the certificate mosquitto:8883 expires in 1d 0h 0m 0s",
        {"severity": "critical", "service": "watch", "certificate": "mosquitto:8883"},
        {'millrace_certificate_end_timestamp_seconds{service="watch", certificate="mosquitto:8883"}': "87600x80"},
        {'millrace_certificate_end_timestamp_seconds{service="watch", certificate="mosquitto:8883"}': "5184000x80"},
        also=(({"severity": "warning"}, "the certificate mosquitto:8883 expires in 1d 0h 0m 0s"),),
    ),
    # ---- disks
    Case(
        "DiskFilling",
        "the disk of kafka has 10% free",
        {"severity": "warning", "disk": "kafka"},
        {'millrace_disk_free_bytes{disk="kafka"}': "10x80", 'millrace_disk_size_bytes{disk="kafka"}': "100x80"},
        {'millrace_disk_free_bytes{disk="kafka"}': "20x80", 'millrace_disk_size_bytes{disk="kafka"}': "100x80"},
    ),
    Case(
        "DiskFilling",
        "the disk of clickhouse/default has 5% free",
        {"severity": "critical", "disk": "clickhouse/default"},
        {
            'millrace_disk_free_bytes{disk="clickhouse/default"}': "5x80",
            'millrace_disk_size_bytes{disk="clickhouse/default"}': "100x80",
        },
        {
            'millrace_disk_free_bytes{disk="clickhouse/default"}': "20x80",
            'millrace_disk_size_bytes{disk="clickhouse/default"}': "100x80",
        },
        also=(({"severity": "warning"}, "the disk of clickhouse/default has 5% free"),),
    ),
    Case(
        "DiskFullSoon",
        "the disk of mosquitto will be full within a day",
        {"severity": "warning", "disk": "mosquitto"},
        {
            'millrace_disk_free_bytes{disk="mosquitto"}': "60-0.1x400",
            'millrace_disk_size_bytes{disk="mosquitto"}': "100x400",
        },
        {
            'millrace_disk_free_bytes{disk="mosquitto"}': "35x400",
            'millrace_disk_size_bytes{disk="mosquitto"}': "100x400",
        },
        at="6h",
        interval="1m",
    ),
    # ---- bridges
    Case(
        "BridgePaused",
        "bridge has stopped reading: Kafka is slower than the incoming rate",
        {"severity": "warning", "service": "bridge", "instance": "bridge:9100"},
        {'millrace_bridge_paused{service="bridge", instance="bridge:9100"}': ALWAYS},
        {'millrace_bridge_paused{service="bridge", instance="bridge:9100"}': "0 1 0 0 0 1 0 0 0x80"},
        quiet_at="2m",
    ),
    Case(
        "BridgeDisconnected",
        "bridge at bridge:9100 is not connected to its broker",
        {"severity": "critical", "service": "bridge", "instance": "bridge:9100"},
        {'millrace_bridge_mqtt_connected{service="bridge", instance="bridge:9100"}': NEVER},
        {'millrace_bridge_mqtt_connected{service="bridge", instance="bridge:9100"}': ALWAYS},
    ),
    # ---- time
    Case(
        "TimeStandsStill",
        "the relay sends no ticks: windows stay open, silent devices are not detected",
        {"severity": "critical", "service": "relay"},
        {"millrace_relay_ticks_total": "90x80"},
        {"millrace_relay_ticks_total": "0+15x80"},
    ),
    Case(
        "TimeStandsStill",
        "the relay sends no ticks: windows stay open, silent devices are not detected",
        {"severity": "critical", "service": "relay"},
        {"millrace_relay_position": ALWAYS},
        {"millrace_relay_ticks_total": "0+15x80"},
    ),
    Case(
        "RelayClockOff",
        "the relay's clock is 2s off from Kafka's; above 5 s ticks are withheld",
        {"severity": "warning", "service": "relay"},
        {"millrace_relay_clock_off_seconds": "2x80", "millrace_relay_ticks_withheld_total": NEVER},
        {"millrace_relay_clock_off_seconds": "0.2x80", "millrace_relay_ticks_withheld_total": NEVER},
    ),
    Case(
        "RelayClockOff",
        "the relay's clock is 9s off from Kafka's: ticks are withheld",
        {"severity": "critical", "service": "relay"},
        {"millrace_relay_clock_off_seconds": "9x80", "millrace_relay_ticks_withheld_total": "0+15x80"},
        {"millrace_relay_clock_off_seconds": "0.2x80", "millrace_relay_ticks_withheld_total": "4x80"},
        also=(({"severity": "warning"}, "the relay's clock is 9s off from Kafka's; above 5 s ticks are withheld"),),
    ),
    Case(
        "ControlRecordsBroken",
        "3 control records are malformed and were not applied",
        {"severity": "warning", "service": "relay"},
        {"millrace_relay_broken_records_total": "0x200 3x60"},
        {"millrace_relay_broken_records_total": "3x300"},
        at="1h",
    ),
    # ---- stages
    Case(
        "StageStandsStill",
        "stage anomaly processes no records, not even ticks",
        {"severity": "critical", "stage": "anomaly", "service": "anomaly"},
        {
            'millrace_stage_records_total{stage="anomaly", kind="tick"}': "900x80",
            'millrace_stage_records_total{stage="access", kind="tick"}': "0+60x80",
        },
        # one worker of two has no partitions
        {
            'millrace_stage_records_total{stage="anomaly", kind="tick", instance="a"}': "900x80",
            'millrace_stage_records_total{stage="anomaly", kind="tick", instance="b"}': "0+60x80",
        },
    ),
    Case(
        "StageLagging",
        "stage presence is 50s behind",
        {"severity": "warning", "stage": "presence", "service": "presence"},
        {
            'millrace_stage_lag_records{stage="presence", partition="0"}': "500x80",
            'millrace_stage_records_total{stage="presence", kind="data"}': "0+150x80",
        },
        {
            'millrace_stage_lag_records{stage="presence", partition="0"}': "500x80",
            'millrace_stage_records_total{stage="presence", kind="data"}': "0+1500x80",
        },
    ),
    Case(
        "LagGrowing",
        "access does not keep up with telemetry.raw: 3100 records behind and growing",
        {"severity": "warning", "group": "access", "topic": "telemetry.raw", "service": "access"},
        {'millrace_kafka_group_lag_records{group="access", topic="telemetry.raw"}': "60+40x80"},
        # commits every ten seconds or so; the rate doubles half way
        {
            'millrace_kafka_group_lag_records{group="access", topic="telemetry.raw"}': "10 400 20 380 15 390x0 "
            + "30 410 " * 18
            + "40 800 " * 20,
            'millrace_kafka_group_lag_records{group="millrace-relay", topic="platform.control"}': "1x80",
        },
    ),
    Case(
        "LagGrowing",
        "millrace-sink does not keep up with telemetry.readings: 3100 records behind and growing",
        {"severity": "warning", "group": "millrace-sink", "topic": "telemetry.readings", "service": "sink"},
        {'millrace_kafka_group_lag_records{group="millrace-sink", topic="telemetry.readings"}': "60+40x80"},
        # far behind, and catching up
        {'millrace_kafka_group_lag_records{group="millrace-sink", topic="telemetry.readings"}': "90000-900x80"},
    ),
    Case(
        "SnapshotOld",
        "stage access, partition 2: the last snapshot is 10m 0s old",
        {"severity": "warning", "stage": "access", "partition": "2", "service": "access"},
        {'millrace_stage_snapshot_timestamp_seconds{stage="access", partition="2"}': "600x80"},
        {'millrace_stage_snapshot_timestamp_seconds{stage="access", partition="2"}': "0+15x80"},
    ),
    Case(
        "RebalanceStorm",
        "workers of stage access rebalanced 40 times in 10 minutes",
        {"severity": "warning", "stage": "access", "service": "access"},
        {'millrace_stage_rebalances_total{stage="access", instance="a"}': "0+1x80"},
        {
            'millrace_stage_rebalances_total{stage="access", instance="a"}': "1x40 4x40",
            'millrace_stage_rebalances_total{stage="access", instance="b"}': "1x40 4x40",
        },
    ),
    # ---- sink
    Case(
        "SinkRetrying",
        "inserts into readings are being retried",
        {"severity": "warning", "table": "readings", "service": "sink"},
        {'millrace_sink_retries_total{table="readings"}': "0+3x80"},
        {'millrace_sink_retries_total{table="readings"}': "3x80"},
    ),
    Case(
        "SinkLagging",
        "the sink is 50s behind telemetry.readings",
        {"severity": "warning", "topic": "telemetry.readings", "service": "sink"},
        {
            'millrace_sink_lag_records{topic="telemetry.readings", partition="0"}': "500x80",
            'millrace_sink_records_total{topic="telemetry.readings"}': "0+150x80",
        },
        {
            'millrace_sink_lag_records{topic="telemetry.readings", partition="0"}': "50x80",
            'millrace_sink_records_total{topic="telemetry.readings"}': "0+150x80",
        },
    ),
    Case(
        "SinkPaused",
        "the sink at sink:9100 has paused 2 partitions: ClickHouse is slower than Kafka",
        {"severity": "warning", "instance": "sink:9100", "service": "sink"},
        {'millrace_sink_paused_partitions{service="sink", instance="sink:9100"}': "2x80"},
        {'millrace_sink_paused_partitions{service="sink", instance="sink:9100"}': NEVER},
    ),
    Case(
        "IncidentsNotTold",
        "no incident could be sent to Alertmanager for 10m 0s",
        {"severity": "warning", "service": "notify"},
        {"millrace_notify_told_timestamp_seconds": "600x80"},
        {"millrace_notify_told_timestamp_seconds": "0+15x80"},
    ),
    # ---- data
    Case(
        "DeadLettersRising",
        "2% of messages cannot be decoded; most frequent reason: json",
        {"severity": "warning"},
        {
            _DECIDED.format("accepted"): "0+98x80",
            _DECIDED.format("dead_letter"): "0+2x80",
            _REFUSED.format("json"): "0+2x80",
            _REFUSED.format("channel"): "0+1x80",
        },
        {_DECIDED.format("accepted"): "0+998x80", _DECIDED.format("dead_letter"): "0+2x80"},
    ),
    Case(
        "DeadLetterFlood",
        "200 messages a second cannot be decoded; most frequent reason: json",
        {"severity": "critical"},
        {
            _DECIDED.format("accepted"): "0+3000x80",
            _DECIDED.format("dead_letter"): "0+3000x80",
            _REFUSED.format("json"): "0+3000x80",
        },
        {_DECIDED.format("accepted"): "0+90000x80", _DECIDED.format("dead_letter"): "0+3000x80"},
    ),
    Case(
        "DeniedRising",
        "10% of messages are denied; most frequent rule: unknown_device",
        {"severity": "warning"},
        {
            _DECIDED.format("accepted"): "0+90x80",
            _DECIDED.format("denied"): "0+10x80",
            _REFUSED.format("unknown_device"): "0+10x80",
        },
        {_DECIDED.format("accepted"): "0+990x80", _DECIDED.format("denied"): "0+10x80"},
    ),
    Case(
        "DeviceClockWrong",
        "20 messages in 5 minutes have times too far ahead: a device's clock is wrong",
        {"severity": "warning", "rule": "ahead"},
        {_REFUSED.format("ahead"): "0+1x80", _REFUSED.format("channel"): "0+9x80"},
        {_REFUSED.format("ahead"): "5x80", _REFUSED.format("channel"): "0+9x80"},
    ),
    Case(
        "DeviceClockWrong",
        "20 messages in 5 minutes have times too far back: a device's clock is wrong",
        {"severity": "warning", "rule": "age"},
        {_REFUSED.format("age"): "0+1x80"},
        {_REFUSED.format("age"): NEVER},
    ),
)
