"""What a request means and whether it may go on, as functions of values: no sockets, no Kafka, no clock."""
