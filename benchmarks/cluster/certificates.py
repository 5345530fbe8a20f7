"""Issue certificates for tests with the keytool of the Java that runs the broker.

Each is its own authority: whoever shall trust it names its PEM file. So nothing has to be signed,
and neither OpenSSL nor another library is needed.
"""

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "of-the-tests"  # noqa: S105 - protects a key that lives as long as a test
_KEYTOOL_TIMEOUT_S = 60
_CHECKSUM_BYTES = 20
_EXTENSIONS = ("san=ip:127.0.0.1", "bc:c", "ku:c=digitalSignature,keyCertSign")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate in PEM, its private key in PEM, and both in a Java keystore."""

    certificate: Path
    key: Path
    keystore: Path


def issue(folder: Path, name: str, java: Path) -> Certificate:
    """Return a new certificate of *name*, good for a server on loopback and for a client."""
    keystore = folder / f"{name}.jks"
    store = ("-keystore", str(keystore), "-storetype", "JKS", "-storepass", PASSWORD)
    subject = ("-alias", "own", "-dname", f"CN={name}")
    pair = ("-keyalg", "RSA", "-keysize", "2048", "-validity", "2")
    extensions = [word for extension in _EXTENSIONS for word in ("-ext", extension)]
    _keytool(java, "-genkeypair", *store, *subject, *pair, *extensions)
    certificate = Certificate(folder / f"{name}.pem", folder / f"{name}.key", keystore)
    _keytool(
        java,
        *("-exportcert", "-rfc", "-alias", "own", "-file", str(certificate.certificate), *store),
    )
    certificate.key.write_text(_pem(_private_key(keystore.read_bytes())))
    return certificate


def _keytool(java: Path, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [str(java.with_name("keytool")), *arguments],
        capture_output=True,
        text=True,
        timeout=_KEYTOOL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"keytool failed: {done.stdout}{done.stderr}")


def _private_key(jks: bytes) -> bytes:
    """Return the private key of the first entry as PKCS #8, which keytool cannot write.

    An entry is a tag, an alias, a date and an EncryptedPrivateKeyInfo. Its algorithm is Sun's: the
    key combined with hashes of the password by exclusive or, between a salt and a checksum.
    """
    alias_at = 4 + 4 + 4 + 4  # magic, version, number of entries, tag
    length_at = alias_at + 2 + int.from_bytes(jks[alias_at : alias_at + 2]) + 8
    info_at = length_at + 4
    info = jks[info_at : info_at + int.from_bytes(jks[length_at:info_at])]
    algorithm_at = 4  # after the header of the sequence, whose length takes two bytes
    sealed = info[algorithm_at + 2 + info[algorithm_at + 1] + 4 :]
    block, body = sealed[:_CHECKSUM_BYTES], sealed[_CHECKSUM_BYTES:-_CHECKSUM_BYTES]
    password, stream = PASSWORD.encode("utf-16-be"), b""
    while len(stream) < len(body):
        block = _sha1(password + block)
        stream += block
    key = bytes(one ^ other for one, other in zip(body, stream, strict=False))
    assert _sha1(password + key) == sealed[-_CHECKSUM_BYTES:], "not a keystore of keytool's"
    return key


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _pem(key: bytes) -> str:
    text = base64.encodebytes(key).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n"
