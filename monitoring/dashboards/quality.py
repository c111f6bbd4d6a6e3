"""Verdicts on messages, and messages that are missing."""

from typing import Final

from monitoring.dashboards.model import Dashboard, Panel, Row

QUALITY: Final = Dashboard(
    "millrace-quality",
    "Data quality",
    [
        Row(
            "The account",
            [
                Panel(
                    "Messages",
                    [('max by (count) (millrace_ledger{of="messages"})', "{{count}}")],
                    meaning="the ledger's totals",
                ),
                Panel("Readings", [('max by (count) (millrace_ledger{of="readings"})', "{{count}}")]),
                Panel("Difference", [('max by (of) (abs(millrace_ledger{count="difference"}))', "{{of}}")], limit=1),
            ],
        ),
        Row(
            "What is refused",
            [
                Panel(
                    "Share by verdict",
                    [
                        (
                            "millrace:messages_decided:rate1m"
                            " / ignoring (verdict) group_left () sum(millrace:messages_decided:rate1m)",
                            "{{verdict}}",
                        )
                    ],
                    "percentunit",
                ),
                Panel(
                    "Refused by rule /s",
                    [("sum by (rule) (rate(millrace_access_refused_total[1m]))", "{{rule}}")],
                    "cps",
                    "dead letters and denied; the tables dead_letters and denied have each with its bytes",
                ),
                Panel(
                    "Wrong clocks /s",
                    [('sum by (rule) (rate(millrace_access_refused_total{rule=~"ahead|age"}[5m]))', "{{rule}}")],
                    "cps",
                ),
            ],
        ),
        Row(
            "What is missing or doubled",
            [
                Panel(
                    "Never reached the bridge /s",
                    [("sum(rate(millrace_access_missing_total[5m]))", "missing")],
                    "cps",
                    "gaps in seq that were given up",
                ),
                Panel(
                    "QoS 0 dropped /s", [("sum(rate(millrace_bridge_mqtt_dropped_qos0_total[1m]))", "bridge")], "cps"
                ),
                Panel("Replayed /s", [("sum(rate(millrace_access_replayed_total[1m]))", "replayed")], "cps"),
                Panel("Cut: too large /s", [("sum(rate(millrace_bridge_mqtt_cut_total[5m]))", "cut")], "cps"),
                Panel(
                    "Properties not read /s",
                    [("sum(rate(millrace_bridge_mqtt_malformed_properties_total[5m]))", "malformed")],
                    "cps",
                ),
                Panel(
                    "Decoded one by one /s",
                    [("sum(rate(millrace_access_decode_fallbacks_total[5m]))", "records")],
                    "cps",
                    "records that the batch path could not read: slow, and worth a look",
                ),
            ],
        ),
    ],
    "Verdicts on messages, and messages that are missing.",
)
