"""Grafana's dashboards as code: made from the metrics that are declared, so that none shows one that does not exist."""
