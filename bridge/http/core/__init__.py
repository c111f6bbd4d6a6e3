"""What a request means and whether it is accepted, as functions of values: no sockets, no Kafka, no clock."""
