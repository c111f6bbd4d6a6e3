"""The whole platform along the path of a message: where it waits, where it is lost, what it costs."""

from typing import Final

from monitoring.dashboards.model import Dashboard, Panel, Row, p99

PIPELINE: Final = Dashboard(
    "millrace-pipeline",
    "Pipeline",
    [
        Row(
            "Promises",
            [
                Panel(
                    "Ledger: difference",
                    [('max by (of) (abs(millrace_ledger{count="difference"}))', "{{of}}")],
                    kind="stat",
                    width=4,
                    limit=1,
                    meaning="messages and readings that cannot be accounted for",
                ),
                Panel(
                    "In flight",
                    [('max by (of) (millrace_ledger{count="in_flight"})', "{{of}}")],
                    kind="stat",
                    width=4,
                    meaning="received, and not in the tables yet",
                ),
                Panel(
                    "Late, last hour",
                    [("millrace:readings_late:ratio_1h", "")],
                    "percentunit",
                    kind="stat",
                    width=4,
                    limit=0.001,
                    meaning="later than 2 s; 0.1 % is promised",
                ),
                Panel(
                    "Late, 3 days",
                    [("millrace:readings_late:ratio_3d", "")],
                    "percentunit",
                    kind="stat",
                    width=4,
                    limit=0.001,
                ),
                Panel(
                    "Receipt to query, p99",
                    [("millrace:device_to_queryable:p99_5m", "")],
                    "s",
                    kind="stat",
                    width=4,
                    limit=2,
                ),
                Panel(
                    "Alerts",
                    [('count by (severity) (ALERTS{alertstate="firing", severity!="info"})', "{{severity}}")],
                    kind="stat",
                    width=4,
                    limit=1,
                ),
            ],
        ),
        Row(
            "1  devices → mosquitto → bridge",
            [
                Panel(
                    "Messages /s",
                    [
                        ("sum by (service) (rate(millrace_bridge_messages_total[1m]))", "{{service}}"),
                        ("max(rate(millrace_mosquitto_received_messages[1m]))", "mosquitto in"),
                    ],
                    "cps",
                ),
                Panel(
                    "mosquitto holds",
                    [("max(millrace_mosquitto_stored_messages)", "messages")],
                    meaning="queues, and retained ones",
                ),
                Panel(
                    "Held by bridges",
                    [
                        ("sum by (service) (millrace_bridge_held_bytes)", "{{service}}"),
                        ("sum by (service) (millrace_bridge_paused) * 1e6", "{{service}} paused"),
                    ],
                    "bytes",
                    "not acknowledged by Kafka; a step of 1 MB: reading is paused",
                ),
            ],
        ),
        Row(
            "2  bridge → Kafka",
            [
                Panel(
                    "Acknowledged /s",
                    [("sum by (service) (rate(millrace_bridge_acknowledged_total[1m]))", "{{service}}")],
                    "cps",
                ),
                Panel(
                    "Kafka's acknowledgement, p99",
                    [(p99("millrace_bridge_ack_seconds", "service"), "{{service}}")],
                    "s",
                ),
                Panel(
                    "Rows a record",
                    [
                        (
                            "sum(rate(millrace_bridge_messages_total[1m]))"
                            " / sum(rate(millrace_bridge_records_total[1m]))",
                            "rows",
                        )
                    ],
                    meaning="records cost, rows hardly: the more the better",
                ),
            ],
        ),
        Row(
            "3  access, and the stages behind it",
            [
                Panel("Messages by verdict /s", [("millrace:messages_decided:rate1m", "{{verdict}}")], "cps"),
                Panel("Receipt to decision, p99", [(p99("millrace_access_delay_seconds"), "p99")], "s"),
                Panel("Behind", [("millrace:stage_lag:seconds", "{{stage}}")], "s", limit=30),
                Panel("Records /s", [("sum by (stage) (rate(millrace_stage_records_total[1m]))", "{{stage}}")], "cps"),
                Panel(
                    "Cost",
                    [("sum by (stage) (rate(millrace_stage_apply_seconds_sum[1m]))", "{{stage}}")],
                    "percentunit",
                    "of one core, for applying records",
                ),
                Panel(
                    "Age of snapshots",
                    [("time() - min by (stage) (millrace_stage_snapshot_timestamp_seconds)", "{{stage}}")],
                    "s",
                    limit=120,
                ),
            ],
        ),
        Row(
            "4  sink → ClickHouse",
            [
                Panel("Rows /s", [("sum by (table) (rate(millrace_sink_rows_total[1m]))", "{{table}}")], "cps"),
                Panel("Insert, p99", [(p99("millrace_sink_insert_seconds", "table"), "{{table}}")], "s"),
                Panel("Behind", [("millrace:sink_lag:seconds", "{{topic}}")], "s", limit=30),
                Panel("Receipt to query", [(p99("millrace_sink_device_to_queryable_seconds"), "p99")], "s", limit=2),
                Panel(
                    "Tried again /s", [("sum by (table) (rate(millrace_sink_retries_total[1m]))", "{{table}}")], "cps"
                ),
                Panel(
                    "Not committed",
                    [("sum by (group) (millrace_kafka_group_lag_records)", "{{group}}")],
                    meaning="records, as Kafka says",
                ),
            ],
        ),
        Row(
            "Beside it",
            [
                Panel(
                    "Ticks /s",
                    [("sum(rate(millrace_relay_ticks_total[1m]))", "ticks")],
                    "cps",
                    "the platform's clock: 1",
                ),
                Panel(
                    "Disks, free",
                    [("min by (disk) (millrace_disk_free_bytes / (millrace_disk_size_bytes > 0))", "{{disk}}")],
                    "percentunit",
                ),
                Panel("Engines and services up", [("millrace_watch_up", "{{at}}"), ("up", "{{service}} {{instance}}")]),
                Panel(
                    "Certificates end in",
                    [("min by (certificate) (millrace_certificate_end_timestamp_seconds) - time()", "{{certificate}}")],
                    "s",
                    kind="stat",
                    width=24,
                ),
            ],
        ),
    ],
    "From the device to the table, in the order in which a message passes.",
)
