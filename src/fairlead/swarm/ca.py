"""The cluster's own certificate authority: who is a node, and in which role.

    root (self-signed, 20 years) --signs--> node certificate: CN node id, OU swarm-worker | swarm-manager, O cluster id

    rotation:  old root --signs--> new root's key (a bridge) ;  new root's key --signs--> nodes
               whoever trusts the old root believes the new certificates by the bridge; whoever trusts the new one,
               without it; when every node has one of the new, the old root is forgotten

Rules
    1. Of a request only the public key counts. Name and role are the authority's to say.
    2. Keys are P-256. Nothing secret is in an error or a ``repr``.
    3. Time is an argument.

What it does not do: files (``credentials``), conversation (``dispatcher``), deciding who may have a certificate.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairlead.errors import Invalid

ROOT_LIFE = datetime.timedelta(days=20 * 365)
NODE_LIFE = datetime.timedelta(days=90)
SHORTEST = datetime.timedelta(hours=1)
"""of a node certificate's life"""
BACKDATED = datetime.timedelta(hours=1)
"""for clocks that are behind ours"""
ROLES = {"worker": "swarm-worker", "manager": "swarm-manager"}


class Identity(NamedTuple):
    """Whose certificate it is."""

    node: str
    role: str
    """worker or manager"""
    cluster: str


