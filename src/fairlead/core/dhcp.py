"""One DHCP lease, from the first question to the release: a client as a machine that is told the time (RFC 2131).

                  OFFER                ACK               T1                  T2
    SELECTING ------------> REQUESTING ----> BOUND ------------> RENEWING ------------> REBINDING
     DISCOVER                REQUEST           ^     asks its       |      asks everybody    |
        ^                       |              |      server        |                        |
        |         NAK, silence  |              +---------- ACK -----+------------------------+
        +-----------------------+-------------------- NAK: lost; expired: lost --------------+

Every call says what time it is (seconds since boot) and gets back what is to be
done: ``Send`` a message, a lease was ``Got`` (the first, and each time it was
prolonged), it was ``Lost``. ``wake_at`` is when to call ``due``.

Rules
    1. An answer counts when it is to our question: its transaction, our MAC, and
       for an ACK the address we asked for. A NAK besides must come from the server
       asked, if we asked one.
    2. Questions are repeated after 2, 4, 8 … 64 seconds, a quarter more or less by dice, so that a LAN
       that comes back after a power cut is not stormed; a lease's prolonging after half of
       what is left, but not more often than every minute (or 1/16 of a short lease).
    3. Who is refused again and again waits longer and longer: a server that offers
       what it then refuses does not get a storm for it.
    4. A lease that was lost is asked for again at once, the same address first.
    5. A client made anew (its process died) goes on with the lease it is given.

Left out: probing the address with ARP before using it (DECLINE). The server does
that before it offers, and a container's start would wait a second or two.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from fairlead.core.dhcpwire import (
    ACK,
    DISCOVER,
    EVERYBODY,
    NAK,
    NOBODY,
    OFFER,
    RELEASE,
    REQUEST,
    SERVER,
    WISH,
    Reply,
    address_option,
    hostname_option,
    parse,
    request,
)
from fairlead.core.model import Lease

FIRST_WAIT, LONGEST_WAIT, TRIES = 2.0, 64.0, 3
LEAST_PAUSE, SHARE = 60.0, 16


class Phase(StrEnum):
    """Where the client is."""

    SELECTING = "selecting"
    REQUESTING = "requesting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"
    ENDED = "ended"


class Send(msgspec.Struct, frozen=True):
    """Put this message on the LAN. ``destination`` is everybody, or the server's address."""

    message: bytes
    source: str = NOBODY
    destination: str = EVERYBODY


class Got(msgspec.Struct, frozen=True):
    """The lease is ours from now on: a new one, or the old one for longer."""

    lease: Lease


class Lost(msgspec.Struct, frozen=True):
    """The address must not be used any more."""

    lease: Lease
    why: str


Effect = Send | Got | Lost


