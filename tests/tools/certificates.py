"""Certificates made for a test: an authority, a server's and a client's, as files."""

import datetime
import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization as forms


class Certificates:
    """PEM files in a directory: `ca`; of each identity its chain and key in one file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.authority = trustme.CA()
        self.ca = str(home / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(
        self, name: str, *identities: str, expires_at: datetime.datetime | None = None
    ) -> str:
        """The file of a new identity: key, then chain (KIP-651)."""
        made = self.authority.issue_cert(*identities, not_after=expires_at)
        key = forms.load_pem_private_key(made.private_key_pem.bytes(), None)
        # Java takes no other form of a key.
        pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
        path = self.home / f"{name}.pem"
        path.write_bytes(pem + b"".join(blob.bytes() for blob in made.cert_chain_pems))
        return str(path)

    def expired(self, name: str, *identities: str) -> str:
        past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
        return self.issue(name, *identities, expires_at=past)

    def server(self, path: str, *, asks: bool = False) -> ssl.SSLContext:
        """The context of a server with that identity, which may ask for its client's."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        if asks:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
