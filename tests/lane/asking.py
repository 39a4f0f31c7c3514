"""Asks for a page over and over, a new connection each time, and counts what goes wrong.

usage: asking.py RATE PORT ADDRESS...      until the standard input ends; then one line of JSON

``RATE``: requests per second, spread over the addresses in turn. A request is lost when no whole page of status 200
came within ``PATIENCE`` seconds: refused, reset, cut short, silent.
"""

import itertools
import json
import socket
import sys
import threading
import time

PATIENCE = 5.0
HANDS = 8
REQUEST = b"GET / HTTP/1.0\r\nHost: web\r\n\r\n"


def ask(address: str, port: int) -> str:
    """What went wrong, or nothing."""
    answer = b""
    try:
        with socket.create_connection((address, port), PATIENCE) as connection:
            connection.sendall(REQUEST)
            while piece := connection.recv(4096):
                answer += piece
    except OSError as error:
        return f"{address}: {error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    whole = head.split(b" ", 2)[1:2] == [b"200"] and body
    return "" if whole else f"{address}: cut short after {len(answer)} bytes"


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
