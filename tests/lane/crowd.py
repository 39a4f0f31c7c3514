"""Asks for a page over and over as ``lane.asking`` does, plain HTTP alone, a thousand times a second: sockets that do
not block, and one that waits for all of them. A third of the processor time for each request.

usage: crowd.py RATE PORT ADDRESS...      until the standard input ends; then one line of JSON
"""

import errno
import json
import select
import socket
import sys
import time

PATIENCE = 5.0
MOST = 24
"""under way at once: more are not begun, and come later"""
REQUEST = b"GET / HTTP/1.0\r\nHost: web\r\n\r\n"
UNDER_WAY = (0, errno.EINPROGRESS)


class Call:
    """One request."""

    __slots__ = ("address", "answer", "began", "sock")

    def __init__(self, address: str, port: int) -> None:
        self.address, self.answer, self.began = address, b"", time.monotonic()
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        code = self.sock.connect_ex((address, port))
        if code not in UNDER_WAY:
            raise OSError(code, f"{errno.errorcode[code]}")

    def goes_on(self, writable: bool) -> str | None:
        """What came of it: "" all is well; None: nothing yet."""
        try:
            if writable:
                code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    return f"{self.address}: {errno.errorcode[code]}"
                self.sock.send(REQUEST)
                return None
            while piece := self.sock.recv(65536):
                self.answer += piece
        except BlockingIOError:
            return None
        except OSError as error:
            return f"{self.address}: {error}"
        head, _, body = self.answer.partition(b"\r\n\r\n")
        whole = head.split(b" ", 2)[1:2] == [b"200"] and body
        return "" if whole else f"{self.address}: cut short after {len(self.answer)} bytes"


def main() -> None:
    rate, port, addresses = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    calls: dict[int, Call] = {}
    lost: list[str] = []
    asked, begun, over = 0, time.monotonic(), False

    def ended(number: int, wrong: str) -> None:
        calls.pop(number).sock.close()
        if wrong:
            lost.append(f"{time.monotonic() - begun:.2f} s {wrong}")

    while calls or not over:
        now = time.monotonic()
        while not over and len(calls) < MOST and begun + asked / rate <= now:
            asked += 1
            try:
                call = Call(addresses[asked % len(addresses)], port)
            except OSError as error:
                lost.append(f"{now - begun:.2f} s {error}")
                continue
            calls[call.sock.fileno()] = call
            poll.register(call.sock, select.EPOLLOUT)
        for number, what in poll.poll(max(0.0, min(0.05, begun + asked / rate - now))):
            if number == sys.stdin.fileno():
                over = True
                poll.unregister(number)
                continue
            writable = not what & select.EPOLLIN and bool(what & select.EPOLLOUT)
            wrong = calls[number].goes_on(writable)
            if wrong is not None:
                ended(number, wrong)
            elif writable:
                poll.modify(number, select.EPOLLIN)
        for number in [number for number, call in calls.items() if now - call.began > PATIENCE]:
            ended(number, f"{calls[number].address}: no answer")
    print(json.dumps({"asked": asked, "lost": len(lost), "seconds": time.monotonic() - begun, "first": lost[:10]}))


if __name__ == "__main__":
    main()
