# SPDX-License-Identifier: Apache-2.0
"""Names of images: Docker's rules, and errors that point at the character."""

from __future__ import annotations

import pytest

from manyfest.content.digest import Digest
from manyfest.errors import InvalidReference
from manyfest.reference import Reference

SHA = "sha256:" + "ab" * 32

VALID = [
    # written, fully qualified, familiar, target
    ("app", "docker.io/library/app", "app", "latest"),
    ("app:1.2", "docker.io/library/app:1.2", "app:1.2", "1.2"),
    ("acme/app", "docker.io/acme/app", "acme/app", "latest"),
    ("docker.io/app", "docker.io/library/app", "app", "latest"),
    ("docker.io/library/app", "docker.io/library/app", "app", "latest"),
    ("index.docker.io/app:1", "docker.io/library/app:1", "app:1", "1"),
    ("index.docker.io/acme/app", "docker.io/acme/app", "acme/app", "latest"),
    ("library/app", "docker.io/library/app", "app", "latest"),
    ("library/a/b", "docker.io/library/a/b", "library/a/b", "latest"),
    ("ghcr.io/acme/app", "ghcr.io/acme/app", "ghcr.io/acme/app", "latest"),
    ("ghcr.io/app", "ghcr.io/app", "ghcr.io/app", "latest"),
    ("localhost/app", "localhost/app", "localhost/app", "latest"),
    ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app", "latest"),
    ("registry:5000/app:1", "registry:5000/app:1", "registry:5000/app:1", "1"),
    ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "latest"),
    ("[::1]/app", "[::1]/app", "[::1]/app", "latest"),
    ("[fd00:1:2::3]:5000/app:1", "[fd00:1:2::3]:5000/app:1", "[fd00:1:2::3]:5000/app:1", "1"),
    ("Registry.Example/app", "Registry.Example/app", "Registry.Example/app", "latest"),
    ("Upper/app", "Upper/app", "Upper/app", "latest"),
    (f"app@{SHA}", f"docker.io/library/app@{SHA}", f"app@{SHA}", SHA),
    (f"app:1@{SHA}", f"docker.io/library/app:1@{SHA}", f"app:1@{SHA}", SHA),
    ("a.b/c", "a.b/c", "a.b/c", "latest"),
    ("a_b/c__d-e---f.g", "docker.io/a_b/c__d-e---f.g", "a_b/c__d-e---f.g", "latest"),
    ("app:_T.a-g", "docker.io/library/app:_T.a-g", "app:_T.a-g", "_T.a-g"),
    ("app:" + "t" * 128, "docker.io/library/app:" + "t" * 128, "app:" + "t" * 128, "t" * 128),
    # Shortened, these two would read back as something else.
    ("docker.io/localhost/app", "docker.io/localhost/app", "docker.io/localhost/app", "latest"),
    ("library/" + "a" * 64, "docker.io/library/" + "a" * 64, "docker.io/library/" + "a" * 64, "latest"),
]


@pytest.mark.parametrize(("text", "full", "familiar", "target"), VALID)
def test_reads_as_docker_does(text: str, full: str, familiar: str, target: str) -> None:
    """And every printed form reads back as the same value."""
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar, reference.target) == (full, familiar, target)
    assert Reference.parse(full) == reference
    assert Reference.parse(familiar) == reference


INVALID = [
    # written, position, what is there, what was expected
    ("App", "character 1 is 'A'", "a lower-case letter or digit"),
    ("acme/App:1", "character 6 is 'A'", "a lower-case letter or digit"),
    ("ghcr.io/acme/aPp", "character 15 is 'P'", "a lower-case letter, digit"),
    ("docker.io/App", "character 11 is 'A'", "a lower-case letter or digit"),
    ("index.docker.io/App", "character 17 is 'A'", "a lower-case letter or digit"),
    ("a//b", "character 3 is '/'", "a lower-case letter or digit"),
    ("a/b/", "it ends after character 4", "a lower-case letter or digit"),
    ("/a", "character 1 is '/'", "a lower-case letter or digit"),
    ("ghcr.io/", "it ends after character 8", "a lower-case letter or digit"),
    ("-a", "character 1 is '-'", "a lower-case letter or digit"),
    ("a-", "it ends after character 2", "a lower-case letter or digit"),
    ("a..b", "character 3 is '.'", "a lower-case letter or digit"),
    ("a___b", "character 4 is '_'", "a lower-case letter or digit"),
    ("a b", "character 2 is ' '", "a lower-case letter, digit"),
    (" app", "character 1 is ' '", "a lower-case letter or digit"),
    ("ünder", "character 1 is 'ü'", "a lower-case letter or digit"),
    ("a\nb", r"character 2 is '\n'", "a lower-case letter, digit"),
    ("app\n", r"character 4 is '\n'", "a lower-case letter, digit"),
    ("app:", "it ends after character 4", "a letter, digit or '_'"),
    ("app:.1", "character 5 is '.'", "a letter, digit or '_'"),
    ("app:1+2", "character 6 is '+'", "a letter, digit, '_', '.' or '-'"),
    ("app:1:2", "character 6 is ':'", "a letter, digit, '_', '.' or '-'"),
    ("app:" + "t" * 129, "character 133 is 't'", "at most 128 characters"),
    ("app@", "it ends after character 4", "a digest"),
    ("app@md5:00", "character 5 is 'm'", "sha256:"),
    ("app@sha256:ab", "it ends after character 13", "64 of 0-9 a-f after sha256:"),
    ("app@sha256:" + "A" * 64, "character 12 is 'A'", "64 of 0-9 a-f"),
    ("app@sha256:" + "a" * 65, "character 76 is 'a'", "64 of 0-9 a-f"),
    (f"app@{SHA}:1", "character 76 is ':'", "64 of 0-9 a-f"),
    ("host:port/app", "character 6 is 'p'", "the digits of a port"),
    ("host:/app", "character 6 is '/'", "the digits of a port"),
    ("host:1:2/app", "character 7 is ':'", "the digits of a port"),
    ("-host.io/app", "character 1 is '-'", "a letter, a digit or '['"),
    ("host-.io/app", "character 6 is '.'", "a letter or digit"),
    ("host..io/app", "character 6 is '.'", "a letter or digit"),
    ("ho_st.io/app", "character 3 is '_'", "'.', '-', ':' or '/'"),
    ("[::g]/app", "character 4 is 'g'", "hexadecimal digits and ':'"),
    ("[::1/app", "character 5 is '/'", "then ']'"),
    ("[::1].io/app", "character 6 is '.'", "'.', '-', ':' or '/'"),
]


