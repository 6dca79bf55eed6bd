"""What this server shows to programs on other machines: a certificate that it was given, or one of its own.

Its own is made once, signs itself, and lies with its key in ``$GREENROOM_HOME/tls.pem``. Nobody vouches for it, so clients pin
its fingerprint, as they would a host's key with ssh; for what it is then, neither names nor dates in it count.
"""

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from greenroom.model.errors import InvalidError
from greenroom.wire.far import fingerprint_of

FILE = "tls.pem"
DAYS = 100 * 365


def own(home: Path) -> Path:
    """The file of this server's own certificate and key; made, if it isn't there. Raises OSError."""
    file = home / FILE
    if not file.exists():
        new = home / f".{FILE}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as opened:
            opened.write(_made())
            opened.flush()
            os.fsync(opened.fileno())
        os.rename(new, file)
    return file


def _made() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "greenroom")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def load(certificate: Path, key: Path | None) -> tuple[ssl.SSLContext, str]:
    """What connections are wrapped in, and the fingerprint that clients see.

    Raises:
        InvalidError: these are no certificate with its key, or can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        text = certificate.read_text()
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----", begin)
        first = ssl.PEM_cert_to_DER_cert(text[begin:end] + "-----END CERTIFICATE-----\n")
    except (OSError, ValueError) as error:
        files = f"{certificate} with the key {key}" if key is not None else f"{certificate}"
        why = getattr(error, "strerror", None) or str(error)
        mend = (
            "remove it, and a new one is made, which clients have to pin anew"
            if certificate.name == FILE
            else "give files in PEM form by --tls-cert and --tls-key, the key without a password"
        )
        raise InvalidError(f"{files} can't be used for TLS: {why}; {mend}") from None
    return context, fingerprint_of(first)


def _no_password() -> str:
    """Else OpenSSL would ask the terminal."""
    raise ValueError("the key has a password")
