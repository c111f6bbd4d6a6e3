"""Metrics of the MQTT bridge; those of the way into Kafka are in bridge.metrics."""

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("millrace_bridge_mqtt_connected", "1 while the bridge is connected to its broker and subscribed.")
CONNECTS = Counter("millrace_bridge_mqtt_connects", "Connections made to the broker.")
READS = Counter(
    "millrace_bridge_mqtt_reads", "Reads from the socket; divide the messages by it for the size of a read."
)
DROPPED_QOS0 = Counter(
    "millrace_bridge_mqtt_dropped_qos0",
    "QoS 0 messages dropped because Kafka was slow and MILLRACE_BUDGET_BYTES was used up.",
)
CUT = Counter("millrace_bridge_mqtt_cut", "Messages truncated because they are too large for a record.")
MALFORMED = Counter("millrace_bridge_mqtt_malformed_properties", "Messages whose properties could not be read.")
CONNECTIONS = Counter("millrace_bridge_mqtt_connections", "Connects and disconnects of devices, from the broker's log.")
RECEIPTS = Counter("millrace_bridge_mqtt_receipts", "End-to-end acknowledgements published.")
RECEIPTS_DROPPED = Counter(
    "millrace_bridge_mqtt_receipts_dropped",
    "End-to-end acknowledgements dropped because the broker accepted them too slowly.",
)
