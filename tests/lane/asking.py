"""Asks for a page over and over, a new connection each time, and counts what goes wrong.

usage: asking.py RATE PORT [NAME@]ADDRESS...      until the standard input ends; then one line of JSON

``RATE``: requests per second, spread over the addresses in turn. ``NAME``: of the host that is asked for; to port 443
it is told by TLS, too, and any certificate will do. A request is lost when no whole page of status 200
came within ``PATIENCE`` seconds: refused, reset, cut short, silent.
"""

import contextlib
import itertools
import json
import socket
import ssl
import sys
import threading
import time

PATIENCE = 5.0
HANDS = 8
REQUEST = "GET / HTTP/1.0\r\nHost: {}\r\n\r\n"
_ANY = ssl.create_default_context()
_ANY.check_hostname, _ANY.verify_mode = False, ssl.CERT_NONE


def ask(place: str, port: int) -> str:
    """What went wrong, or nothing."""
    name, _, address = place.rpartition("@")
    answer = b""
    try:
        with contextlib.closing(socket.create_connection((address, port), PATIENCE)) as plain:
            connection = _ANY.wrap_socket(plain, server_hostname=name) if port == 443 else plain
            connection.sendall(REQUEST.format(name or "web").encode())
            while piece := connection.recv(4096):
                answer += piece
    except OSError as error:
        return f"{place}: {error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    whole = head.split(b" ", 2)[1:2] == [b"200"] and body
    return "" if whole else f"{place}: {head.partition(b' ')[2][:20].decode(errors='replace')}, {len(answer)} bytes"


def main() -> None:
    rate, port, addresses = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    over, lock = threading.Event(), threading.Lock()
    asked, lost = itertools.count(), []
    begun = time.monotonic()

    def work() -> None:
        while not over.is_set():
            with lock:
                number = next(asked)
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            wrong = ask(addresses[number % len(addresses)], port)
            if wrong:
                lost.append(f"{time.monotonic() - begun:.2f} s {wrong}")

    hands = [threading.Thread(target=work) for _ in range(HANDS)]
    for hand in hands:
        hand.start()
    sys.stdin.read()
    over.set()
    for hand in hands:
        hand.join()
    print(
        json.dumps({"asked": next(asked), "lost": len(lost), "seconds": time.monotonic() - begun, "first": lost[:10]})
    )


if __name__ == "__main__":
    main()
