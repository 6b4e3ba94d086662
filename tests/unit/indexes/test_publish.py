# SPDX-License-Identifier: Apache-2.0
"""Publishing a spec: rounds, gates, and what stays untouched when a gate says no."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import InvalidPlatform, InvalidSpec, NotFound, Refused
from manyfest.indexes.edit import build
from manyfest.indexes.publish import Options, publish
from manyfest.indexes.select import choose, image_for, keep
from manyfest.indexes.spec import Entry, Override, Spec
from manyfest.platforms import Only, Platform
from manyfest.stores.base import Source, load, put_bytes
from manyfest.stores.memory import Memory

MakeImage = Callable[..., Document]
Attest = Callable[[Memory, Descriptor], Descriptor]


def opener(*stores: Memory) -> Callable[[str], tuple[Source, str]]:
    """Names such as ``place/tag``."""
    by_place = {store.place: store for store in stores}

    def opened(text: str) -> tuple[Source, str]:
        place, _, name = text.partition("/")
        return by_place[place], name

    return opened


def shown(document: Document) -> list[str]:
    return [str(e.platform) for e in document.index.manifests]


def test_platforms_come_from_the_configs(make_image: MakeImage) -> None:
    """Variant and all, in argument order."""
    store = Memory("here")
    for platform in ("linux/s390x", "linux/arm/v7", "linux/amd64"):
        make_image(store, platform, platform.replace("/", "-"))
    spec = Spec(
        "here/v1", tuple(Entry(f"here/linux-{a}") for a in ("s390x", "arm-v7", "amd64")), tags=("1", "latest")
    )
    result = publish(spec, store, "v1", opener(store))
    assert shown(result.document) == ["linux/s390x", "linux/arm/v7", "linux/amd64"]
    assert all(store.resolve(name) == result.document for name in ("v1", "1", "latest"))


def test_an_annotated_entry_is_labelled_by_hand(make_image: MakeImage) -> None:
    """The seed case: an image that says arm64, annotated to arm/v7."""
    store = Memory("here")
    make_image(store, "linux/amd64", "armhf")
    spec = Spec("here/v1", (Entry("here/armhf", Override(architecture="arm", variant="v7")),))
    assert shown(publish(spec, store, "v1", opener(store)).document) == ["linux/arm/v7"]


def test_images_elsewhere_are_copied_over(make_image: MakeImage) -> None:
    """docker refuses these; the children arrive before the tag."""
    here, there = Memory("here"), Memory("there")
    make_image(there, "linux/arm64", "arm64")
    make_image(here, "linux/amd64", "amd64")
    spec = Spec("here/v1", (Entry("here/amd64"), Entry("there/arm64")))
    result = publish(spec, here, "v1", opener(here, there))
    assert [found.entry.image for found in result.copied] == ["there/arm64"]
    for entry in result.document.index.manifests:
        assert load(here, entry).manifest.is_image


def test_an_index_as_source_gives_all_it_has(make_image: MakeImage, attest: Attest) -> None:
    """Attestations included, which is what breaks `docker manifest create` (docker/buildx#1509)."""
    here, there = Memory("here"), Memory("there")
    image = make_image(there, "linux/arm64").descriptor.with_platform(Platform.parse("linux/arm64"))
    there.tag(build([image, attest(there, image)]), "attested")
    make_image(here, "linux/amd64", "amd64")
    spec = Spec("here/v1", (Entry("here/amd64"), Entry("there/attested", annotations=(("note", "x"),))))
    entries = publish(spec, here, "v1", opener(here, there)).document.index.manifests
    assert [str(e.platform) for e in entries] == ["linux/amd64", "linux/arm64", "unknown/unknown"]
    assert entries[1].annotations == {"note": "x"}
    assert entries[2].attests == str(image.digest)
    assert all(here.exists(e) for e in entries)


def test_a_platform_given_for_an_index_labels_or_selects(make_image: MakeImage, attest: Attest) -> None:
    """The only image is labelled; of several the matching one is taken, with its attestation only."""
    store = Memory("here")
    arm = make_image(store, "linux/arm64").descriptor.with_platform(Platform.parse("linux/arm64"))
    amd = make_image(store, "linux/amd64").descriptor.with_platform(Platform.parse("linux/amd64"))
    store.tag(build([amd, arm, attest(store, arm), attest(store, amd)]), "both")
    store.tag(build([arm]), "one")
    label = Spec("here/v1", (Entry("here/one", Override(variant="v9")),))
    assert shown(publish(label, store, "v1", opener(store)).document) == ["linux/arm64/v9"]
    select = Spec("here/v2", (Entry("here/both", Override(architecture="arm64")),))
    entries = publish(select, store, "v2", opener(store)).document.index.manifests
    assert [e.attests for e in entries] == ["", str(arm.digest)]
    wrong = Spec("here/v3", (Entry("here/both", Override(architecture="s390x")),))
    with pytest.raises(InvalidSpec, match="2 platforms"):
        publish(wrong, store, "v3", opener(store))


def test_entries_without_platform_are_read_from_their_configs(make_image: MakeImage) -> None:
    """Where manifest-tool crashes."""
    store = Memory("here")
    store.tag(build([make_image(store, "linux/riscv64").descriptor]), "bare")
    spec = Spec("here/v1", (Entry("here/bare"),))
    assert shown(publish(spec, store, "v1", opener(store)).document) == ["linux/riscv64"]


def test_an_image_that_says_no_platform_needs_one_given(make_image: MakeImage) -> None:
    """The message names the image and what to do."""
    store = Memory("here")
    make_image(store, "", "blank")
    with pytest.raises(InvalidPlatform, match="here/blank") as caught:
        publish(Spec("here/v1", (Entry("here/blank"),)), store, "v1", opener(store))
    assert "annotate" in caught.value.hint


def test_a_missing_image_is_an_error_unless_it_may_be(make_image: MakeImage) -> None:
    """With ignore_missing it is left out and told; all missing is an answer of no."""
    store = Memory("here")
    make_image(store, "linux/amd64", "amd64")
    spec = Spec("here/v1", (Entry("here/amd64"), Entry("here/gone")))
    with pytest.raises(NotFound):
        publish(spec, store, "v1", opener(store))
    assert "v1" not in list(store.tags())
    result = publish(spec, store, "v1", opener(store), Options(ignore_missing=True))
    assert [entry.image for entry in result.missing] == ["here/gone"]
    nothing = Spec("here/v2", (Entry("here/gone"),))
    with pytest.raises(Refused, match="no image"):
        publish(nothing, store, "v2", opener(store), Options(ignore_missing=True))


def test_a_tag_that_would_lose_a_platform_is_left_alone(make_image: MakeImage) -> None:
    """invidious#4880: latest became arm64 only."""
    store = Memory("here")
    for arch in ("amd64", "arm64"):
        make_image(store, f"linux/{arch}", arch)
    both = Spec("here/latest", (Entry("here/amd64"), Entry("here/arm64")))
    before = publish(both, store, "latest", opener(store)).document
    one = Spec("here/latest", (Entry("here/arm64"),))
    with pytest.raises(Refused, match="would lose linux/amd64"):
        publish(one, store, "latest", opener(store))
    assert store.resolve("latest") == before
    publish(one, store, "latest", opener(store), Options(allow_shrink=True))
    assert shown(store.resolve("latest")) == ["linux/arm64"]


def test_a_single_image_under_the_tag_counts_as_its_platform(make_image: MakeImage) -> None:
    """ai-memory#427: a tag that was one image must not change its architecture either."""
    store = Memory("here")
    make_image(store, "linux/amd64", "latest")
    make_image(store, "linux/arm64", "arm64")
    with pytest.raises(Refused, match="would lose linux/amd64"):
        publish(Spec("here/latest", (Entry("here/arm64"),)), store, "latest", opener(store))


def test_expected_platforms_must_be_there(make_image: MakeImage) -> None:
    """From the spec and from the command line."""
    store = Memory("here")
    make_image(store, "linux/amd64", "amd64")
    spec = Spec("here/v1", (Entry("here/amd64"),), expect=(Platform.parse("linux/arm64"),))
    with pytest.raises(Refused, match="expected linux/arm64"):
        publish(spec, store, "v1", opener(store))
    options = Options(expect=(Platform.parse("linux/s390x"),))
    with pytest.raises(Refused, match="expected linux/s390x"):
        publish(spec.replace(expect=()), store, "v1", opener(store), options)


def test_two_images_for_one_platform_are_refused(make_image: MakeImage) -> None:
    """Before anything is written."""
    store = Memory("here")
    make_image(store, "linux/arm64", "a", content=b"1")
    make_image(store, "linux/arm64/v8", "b", content=b"2")
    with pytest.raises(Refused, match="two entries"):
        publish(Spec("here/v1", (Entry("here/a"), Entry("here/b"))), store, "v1", opener(store))


def test_a_moved_tag_is_pushed_fresh_and_said_or_locked(make_image: MakeImage) -> None:
    """docker/cli#954 for eight years: the old one was pushed."""
    store = Memory("here")
    old = make_image(store, "linux/amd64", "amd64", content=b"old")
    spec = Spec("here/v1", (Entry("here/amd64", digest=str(old.digest)),))
    new = make_image(store, "linux/amd64", "amd64", content=b"new")
    result = publish(spec, store, "v1", opener(store))
    assert [str(found.document.digest) for found in result.moved] == [str(new.digest)]
    assert result.document.index.manifests[0].digest == new.digest
    locked = publish(spec, store, "v2", opener(store), Options(locked=True))
    assert locked.document.index.manifests[0].digest == old.digest
    assert locked.moved == ()


def test_a_dry_run_writes_nothing(make_image: MakeImage) -> None:
    """And tells the digest that would be."""
    store = Memory("here")
    make_image(store, "linux/amd64", "amd64")
    spec = Spec("here/v1", (Entry("here/amd64"),))
    would = publish(spec, store, "v1", opener(store), Options(dry_run=True)).document
    assert "v1" not in list(store.tags())
    assert publish(spec, store, "v1", opener(store)).document == would


def test_keeping_platforms_makes_a_new_index_or_none(make_image: MakeImage, attest: Attest) -> None:
    """Attestations of what is kept are kept; keeping all gives the very same bytes."""
    store = Memory("here")
    arm = make_image(store, "linux/arm/v7").descriptor.with_platform(Platform.parse("linux/arm/v7"))
    amd = make_image(store, "linux/amd64").descriptor.with_platform(Platform.parse("linux/amd64"))
    root = build([amd, arm, attest(store, arm), attest(store, amd)], annotations={"k": "v"})
    kept = keep(root, [Platform.parse("linux/arm")])
    assert [e.attests for e in kept.index.manifests] == ["", str(arm.digest)]
    assert kept.index.annotations == {"k": "v"}
    assert keep(root, [Platform.parse("linux/amd64"), Platform.parse("linux/arm/v7")]) is root


def test_choosing_is_the_engines_choice(make_image: MakeImage) -> None:
    """An arm64 host takes arm/v7 when there is no arm64; nested indexes are followed."""
    store = Memory("here")
    arm = make_image(store, "linux/arm/v7", content=b"v7").descriptor.with_platform(
        Platform.parse("linux/arm/v7")
    )
    inner = build([arm])
    put_bytes(store, inner.descriptor, inner.raw)
    root = build([inner.descriptor])
    assert choose(inner.index.manifests, Only(Platform.parse("linux/arm64"))) == arm
    assert image_for(store, root, Platform.parse("linux/arm64")).digest == arm.digest
    with pytest.raises(NotFound, match="nothing for linux/s390x"):
        image_for(store, root, Platform.parse("linux/s390x"))