@pytest.mark.parametrize(("text", "where", "expected"), INVALID)
def test_says_which_character(text: str, where: str, expected: str) -> None:
    """Counted from one, in what was written and not in what it was completed to."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert where in str(caught.value)
    assert expected in str(caught.value).partition("expected")[2]
    assert caught.value.hint


def test_refuses_the_empty_name() -> None:
    """With an example of one."""
    with pytest.raises(InvalidReference, match=r"an empty name, expected one such as ghcr\.io"):
        Reference.parse("")


def test_refuses_an_image_id() -> None:
    """64 hexadecimal characters name an image in an engine, not content in a repository."""
    with pytest.raises(InvalidReference, match="image's id") as caught:
        Reference.parse("a" * 64)
    assert "NAME@sha256" in caught.value.hint
    assert Reference.parse("a" * 63).path == "library/" + "a" * 63


def test_limits_the_name_to_255_characters() -> None:
    """As distribution counts them: without the domain."""
    assert Reference.parse("ghcr.io/" + "a" * 255).path == "a" * 255
    with pytest.raises(InvalidReference, match="has 256 characters, expected at most 255"):
        Reference.parse("ghcr.io/" + "a" * 256)
    with pytest.raises(InvalidReference, match="has 256 characters"):
        Reference.parse("a" * 248)


def test_answers_at_once_for_very_long_text() -> None:
    """Megabytes are refused before they are matched."""
    with pytest.raises(InvalidReference, match="expected at most 2048"):
        Reference.parse("a-" * 1_000_000)
    with pytest.raises(InvalidReference):
        Reference.parse("a-" * 1000 + "!")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://ghcr.io/acme/app", "without the scheme"),
        (" app", "white space"),
        ("app\t", "white space"),
        ("App", "lower case"),
        ("a//b", "looks like"),
    ],
)
def test_hints_at_what_was_probably_meant(text: str, hint: str) -> None:
    """The common slips have a hint of their own."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["https://user:hunter2@ghcr.io/app", "user:hunter2@ghcr.io/app"])
def test_never_shows_a_password(text: str) -> None:
    """People paste addresses with credentials."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "hunter2" not in str(caught.value) + caught.value.hint + repr(caught.value)


def test_with_tag_forgets_the_digest() -> None:
    """The digest belonged to what the old tag named."""
    assert str(Reference.parse(f"app:1@{SHA}").with_tag("2")) == "docker.io/library/app:2"


def test_with_digest_keeps_the_tag_for_people() -> None:
    """And takes a digest as text or as a value."""
    digest = Digest.of(b"")
    pinned = Reference.parse("app:1").with_digest(digest)
    assert str(pinned) == f"docker.io/library/app:1@{digest}"
    assert pinned.target == str(digest)
    assert pinned == Reference.parse("app:1").with_digest(str(digest))


def test_without_is_the_repository() -> None:
    """Only domain and path stay."""
    assert Reference.parse(f"ghcr.io/a/b:1@{SHA}").without() == Reference("ghcr.io", "a/b")


def test_completes_what_is_built_by_hand() -> None:
    """A value built from parts equals the parsed one."""
    assert Reference("index.docker.io", "app") == Reference.parse("app")


@pytest.mark.parametrize(
    ("domain", "path", "tag", "digest"),
    [
        ("acme", "app", "", ""),  # would read back as docker.io/acme/app
        ("ghcr.io", "app:1", "", ""),
        ("ghcr.io", "app", "1@" + SHA, ""),
        ("ghcr.io/acme", "app", "", ""),
        ("ghcr.io", "App", "", ""),
        ("ghcr.io", "", "", ""),
        ("ghcr.io", "app", "", "sha256:00"),
        ("ghcr.io", "app", "a b", ""),
    ],
)
def test_parts_are_checked(domain: str, path: str, tag: str, digest: str) -> None:
    """No value exists whose text means something else."""
    with pytest.raises(InvalidReference):
        Reference(domain, path, tag, digest)


def test_other_algorithms_of_distribution_are_names_too() -> None:
    """Whether somebody can compute them is another question."""
    for text in ("app@sha384:" + "0" * 96, "app@sha512:" + "0" * 128):
        assert Reference.parse(text).digest == text[4:]
