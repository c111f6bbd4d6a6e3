"""The batching core that every bridge shares: rows in, Kafka records and acknowledgements in order of receipt out.

Pure: no clock, no socket, no Kafka. How a bridge uses it (bridge.writer does the last two steps for everyone):

    extend, device = intake.route(topic)          # which partition; remembered for topics that repeat
    extend(rows.row(device, topic, payload, properties, flags, received_at_ms))
    intake.open.done.append(callback)             # called once Kafka holds this group and all groups before it
    writer.added(rows=1, size_bytes=len(packet))  # accounts for the bytes, closes the group when it is full

Rows of all partitions are closed together into a group, groups are acknowledged first in, first out: so callbacks come
in order of receipt without any bookkeeping per message. A group has one callback per connection or request, not one
per message. Callbacks must not raise and must not block.

What does not fit a Kafka record never blocks the flow: of a payload above `payload_bytes` the first KiB is kept and the
row's content type becomes schemas.raw.CUT, which access files as a dead letter `too_large`. Configure the edge to
refuse such messages (mosquitto `message_size_limit`, HTTP 413) so that the sender gets an error.
"""
