"""HAProxy's configuration: fixed, without one name or certificate in it. All of those it is told (``core.proxywords``).

    :80  ---------------------------------------> web    routes.map: http://red.example.com/api  -> b3
    :443 --> tls   routes.map: sni://name/ -> p0               https://red.example.com/     -> b0
               '-- terminated --loop--> web              http://old.example.com/      -> https://new.example.com

    b0 … b127     a service each: HTTP
    p0 … p31      a service each whose TLS is passed on as it is

Each entry is a beginning; the longest that fits has the request. What fits nothing is 404, or no TLS at all.
"""

from __future__ import annotations

from fairlead.core.webmesh import COMMAND, PORT, TERMINATED, TLS_PORT

FOLDER = "/etc/fairlead"
CONFIG, ROUTES, LEDGER = COMMAND[-1], f"{FOLDER}/routes.map", f"{FOLDER}/ledger.map"
CERTIFICATES = f"{FOLDER}/certificates.list"
SOCKET = "/run/haproxy.sock"
BACKENDS, RAW_BACKENDS = 128, 32
"""services that one mesh has room for"""
COOKIE = "FAIRLEAD"
LARGEST_PEM = 24 << 10
"""bytes: what HAProxy is told has to fit its buffer"""


def files() -> dict[str, str]:
    """What its image has besides haproxy itself."""
    return {CONFIG: config(), ROUTES: "", LEDGER: "", CERTIFICATES: ""}


def config() -> str:
    """The whole configuration file."""
    backends = "".join(_BACKEND.format(name=f"b{number}", cookie=COOKIE) for number in range(BACKENDS))
    return _HEAD + backends + "".join(_RAW_BACKEND.format(name=f"p{number}") for number in range(RAW_BACKENDS))


_HEAD = f"""\
global
    log stdout format raw daemon notice
    maxconn 9000
    stats socket {SOCKET} mode 600 level admin
    hard-stop-after 30s
    # a certificate with its chain and key comes by the socket in one piece
    tune.bufsize 32768

defaults
    mode http
    log global
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 10s
    # a WebSocket, or TLS that is passed on
    timeout tunnel 1h
    # whom nobody could connect to did not get the request: another one does, at once
    option redispatch 1
    retries 3

frontend web
    # two sockets: an IPv4 client is called 192.0.2.1, not ::ffff:192.0.2.1
    bind 0.0.0.0:{PORT}
    bind :::{PORT} v6only
    bind abns@{TERMINATED} accept-proxy ssl strict-sni crt-list {CERTIFICATES} alpn h2,http/1.1 ssl-min-ver TLSv1.2
    option forwardfor
    http-request set-var(txn.host) req.hdr(host),field(1,:),lower
    http-request set-var-fmt(txn.place) "http%[ssl_fc,iif(s,)]://%[var(txn.host)]%[path]"
    http-request set-var(txn.to) var(txn.place),map_beg({ROUTES})
    http-request set-header X-Forwarded-Proto "http%[ssl_fc,iif(s,)]"
    http-request redirect prefix %[var(txn.to)] code 307 if {{ var(txn.to) -m beg http }}
    # who closed without an answer may have done what was asked: such a request is not made twice
    http-request disable-l7-retry if !{{ method GET HEAD OPTIONS }}
    use_backend %[var(txn.to)]
    default_backend nobody

frontend tls
    mode tcp
    bind 0.0.0.0:{TLS_PORT}
    bind :::{TLS_PORT} v6only
    tcp-request inspect-delay 5s
    tcp-request content set-var(txn.name) req.ssl_sni,lower if {{ req.ssl_hello_type 1 }}
    tcp-request content set-var-fmt(txn.place) "sni://%[var(txn.name)]/" if {{ req.ssl_hello_type 1 }}
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    tcp-request content reject
    use_backend %[var(txn.place),map_beg({ROUTES})]
    default_backend {TERMINATED}

backend {TERMINATED}
    mode tcp
    server here abns@{TERMINATED} send-proxy-v2

backend nobody
    http-request set-var(txn.ledger) str(),map({LEDGER})
    http-request return status 404 content-type text/plain string "no service has this name and path"
"""
_BACKEND = """
backend {name}
    balance roundrobin
    retry-on conn-failure empty-response
    cookie {cookie} insert indirect nocache httponly
    dynamic-cookie-key fairlead
"""
_RAW_BACKEND = """
backend {name}
    mode tcp
    balance roundrobin
"""
