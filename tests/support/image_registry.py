"""A registry of images on 127.0.0.1: it wants a token of each reader, as public registries do."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class ImageRegistry:
    """What the registry has, and what it was asked.

    Attributes:
        address: its base address.
        manifests: by `repository:tag`.
        named: digests that it claims instead of the right ones, by `repository:tag`.
        asked: the `repository:tag` of each manifest that was sent, in order.
    """

    address: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def add(self, repository: str, tag: str) -> str:
        """Store an image, and return the digest that it must be pinned by."""
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "for": f"{repository}:{tag}"})
        self.manifests[f"{repository}:{tag}"] = body.encode()
        return f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"


@contextmanager
def image_registry() -> Iterator[ImageRegistry]:
    """Run a registry while the block runs."""
    registry = ImageRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/token":
                scope = parse_qs(url.query)["scope"][0]
                self.answer(200, json.dumps({"token": f"{registry.token}.{scope}"}).encode())
                return
            repository, _, tag = url.path.removeprefix("/v2/").partition("/manifests/")
            scope = f"repository:{repository}:pull"
            if self.headers["authorization"] != f"Bearer {registry.token}.{scope}":
                realm = f'Bearer realm="{registry.address}/token",service="test",scope="{scope}"'
                self.answer(401, b"{}", {"www-authenticate": realm})
            elif INDEX not in self.headers["accept"] or f"{repository}:{tag}" not in registry.manifests:
                self.answer(404, b"{}")
            else:
                name = f"{repository}:{tag}"
                registry.asked.append(name)
                body = registry.manifests[name]
                digest = registry.named.get(name, f"sha256:{hashlib.sha256(body).hexdigest()}")
                self.answer(200, body, {"docker-content-digest": digest})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
