"""What detectors find, and how they do."""

from typing import Final

from monitoring.dashboards.model import Dashboard, Panel, Row, p99

_STORED: Final = 'table=~"anomalies|incidents"'
_STAGES: Final = 'stage=~"anomaly|presence|aggregate"'
_COST: Final = f"sum by (stage) (rate(millrace_stage_apply_seconds_sum{{{_STAGES}}}[1m]))"
_WRITTEN: Final = f"sum by (topic) (rate(millrace_stage_outputs_total{{{_STAGES}}}[1m]))"
_ITEMS: Final = f"sum by (stage, what) (millrace_stage_state_items{{{_STAGES}}})"
_ROWS: Final = f"sum by (table) (rate(millrace_sink_rows_total{{{_STORED}}}[5m]))"

ANOMALIES: Final = Dashboard(
    "millrace-anomalies",
    "Anomalies",
    [
        Row(
            "Found",
            [
                Panel(
                    "Open incidents",
                    [("max by (severity) (millrace_incidents_open)", "{{severity}}")],
                    kind="stat",
                    width=24,
                ),
                Panel("Anomalies and incidents stored /s", [(_ROWS, "{{table}}")], "cps", width=12),
                Panel(
                    "Rows",
                    [(f"max by (table) (millrace_clickhouse_table_rows{{{_STORED}}})", "{{table}}")],
                    width=12,
                ),
            ],
        ),
        Row(
            "The detectors",
            [
                Panel("Behind", [(f"millrace:stage_lag:seconds{{{_STAGES}}}", "{{stage}}")], "s", limit=30),
                Panel("Remembered", [(_ITEMS, "{{stage}} {{what}}")]),
                Panel("State", [(f"sum by (stage) (millrace_stage_state_bytes{{{_STAGES}}})", "{{stage}}")], "bytes"),
                Panel("Cost", [(_COST, "{{stage}}")], "percentunit", "of one core"),
                Panel("Written /s", [(_WRITTEN, "{{topic}}")], "cps"),
                Panel("Restore, p99", [(p99("millrace_stage_restore_seconds", "stage"), "{{stage}}")], "s"),
                Panel(
                    "Receipt to anomaly, p99",
                    [(p99("millrace_sink_anomaly_to_queryable_seconds"), "p99")],
                    "s",
                    limit=2,
                ),
            ],
        ),
    ],
    "How detectors do. The incidents are in the tables incidents_current and anomalies, and in Alertmanager.",
)
