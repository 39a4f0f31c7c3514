"""``fairlead mesh http``: one port of every node, and host names that lead on to services."""

from __future__ import annotations

import sys

from fairlead.cli import tables
from fairlead.cli.client import Client
from fairlead.cli.command import command, form, integer

WHERE = "/fairlead/mesh/http"


@command("[OPTIONS]")
@integer("--port", default=80, help="Port of every node that HTTP comes in by (default 80).")
@integer("--https", default=0, help="Port of every node that HTTPS comes in by (default: none).")
def enable(client: Client, port: int, https: int) -> int:
    """Lead HTTP requests to services by host name and path: makes a network and a service.

    Services join by being on that network, with a label: com.docker.ucp.mesh.http=8080=http://red.example.com or, with
    the certificate and its key in the secret red, fairlead.http=8080=https://red.example.com,certificate=red"""
    print(client.call("POST", WHERE, body={"Port": port, "HTTPS": https})["ID"])
    return 0


@command("")
def disable(client: Client) -> int:
    """Take the HTTP mesh away again."""
    client.call("DELETE", WHERE)
    return 0


@command("[OPTIONS]")
@form
def ls(client: Client, form: str) -> int:
    """List which names lead where."""
    found = client.call("GET", WHERE)
    rows = [
        {
            "URL": route["URL"],
            "Service": route["Service"],
            "Port": str(route["Port"] or ""),
            "Sticky": str(route["Sticky"]).lower(),
            "Certificate": ",".join(route["Secrets"]),
            "Redirect": route["Redirect"],
        }
        for route in found["Routes"]
    ]
    tables.show(rows, form, ("URL", "Service", "Port", "Sticky", "Certificate", "Redirect"), {})
    if not found["Enabled"]:
        print(f"The HTTP mesh is off; {client.typed.partition(' ')[0]} mesh http enable puts it on.", file=sys.stderr)
    return 0
