"""The API's service with its adapters to AWS."""

from ..api.service import Service
from ..model.settings import ApiSettings, Settings
from .athena import Athena
from .clients import Clients
from .pipeline import CloudWatchAlarms, Pipeline
from .record_table import TableReader


def create_service(settings: Settings, api_settings: ApiSettings) -> Service:
    """A service with the credentials, region and endpoint of the environment."""
    clients = Clients()
    return Service(
        settings=settings,
        api_settings=api_settings,
        table=TableReader(clients, settings.table),
        pipeline=Pipeline(api_settings, clients),
        alarm_reader=CloudWatchAlarms(clients),
        athena=Athena(clients, api_settings.work_group),
    )
