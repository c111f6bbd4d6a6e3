"""The dashboards."""

from cli.declared import services
from monitoring.dashboards.boards import dashboards

BOARDS = dashboards(services())
