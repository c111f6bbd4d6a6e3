"""What every service shares: settings, logging, lifecycle, health, metrics, Kafka clients and the stage frame."""
