"""Pins the images that the Dockerfile, the compose file and the manifests name: `python -m tools.release.images`.

`postgres:18` becomes `postgres:18@sha256:…`, in the file that names it: the tag says what is wanted, the digest which
bytes it is. The registry is asked without credentials, by the OCI distribution protocol, and the digest is computed
from the manifest that it sends. Slotwire's own image has no registry here; whoever pushes it pins it in their overlay,
by the same command with that file's name.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tools.sources import ROOT, repository_files

OWN = "slotwire"
"""The name under which the image is built here."""
DEFAULT_DOMAIN = "default"
"""The registry of a name without one: the engine that pulls decides, so `--registry default=URL` says where it is."""
MAX_MANIFEST_BYTES = 4 * 2**20
"""A longer manifest is refused, as registries refuse it."""
TIMEOUT_SECONDS = 10.0
_ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
_NAMED = re.compile(
    r"^(?P<before>ARG \w*IMAGE=|FROM (?=[^$\s]+[:/@])|\s*(?:- )?(?:image|imageName): )(?P<tagged>[^\s@]+?)"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?(?P<after>\s.*)?$",
    re.MULTILINE,
)
_KUSTOMIZED = re.compile(
    r"^(?P<indent> +)newName: (?P<name>\S+)\n +newTag: (?P<tag>\S+)\n(?: +digest: (?P<digest>\S+)\n)?", re.MULTILINE
)
_LOOPBACK = re.compile(r"^(localhost|127\.0\.0\.1)(:\d+)?$")
_RESERVED = re.compile(r"(^|\.)example(\.(com|net|org))?(:\d+)?/")


class ImageNotFound(Exception):
    """The registry answers and has no such image, or does not show it to everybody."""


class RegistryAway(Exception):
    """The registry does not answer."""


@dataclass(frozen=True)
class Image:
    """An image that a file names.

    Attributes:
        tagged: the name with its tag, as written.
        digest: `sha256:…`, or None if it is not pinned.
    """

    tagged: str
    digest: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is Slotwire's own, or at an address that is only an example."""
        return self.tagged.partition(":")[0] == OWN or _RESERVED.search(self.tagged) is not None

    @property
    def place(self) -> tuple[str, str, str]:
        """The registry, the repository in it, and the tag."""
        domain, slash, rest = self.tagged.partition("/")
        if not slash or not re.search(r"[.:]|^localhost$", domain):
            domain, rest = DEFAULT_DOMAIN, self.tagged if slash else f"library/{self.tagged}"
        repository, _, tag = rest.partition(":")
        return domain, repository, tag or "latest"


def images_in(text: str) -> list[Image]:
    """List the images that a file names, in order; its own comments are not read."""
    named = [(found.start(), Image(found["tagged"], found["digest"])) for found in _NAMED.finditer(text)]
    named += [
        (found.start(), Image(f"{found['name']}:{found['tag']}", found["digest"]))
        for found in _KUSTOMIZED.finditer(text)
    ]
    return [image for _, image in sorted(named, key=lambda entry: entry[0])]


def with_digests(text: str, digests: Mapping[str, str]) -> str:
    """Return a file's text with digests put behind the tags.

    Args:
        text: of a Dockerfile, a compose file, a manifest or a kustomization.
        digests: `sha256:…` by the tagged name.
    """

    def name(found: re.Match[str]) -> str:
        digest = digests.get(found["tagged"], found["digest"])
        return f"{found['before']}{found['tagged']}{'@' + digest if digest else ''}{found['after'] or ''}"

    def kustomize(found: re.Match[str]) -> str:
        digest = digests.get(f"{found['name']}:{found['tag']}", found["digest"])
        lines = [f"newName: {found['name']}", f"newTag: {found['tag']}", *([f"digest: {digest}"] if digest else [])]
        return "".join(f"{found['indent']}{line}\n" for line in lines)

    return _KUSTOMIZED.sub(kustomize, _NAMED.sub(name, text))


