"""Images by digest: which files name them, and that one command pins them where a registry answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import free_port
from tests.support.image_registry import ImageRegistry, image_registry
from tools.release.images import (
    DEFAULT_DOMAIN,
    MAX_MANIFEST_BYTES,
    Image,
    ImageNotFound,
    Registries,
    RegistryAway,
    files_with_images,
    images_in,
    pin,
    with_digests,
)
from tools.sources import ROOT

DIGEST = f"sha256:{'1' * 64}"
OTHER = f"sha256:{'2' * 64}"
SOME = Image("apache/kafka:4.3.1")


@pytest.fixture
def registry() -> Iterator[ImageRegistry]:
    """A registry that holds every image of somebody else's that the repository names."""
    with image_registry() as running:
        for path in files_with_images(ROOT):
            for image in images_in(path.read_text(encoding="utf-8")):
                if not image.is_ours:
                    running.add(*image.place[1:])
        yield running


def asking(registry: ImageRegistry) -> Registries:
    """Send the questions for every registry that the repository's images are from to one."""
    named = [image for path in files_with_images(ROOT) for image in images_in(path.read_text(encoding="utf-8"))]
    return Registries({image.place[0]: registry.address for image in [*named, SOME]})


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    """Copies of the repository's files that name images, without the digests that may be there already."""
    found = []
    for path in files_with_images(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(re.sub(r"@sha256:[0-9a-f]{64}", "", path.read_text(encoding="utf-8")), encoding="utf-8")
        found.append(copy)
    return found


def test_every_image_of_the_repository_is_found() -> None:
    """No line of the Dockerfile, the compose file or a manifest names an image that the command does not see."""
    found = {image.tagged for path in files_with_images(ROOT) for image in images_in(path.read_text(encoding="utf-8"))}
    assert {"python:3.12-slim", "postgres:18", "apache/kafka:4.3.1"} <= found
    for path in files_with_images(ROOT):
        text = path.read_text(encoding="utf-8")
        for named in re.findall(r"^\s*(?:- )?(?:image|imageName): *(\S+)", text, re.MULTILINE):
            assert named.partition("@")[0] in found, f"{path.name} names {named}"
        assert not re.search(r"^FROM (?!\$\{PYTHON_IMAGE\})", text, re.MULTILINE), "name it in an ARG …IMAGE="


def test_one_command_pins_them_all(registry: ImageRegistry, copies: list[Path]) -> None:
    """Every image gets the digest of the manifest that its tag names, is asked for once, and keeps its tag."""
    done = pin(copies, asking(registry), refresh=True)
    assert set(done.pinned) == {path for path in copies if any(not i.is_ours for i in images_in(path.read_text()))}
    assert not done.left
    pinned = [image for path in copies for image in images_in(path.read_text(encoding="utf-8")) if not image.is_ours]
    assert {image.tagged: image.digest for image in pinned} == {
        image.tagged: registry.add(*image.place[1:]) for image in pinned
    }
    assert len(registry.asked) == len(set(registry.asked)) == len({image.tagged for image in pinned})
    assert "ARG PYTHON_IMAGE=python:3.12-slim@sha256:" in copies[0].read_text(encoding="utf-8")


def test_pinning_again_changes_what_moved_only(registry: ImageRegistry, copies: list[Path]) -> None:
    """A tag that moved gets its new digest when it is asked for again, and not by a release; nothing else changes."""
    pin(copies, asking(registry), refresh=True)
    before = {path: path.read_text(encoding="utf-8") for path in copies}
    assert not pin(copies, asking(registry), refresh=True).pinned
    registry.manifests["library/postgres:18"] += b" "
    assert not pin(copies, asking(registry), refresh=False).pinned
    assert {path: path.read_text(encoding="utf-8") for path in copies} == before
    done = pin(copies, asking(registry), refresh=True)
    assert {path.name for path in done.pinned} == {"compose.yaml"}


def test_without_a_registry_it_says_so_and_goes_on(copies: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Where no registry answers, every image is named as not pinned with the reason, and no file changes."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    before = {path: path.read_text(encoding="utf-8") for path in copies}
    named = {image.place[0] for text in before.values() for image in images_in(text)}
    done = pin(copies, Registries(dict.fromkeys(named, nowhere)), refresh=False)
    assert not done.pinned
    assert {"python:3.12-slim", "postgres:18", "apache/kafka:4.3.1"} <= set(done.left)
    assert {path: path.read_text(encoding="utf-8") for path in copies} == before
    said = capsys.readouterr().out
    assert f"not pinned  postgres:18: {DEFAULT_DOMAIN} cannot be reached" in said
    assert "make pin" in said


def test_where_images_without_a_registry_are_must_be_said() -> None:
    """The engine that pulls decides it, so nobody is asked for them unasked."""
    with pytest.raises(RegistryAway, match="--registry default=URL"):
        Registries().digest(Image("postgres:18"))


def test_an_image_that_is_not_there_is_named(registry: ImageRegistry) -> None:
    """A tag that the registry does not have is told from a registry that does not answer."""
    with pytest.raises(ImageNotFound, match=r"library/postgres:999 that everybody may read"):
        asking(registry).digest(Image("postgres:999"))


def test_a_registry_is_not_believed(registry: ImageRegistry) -> None:
    """The digest is that of the bytes that came: another one in the answer's header is refused, and so is a flood."""
    name = ":".join(SOME.place[1:])
    assert asking(registry).digest(SOME) == registry.add(*SOME.place[1:])
    registry.named[name] = OTHER
    with pytest.raises(RegistryAway, match="names another digest"):
        asking(registry).digest(SOME)
    del registry.named[name]
    registry.manifests[name] = b"x" * MAX_MANIFEST_BYTES
    assert asking(registry).digest(SOME).startswith("sha256:")
    registry.manifests[name] = b"x" * (MAX_MANIFEST_BYTES + 1)
    with pytest.raises(RegistryAway, match="answered 200"):
        asking(registry).digest(SOME)


@pytest.mark.parametrize(
    ("line", "tagged", "place"),
    [
        ("ARG PYTHON_IMAGE=python:3.12-slim", "python:3.12-slim", (DEFAULT_DOMAIN, "library/python", "3.12-slim")),
        ("    image: apache/kafka:4.3.1", "apache/kafka:4.3.1", (DEFAULT_DOMAIN, "apache/kafka", "4.3.1")),
        ("  imageName: r.example.org:5000/a/b:1 # why", "r.example.org:5000/a/b:1", ("r.example.org:5000", "a/b", "1")),
        ("FROM localhost/a:1 AS b", "localhost/a:1", ("localhost", "a", "1")),
        ("- image: busybox", "busybox", (DEFAULT_DOMAIN, "library/busybox", "latest")),
    ],
)
def test_names_are_read_and_written(line: str, tagged: str, place: tuple[str, str, str]) -> None:
    """A name gives its registry, repository and tag; the digest goes behind the tag, or replaces an older one."""
    (image,) = images_in(f"{line}\n")
    assert (image.tagged, image.digest, image.place) == (tagged, None, place)
    pinned = with_digests(f"{line}\n", {tagged: DIGEST})
    assert pinned == f"{line}\n".replace(tagged, f"{tagged}@{DIGEST}")
    assert images_in(pinned) == [Image(tagged, DIGEST)]
    assert with_digests(pinned, {}) == pinned
    assert with_digests(pinned, {tagged: OTHER}) == pinned.replace(DIGEST, OTHER)


def test_our_own_image_is_pinned_in_an_overlay(registry: ImageRegistry, tmp_path: Path) -> None:
    """A kustomization that names a registry gets the digest beside the tag; the placeholder of the examples is left."""
    overlay = tmp_path / "kustomization.yaml"
    name = registry.address.removeprefix("http://")
    text = f"images:\n  - name: slotwire\n    newName: {name}/team/slotwire\n    newTag: 0.1.0\nnamespace: slotwire\n"
    overlay.write_text(text, encoding="utf-8")
    digest = registry.add("team/slotwire", "0.1.0")
    for _ in range(2):
        assert not pin([overlay], Registries(), refresh=True).left
        assert overlay.read_text(encoding="utf-8") == text.replace("0.1.0\n", f"0.1.0\n    digest: {digest}\n")
    assert Image("registry.example.com/slotwire:0.1.0").is_ours
    assert Image("slotwire").is_ours
    assert not Image("slotwires:1").is_ours
