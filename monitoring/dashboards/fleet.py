"""The fleet: uplink and downlink of devices."""

from typing import Final

from monitoring.dashboards.model import Dashboard, Panel, Row, p99

FLEET: Final = Dashboard(
    "millrace-fleet",
    "Fleet",
    [
        Row(
            "Devices",
            [
                Panel("Devices", [("max by (state) (millrace_devices)", "{{state}}")], kind="stat", width=6),
                Panel(
                    "Connected by MQTT",
                    [("max(millrace_mosquitto_clients)", "clients")],
                    kind="stat",
                    width=6,
                    meaning="the bridge and the watch are among them",
                ),
                Panel("With a token for HTTP", [("max(millrace_http_devices)", "devices")], kind="stat", width=6),
                Panel(
                    "Known to the stages",
                    [
                        (
                            'sum by (stage, what) (millrace_stage_state_items{what=~"devices|series"})',
                            "{{stage}} {{what}}",
                        )
                    ],
                    kind="stat",
                    width=6,
                ),
            ],
        ),
        Row(
            "What they say",
            [
                Panel(
                    "Messages /s",
                    [("sum by (service) (rate(millrace_bridge_messages_total[1m]))", "{{service}}")],
                    "cps",
                ),
                Panel("Bytes /s", [("sum by (service) (rate(millrace_bridge_bytes_total[1m]))", "{{service}}")], "Bps"),
                Panel(
                    "Readings /s",
                    [
                        ("sum(rate(millrace_access_readings_total[1m]))", "accepted"),
                        ("millrace:readings_stored:rate1m", "stored"),
                    ],
                    "cps",
                ),
                Panel(
                    "HTTP requests /s",
                    [("sum by (status) (rate(millrace_http_requests_total[1m]))", "{{status}}")],
                    "cps",
                ),
                Panel("HTTP, p99", [(p99("millrace_http_request_seconds"), "p99")], "s"),
                Panel("HTTP connections", [("sum(millrace_http_connections)", "open")]),
            ],
        ),
        Row(
            "Downlink",
            [
                Panel(
                    "End-to-end acknowledgements /s",
                    [
                        ("sum(rate(millrace_bridge_mqtt_receipts_total[1m]))", "acknowledgements"),
                        ("sum(rate(millrace_bridge_mqtt_receipts_dropped_total[1m]))", "dropped"),
                    ],
                    "cps",
                ),
                Panel(
                    "mosquitto's messages /s",
                    [
                        ("max(rate(millrace_mosquitto_received_messages[1m]))", "in"),
                        ("max(rate(millrace_mosquitto_sent_messages[1m]))", "out"),
                        ("max(rate(millrace_mosquitto_dropped_messages[1m]))", "dropped"),
                    ],
                    "cps",
                ),
                Panel("mosquitto's memory", [("max(millrace_mosquitto_heap_bytes)", "heap")], "bytes"),
            ],
        ),
    ],
    "Devices as a whole. One device: millrace trace DEVICE, and the table readings.",
)