@dataclass
class Registries:
    """Asks registries for digests.

    Attributes:
        addresses: where the API of a registry is, by its name in images; what is not here is at https://NAME.
    """

    addresses: Mapping[str, str] = field(default_factory=dict)
    _away: set[str] = field(default_factory=set)

    def digest(self, image: Image) -> str:
        """Return the digest of the manifest that a tag names now; of the index, where there are several platforms.

        Raises:
            RegistryAway: no answer, or a broken one. The same registry is not asked again.
            ImageNotFound: it has no such image for everybody.
        """
        domain, repository, tag = image.place
        scheme = "http" if _LOOPBACK.match(domain) else "https"
        address = self.addresses.get(domain) or f"{scheme}://{domain}"
        if domain == DEFAULT_DOMAIN and domain not in self.addresses:
            raise RegistryAway(f"say where images without a registry are: --registry {DEFAULT_DOMAIN}=URL")
        if domain in self._away:
            raise RegistryAway(f"{domain} cannot be reached")
        try:
            with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
                answer = self._manifest(client, f"{address.rstrip('/')}/v2/{repository}/manifests/{tag}")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            self._away.add(domain)
            raise RegistryAway(f"{domain} cannot be reached") from error
        if answer.status_code in {401, 403, 404}:
            raise ImageNotFound(f"{domain} has no {repository}:{tag} that everybody may read")
        if answer.status_code != 200 or len(answer.content) > MAX_MANIFEST_BYTES:
            raise RegistryAway(f"{domain} answered {answer.status_code} with {len(answer.content)} bytes")
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if answer.headers.get("docker-content-digest", digest) != digest:
            raise RegistryAway(f"{domain} names another digest than that of the manifest it sent")
        return digest

    def _manifest(self, client: httpx.Client, url: str) -> httpx.Response:
        """Get a manifest, with a token for anonymous readers where the registry asks for one."""
        answer = client.get(url, headers={"accept": _ACCEPT})
        asked = answer.headers.get("www-authenticate", "")
        if answer.status_code == 401 and asked.lower().startswith("bearer "):
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', asked))
            realm = wanted.pop("realm", "")
            said = client.get(realm, params=wanted)
            if said.status_code == 200:
                token = said.json().get("token") or said.json().get("access_token")
                answer = client.get(url, headers={"accept": _ACCEPT, "authorization": f"Bearer {token}"})
        return answer


@dataclass(frozen=True)
class Pinned:
    """What became of the images of some files.

    Attributes:
        pinned: those that got a digest, or another one, by the files that were changed.
        left: those without a digest whose registry gave none.
    """

    pinned: dict[Path, list[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def pin(files: Iterable[Path], registries: Registries, *, refresh: bool) -> Pinned:
    """Put digests into files, and say what became of each image.

    Args:
        files: that name images.
        registries: which to ask.
        refresh: ask for images that have a digest too.
    """
    result, known = Pinned(), dict[str, str]()
    for path in files:
        text = path.read_text(encoding="utf-8")
        for image in images_in(text):
            if image.is_ours or image.tagged in known or (image.digest and not refresh):
                continue
            try:
                known[image.tagged] = registries.digest(image)
            except (RegistryAway, ImageNotFound) as problem:
                if not image.digest and image.tagged not in result.left:
                    result.left.append(image.tagged)
                sys.stdout.write(f"{'unchanged' if image.digest else 'not pinned'}  {image.tagged}: {problem}\n")
        changed = with_digests(text, known)
        if changed != text:
            path.write_text(changed, encoding="utf-8")
            names = [image.tagged for image in images_in(changed) if image.tagged in known]
            result.pinned[path] = names
            sys.stdout.writelines(f"pinned      {name} in {path.name}\n" for name in names)
    if result.left:
        sys.stdout.write("Run `make pin` where the registry can be reached, and commit what it changes.\n")
    return result


def files_with_images(root: Path) -> list[Path]:
    """List the files of the repository that can name images."""
    names = [path.as_posix() for path in repository_files()]
    chosen = [name for name in names if name in {"Dockerfile", "compose.yaml"} or re.match(r"k8s/.*\.yaml$", name)]
    return [root / name for name in chosen]


def unpinned_files(root: Path) -> list[Path]:
    """List the files that name an image of somebody else's without a digest."""
    return [
        path
        for path in files_with_images(root)
        if any(not image.digest and not image.is_ours for image in images_in(path.read_text(encoding="utf-8")))
    ]


def add_registries(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where a registry's API is."""
    parser.add_argument(
        "--registry",
        action="append",
        default=[],
        metavar="NAME=URL",
        help=f"ask this address for images of a registry, for example {DEFAULT_DOMAIN}=https://mirror.example.com",
    )


def registries(chosen: argparse.Namespace) -> Registries:
    """Return the registries that the options name."""
    return Registries(dict(entry.split("=", 1) for entry in chosen.registry))


def main() -> int:
    """Pin the images of the named files, or of the whole repository, again; fail if one could not be pinned."""
    parser = argparse.ArgumentParser(prog="python -m tools.release.images", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="files to pin; all of the repository's if none is named")
    add_registries(parser)
    chosen = parser.parse_args()
    done = pin(chosen.files or files_with_images(ROOT), registries(chosen), refresh=True)
    return 1 if done.left else 0


if __name__ == "__main__":
    sys.exit(main())
