# SPDX-License-Identifier: Apache-2.0
"""Specs: manifest-tool's file, our additions, and errors that name the key."""

from __future__ import annotations

from typing import Any

import pytest

from manyfest.errors import InvalidPlatform, InvalidSpec
from manyfest.indexes.spec import Entry, Override, Spec, expand_template
from manyfest.platforms import Platform

MANIFEST_TOOL: dict[str, Any] = {
    "image": "reg/app:1.2.3",
    "tags": ["1.2", 1, "latest"],
    "annotations": {"k": "v"},
    "manifests": [
        {
            "image": "reg/app:arm-v7",
            "platform": {
                "architecture": "arm",
                "os": "linux",
                "variant": "v7",
                "osversion": "",
                "osfeatures": [],
            },
        },
        {"image": "reg/app:386", "platform": {"architecture": 386, "os": "linux"}},
    ],
}


def test_manifest_tools_file_is_read_as_it_is() -> None:
    """Numbers that YAML made of 386 and of a tag are text again; empty values mean nothing."""
    spec = Spec.from_mapping(MANIFEST_TOOL)
    assert spec.tags == ("1.2", "1", "latest")
    assert spec.entries[0].override == Override(os="linux", architecture="arm", variant="v7")
    assert spec.entries[1].override.over(None) == Platform.parse("linux/386")


def test_a_spec_survives_writing_and_reading() -> None:
    """What create keeps is what push reads."""
    spec = Spec(
        "reg/app:1",
        (
            Entry(
                "reg/app:a",
                Override(os_version="10.0.1", os_features=()),
                "sha256:" + "0" * 64,
                (("a", "b"),),
            ),
            Entry("oci:build/out"),
        ),
        tags=("latest",),
        annotations=(("k", "v"),),
        type="oci",
        expect=(Platform.parse("linux/arm/v7"),),
        project=(("compile", {"toolchain": "go"}),),
    )
    assert Spec.from_mapping(spec.to_mapping()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "lacks image:"),
        ({"manifest": []}, "unknown key 'manifest'"),
        ({"manifests": {"a": 1}}, "manifests: must be a list, got a mapping"),
        ({"manifests": ["reg/app"]}, r"manifests\[0\] must be a mapping"),
        ({"manifests": [{"platform": {}}]}, r"manifests\[0\] lacks image:"),
        (
            {"manifests": [{"image": "a", "platform": {"arch": "arm"}}]},
            r"manifests\[0\].platform: unknown key 'arch'",
        ),
        ({"manifests": [{"image": "a", "digest": "sha256:zz"}]}, r"manifests\[0\].digest"),
        ({"manifests": [{"image": "a", "platform": "lin ux/arm"}]}, r"manifests\[0\].platform"),
        ({"tags": [1.1]}, "tags must be text, got a number 1.1"),
        ({"tags": "latest"}, "tags must be a list, got text"),
        ({"tags": ["latest", "v1@sha256abc"]}, "tags: 'v1@sha256abc' is not a tag"),
        ({"tags": ["app:v1"]}, "tags: 'app:v1' is not a tag"),
        ({"tags": ["a" * 129]}, "is not a tag, expected up to 128"),
        ({"annotations": {"k": 1}}, "annotations.k must be text"),
        ({"type": "v2s2"}, "expected oci or docker"),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, Any], message: str) -> None:
    """The message says where and what was expected."""
    with pytest.raises(InvalidSpec, match=message):
        Spec.from_mapping({**MANIFEST_TOOL, **change})


@pytest.mark.parametrize("value", [None, [], "image: x", 3])
def test_a_spec_that_is_no_mapping_is_refused(value: object) -> None:
    """An empty file is one of these."""
    with pytest.raises(InvalidSpec, match="must be a mapping"):
        Spec.from_mapping(value)


@pytest.mark.parametrize(
    ("template", "platform", "filled"),
    [
        ("reg/app-ARCH:1", "linux/arm64", "reg/app-arm64:1"),
        ("foo-ARCHVARIANT:v1", "linux/arm/v7", "foo-armv7:v1"),
        ("foo-ARCHVARIANT:v1", "linux/amd64", "foo-amd64:v1"),
        ("reg/app:OS-ARCH-VARIANT", "linux/arm/v6", "reg/app:linux-arm-v6"),
        ("reg/app:OSS-OS-ARCH", "linux/s390x", "reg/app:OSS-linux-s390x"),
        ("reg/appARCH:1", "linux/s390x", "reg/apps390x:1"),
        ("reg/OS/app:ARCH-ARCH", "linux/386", "reg/linux/app:386-386"),
        ("reg/app:1", "linux/386", "reg/app:1"),
    ],
)
def test_templates(template: str, platform: str, filled: str) -> None:
    """manifest-tool's placeholders, with the ones it mangles done right."""
    assert expand_template(template, Platform.parse(platform)) == filled


def test_an_override_changes_only_what_it_names() -> None:
    """A new architecture takes the old variant with it."""
    image = Platform.parse("linux/arm64/v8")
    assert Override(os_version="1").over(image) == image.replace(os_version="1")
    assert Override(architecture="arm").over(image) == Platform.parse("linux/arm")
    assert Override(architecture="arm64").over(image) == image
    with pytest.raises(InvalidPlatform, match="architecture is ''"):
        Override(os="linux").over(None)


def test_later_annotations_go_over_earlier_ones() -> None:
    """annotate may be called once per flag."""
    first = Override(architecture="arm", variant="v7")
    assert first.merged(Override(os_version="1")) == Override(
        architecture="arm", variant="v7", os_version="1"
    )
    assert first.merged(Override(architecture="arm64")) == Override(architecture="arm64")