class Client:
    """One lease. ``dice`` gives numbers from 0 to 1 (without 1)."""

    def __init__(self, mac: str, hostname: str, dice: Callable[[], float], prefer: str = "") -> None:
        self._mac = mac
        self._name = hostname_option(hostname)
        self._dice = dice
        self._prefer = prefer
        self._xid = 0
        self._began = 0.0
        self._tries = 0
        self._refusals = 0
        self._offer: Lease | None = None
        self.phase = Phase.ENDED
        self.lease: Lease | None = None
        self.wake_at: float | None = None

    # -- beginning and end ----------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Ask for an address."""
        self._begin(Phase.SELECTING, now)
        return self._ask(now)

    def resume(self, lease: Lease, now: float) -> list[Effect]:
        """Go on with a lease that was got before."""
        self.lease, self.phase = lease, Phase.BOUND
        self._rest()
        return self.due(now)

    def stop(self) -> list[Effect]:
        """Give the address back and be silent."""
        lease, self.lease, self.phase, self.wake_at = self.lease, None, Phase.ENDED, None
        if lease is None:
            return []
        self._roll()
        address = _bare(lease)
        message = request(RELEASE, self._xid, self._mac, address=address, options=address_option(SERVER, lease.server))
        return [Send(message, address, lease.server)]

    # -- what happens -----------------------------------------------------------------------

    def due(self, now: float) -> list[Effect]:
        """Something may be due: call it at ``wake_at``; earlier or later does no harm."""
        if self.wake_at is None or now < self.wake_at:
            return []
        lease = self.lease
        if lease is None:
            if self.phase is Phase.REQUESTING and self._tries >= TRIES:
                self._begin(Phase.SELECTING, now)
            return self._ask(now)
        age = now - lease.since
        if age >= lease.seconds:
            return self._lose("it ran out: no server prolonged it", now)
        if age >= lease.rebind and self.phase is not Phase.REBINDING:
            self._begin(Phase.REBINDING, now)
        elif self.phase is Phase.BOUND:
            self._begin(Phase.RENEWING, now)
        return self._ask(now)

    def heard(self, payload: bytes, now: float) -> list[Effect]:
        """A DHCP message arrived; whose, and whether it is one at all, is found out here."""
        reply = parse(payload)
        if reply is None or reply.xid != self._xid or reply.mac != self._mac:
            return []
        if reply.kind == OFFER and self.phase is Phase.SELECTING and reply.lease is not None:
            self._offer = reply.lease
            self._begin(Phase.REQUESTING, now)
            return self._ask(now)
        if reply.kind == ACK and reply.lease is not None and _bare(reply.lease) == self._asked():
            return self._take(reply.lease)
        if reply.kind == NAK and self._may_refuse(reply):
            return self._refused(now)
        return []

    def _take(self, lease: Lease) -> list[Effect]:
        self.lease = replace(lease, since=self._began)
        self.phase, self._offer, self._refusals = Phase.BOUND, None, 0
        self._prefer = _bare(lease)
        self._rest()
        return [Got(self.lease)]

    def _may_refuse(self, reply: Reply) -> bool:
        if self.phase is Phase.REQUESTING:
            return self._offer is not None and reply.server == self._offer.server
        if self.phase is Phase.RENEWING:
            return self.lease is not None and reply.server == self.lease.server
        return self.phase is Phase.REBINDING

    def _refused(self, now: float) -> list[Effect]:
        self._refusals += 1
        if self.lease is not None:
            return self._lose("the server refused to prolong it", now)
        self._prefer = ""
        self._begin(Phase.SELECTING, now)
        self.wake_at = now + min(FIRST_WAIT**self._refusals, LONGEST_WAIT)
        return []

    def _lose(self, why: str, now: float) -> list[Effect]:
        lease, self.lease = self.lease, None
        assert lease is not None
        return [Lost(lease, why), *self.start(now)]

    # -- asking -----------------------------------------------------------------------------

    def _begin(self, phase: Phase, now: float) -> None:
        """A new question. Offer and request are one transaction; everything else is one of its own."""
        if phase is not Phase.REQUESTING:
            self._roll()
            self._offer = None
        self.phase, self._began, self._tries = phase, now, 0

    def _asked(self) -> str:
        """The address that an ACK must be about; "" while nothing was asked that one could answer."""
        if self.phase is Phase.REQUESTING and self._offer is not None:
            return _bare(self._offer)
        if self.phase in (Phase.RENEWING, Phase.REBINDING) and self.lease is not None:
            return _bare(self.lease)
        return ""

    def _ask(self, now: float) -> list[Effect]:
        """Say (again) what this phase says, and note when to say it the next time."""
        self._tries += 1
        elapsed = int(now - self._began)
        if self.lease is not None:
            address = _bare(self.lease)
            self.wake_at = self._next(self.lease, now)
            message = request(REQUEST, self._xid, self._mac, seconds=elapsed, address=address, options=self._name)
            return [Send(message, address, self.lease.server if self.phase is Phase.RENEWING else EVERYBODY)]
        self.wake_at = now + self._wait()
        if self._offer is not None:
            chosen = address_option(WISH, _bare(self._offer)) | address_option(SERVER, self._offer.server)
            options = chosen | self._name
            return [Send(request(REQUEST, self._xid, self._mac, seconds=elapsed, options=options))]
        options = address_option(WISH, self._prefer) | self._name
        return [Send(request(DISCOVER, self._xid, self._mac, seconds=elapsed, options=options))]

    def _wait(self) -> float:
        return float(min(FIRST_WAIT * 2.0 ** min(self._tries - 1, 9), LONGEST_WAIT) * (0.75 + self._dice() / 2))

    def _next(self, lease: Lease, now: float) -> float:
        end = lease.since + (lease.rebind if self.phase is Phase.RENEWING else lease.seconds)
        return min(end, now + max((end - now) / 2, min(LEAST_PAUSE, lease.seconds / SHARE)))

    def _rest(self) -> None:
        """Nothing to do until T1, which is a little early by dice: leases given together are not prolonged together."""
        lease = self.lease
        early = 1 - self._dice() / 16
        self.wake_at = lease.since + max(1.0, lease.renew * early) if lease is not None and lease.seconds else None

    def _roll(self) -> None:
        self._xid = int(self._dice() * (1 << 32)) & 0xFFFFFFFF


def _bare(lease: Lease) -> str:
    return lease.address.partition("/")[0]
