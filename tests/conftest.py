"""What several lanes share: the options, and the fixtures that start engines (``lane.fixtures``)."""

import os

import pytest
from hypothesis import settings

from lane.client import choose

pytest_plugins = ["lane.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    engine = "type everything at this engine; with 'real', a dockerd from SID_ROOT, the lanes themselves are proved"
    parser.addoption("--engine", default=os.environ.get("ENGINE", "fairlead"), help=engine)
    client = "type with this client: docker, fairlead, or a path"
    parser.addoption("--client", default=os.environ.get("CLIENT", "docker"), help=client)
    parser.addoption("--write-scenarios", action="store_true", help="rewrite docs/scenarios.md from this run")


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("patient", deadline=None)  # how long an example takes says more of the machine than of us
    settings.load_profile("patient")
    choose(config.getoption("--client"))
    config.addinivalue_line("markers", "rows(*ids): the rows of docs/scenarios.md that this test proves")
    config.addinivalue_line("markers", "proves(*rows, guard): the rows of docs/security.md that this test proves")
