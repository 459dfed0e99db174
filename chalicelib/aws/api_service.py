"""The API's service on AWS."""

from ..api.service import Service
from ..model.settings import ApiSettings, Settings
from .athena import Athena
from .clients import Clients
from .pipeline import AlarmReader, Pipeline
from .record_table import TableReader


def create_service(settings: Settings, own: ApiSettings) -> Service:
    """A service on the credentials, region and endpoint of the environment."""
    clients = Clients()
    return Service(
        settings=settings,
        own=own,
        table=TableReader(clients, settings.table),
        pipeline=Pipeline(own, clients),
        alarm_reader=AlarmReader(clients),
        athena=Athena(clients, own.work_group),
    )