class Authority:
    """A root certificate with its key. ``bridge``: PEM that lets those who trust the root before it believe in it."""

    def __init__(self, certificate: bytes, key: bytes, bridge: bytes = b"") -> None:
        """``certificate``, ``key``: PEM; raises ``Invalid`` when they are no pair."""
        self.certificate, self.bridge = certificate, bridge
        self._parsed = load(certificate)
        self._key = load_key(key)
        if _public(self._parsed) != _public(self._key):
            raise Invalid("the root certificate and its key do not belong together")

    @classmethod
    def found(cls, now: datetime.datetime) -> Authority:
        """A new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm-ca")])
        built = _certificate(name, name, key.public_key(), now, ROOT_LIFE)
        signed = _as_authority(built, key.public_key()).sign(key, hashes.SHA256())
        return cls(pem(signed), pem_key(key))

    @property
    def key(self) -> bytes:
        """PEM. Secret."""
        return pem_key(self._key)

    def issue(
        self, request: bytes, identity: Identity, now: datetime.datetime, life: datetime.timedelta = NODE_LIFE
    ) -> bytes:
        """A node's certificate, PEM, with the bridge behind it. ``request``: PEM; raises ``Invalid``."""
        if identity.role not in ROLES:
            raise Invalid(f"there is no role {identity.role!r}: worker or manager")
        public = _requested(request)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.cluster),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, ROLES[identity.role]),
                x509.NameAttribute(NameOID.COMMON_NAME, identity.node),
            ]
        )
        names = [x509.DNSName(name) for name in (ROLES[identity.role], identity.node)]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        built = (
            _certificate(subject, self._parsed.subject, public, now, max(life, SHORTEST))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._public), critical=False)
        )
        return pem(built.sign(self._key, hashes.SHA256())) + self.bridge

    def succeeded_by(self, new: Authority, now: datetime.datetime) -> Authority:
        """The new one with a bridge from this one."""
        return Authority(new.certificate, new.key, self.bridge_to(new.certificate, now))

    def bridge_to(self, root: bytes, now: datetime.datetime) -> bytes:
        """What lets those who trust this one believe in another root (PEM), whoever has its key. Raises ``Invalid``."""
        parsed = load(root)
        public = parsed.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise Invalid("the root certificate is of a kind that is not used here: those with ECDSA keys are")
        built = _certificate(parsed.subject, self._parsed.subject, public, now, ROOT_LIFE)
        return pem(_as_authority(built, self._public).sign(self._key, hashes.SHA256()))

    @property
    def _public(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def __repr__(self) -> str:
        return f"Authority({self._parsed.subject.rfc4514_string()}, serial {self._parsed.serial_number})"


def requested(request: bytes) -> bytes:
    """The public key of a request (PEM), DER. Raises ``Invalid``."""
    return _encoded(_requested(request))


def new_request() -> tuple[bytes, bytes]:
    """(key, certificate signing request), PEM: how a node asks."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return pem_key(key), request.public_bytes(serialization.Encoding.PEM)


def identity(certificate: bytes | x509.Certificate) -> Identity:
    """Whose a node certificate is (PEM or parsed). It says nothing of trust: ``trusted``, or TLS, does."""
    parsed = certificate if isinstance(certificate, x509.Certificate) else load(certificate)
    role = next((role for role, unit in ROLES.items() if unit == _name(parsed, NameOID.ORGANIZATIONAL_UNIT_NAME)), "")
    found = Identity(_name(parsed, NameOID.COMMON_NAME), role, _name(parsed, NameOID.ORGANIZATION_NAME))
    if not all(found):
        raise Invalid("this is no node certificate of a swarm")
    return found


def trusted(chain: bytes, roots: Sequence[bytes], now: datetime.datetime) -> bool:
    """Whether a certificate (PEM, its bridge behind it, if any) leads to one of the roots, and is valid now."""
    links = x509.load_pem_x509_certificates(chain)
    anchors = [load(root) for root in roots]
    for at, link in enumerate(links):
        if not link.not_valid_before_utc <= now <= link.not_valid_after_utc:
            return False
        if any(_signed_by(link, anchor) for anchor in anchors):
            return True
        if at + 1 == len(links) or not _signed_by(link, links[at + 1]):
            return False
    return False


def fits(certificate: x509.Certificate, public: bytes, who: Identity) -> bool:
    """Whether it is a certificate for that node, role and public key (DER), with all that nodes and etcd look at."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return False
    named = set(names.get_values_for_type(x509.DNSName)) >= {ROLES[who.role], who.node}
    used = usages >= {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    return named and used and _public(certificate) == public and identity(certificate) == who


def matches(certificate: bytes, key: bytes) -> bool:
    """Whether they are a pair (PEM)."""
    return _public(load(certificate)) == _public(load_key(key))


def signed_with(certificate: x509.Certificate, root: bytes) -> bool:
    """Whether a node's certificate is signed with the key of that root (PEM); the bridge has the same key."""
    key = load(root).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or certificate.signature_hash_algorithm is None:
        return False
    try:
        key.verify(
            certificate.signature,
            certificate.tbs_certificate_bytes,
            ec.ECDSA(certificate.signature_hash_algorithm),
        )
    except InvalidSignature:
        return False
    return True


def serials(certificate: bytes) -> dict[str, int]:
    """Its serial number -> when it is over, nanoseconds since 1970: as ``Node.serials``. Of a manager's alone."""
    parsed = load(certificate)
    if identity(parsed).role != "manager":
        return {}
    return {f"{parsed.serial_number:x}": int(parsed.not_valid_after_utc.timestamp()) * 10**9}


def revocations(serials: Collection[str], certificate: bytes, key: bytes, now: datetime.datetime) -> bytes:
    """The list of certificates (serial numbers, in hexadecimal) that are good no more, DER; a node says it to itself,
    by its own certificate and key."""
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(load(certificate).subject)
        .last_update(now - BACKDATED)
        .next_update(now + ROOT_LIFE)
    )
    for serial in sorted(serials):
        one = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now).build()
        listed = listed.add_revoked_certificate(one)
    return listed.sign(load_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def renew_at(certificate: bytes, share: float) -> datetime.datetime:
    """When to ask for the next one: after a ``share`` of its life between 0.5 and 0.8, drawn by the caller."""
    parsed = load(certificate)
    begins = parsed.not_valid_before_utc + BACKDATED
    return begins + (parsed.not_valid_after_utc - begins) * share


# -- PEM -------------------------------------------------------------------------------------------------------------


def load(certificate: bytes) -> x509.Certificate:
    """The first certificate of a PEM text."""
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise Invalid("this is no certificate") from None


def load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        loaded = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise Invalid("this is no private key") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise Invalid("the key is of a kind that is not used here: ECDSA keys are")
    return loaded


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


# -- parts -----------------------------------------------------------------------------------------------------------


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _as_authority(built: x509.CertificateBuilder, issuer: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        built.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _requested(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        parsed = x509.load_pem_x509_csr(request)
    except ValueError:
        raise Invalid("this is no certificate signing request") from None
    public = parsed.public_key()
    if not parsed.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise Invalid("the certificate signing request is not signed with an ECDSA key of its own")
    return public


def _signed_by(link: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        constraints = above.extensions.get_extension_for_class(x509.BasicConstraints).value
        link.verify_directly_issued_by(above)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return constraints.ca


def _public(holder: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    return _encoded(holder.public_key())


def _encoded(public: CertificatePublicKeyTypes) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""
