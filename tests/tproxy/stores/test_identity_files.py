"""Every layout of certificates is read, whole and of one version, and what cannot be is refused by the file's name."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.ca import WEB, FakeCa, Papers
from tproxy.stores import identity_files
from tproxy.stores.data_link import pinned_version, publish
from tproxy.stores.identity_files import LAYOUTS, MOST_TURNS, IdentityFiles, Layout
from tproxy.stores.identity_store import BadIdentity
from tproxy.tls.documents import MAX_BYTES

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KUBERNETES = LAYOUTS[0]


@pytest.fixture(scope="module")
def ca() -> FakeCa:
    return FakeCa.new(now=NOW)


def put(directory: Path, papers: Papers, layout: Layout = KUBERNETES) -> None:
    """Write papers as the layout has them."""
    contents = (papers.certificate, papers.key, papers.bundle)
    for name, content in zip(layout, contents, strict=True):
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(content)


def refused(directory: Path) -> str:
    """Why a directory is no identity."""
    with pytest.raises(BadIdentity) as caught:
        IdentityFiles(directory).load(NOW)
    return str(caught.value).replace(f"{directory}", "DIR")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_each_layout_is_read(
    tmp_path: Path, ca: FakeCa, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, ca.issue(), layout)
    assert IdentityFiles(tmp_path).load(NOW).own.spiffe_id == WEB
    assert not caplog.records


def test_a_secret_is_read_through_its_data_link(tmp_path: Path, ca: FakeCa) -> None:
    publish(tmp_path, secret(ca.issue()))
    assert IdentityFiles(tmp_path).load(NOW).own.spiffe_id == WEB


def secret(papers: Papers) -> dict[str, bytes]:
    """The files of a secret."""
    return dict(zip(KUBERNETES, (papers.certificate, papers.key, papers.bundle), strict=True))


def turning(turns: int, ca: FakeCa) -> Callable[[Path], Path]:
    """Pin a version, and have it replaced at once, so many times."""
    left = [turns]

    def pinned(directory: Path) -> Path:
        version = pinned_version(directory)
        if left[0]:
            left[0] -= 1
            publish(directory, secret(ca.issue()))
        return version

    return pinned


def test_a_version_that_is_replaced_while_it_is_read_gives_way_to_the_next(
    tmp_path: Path, ca: FakeCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, secret(ca.issue()))
    monkeypatch.setattr(identity_files, "pinned_version", turning(MOST_TURNS, ca))
    assert IdentityFiles(tmp_path).load(NOW).own.spiffe_id == WEB


def test_versions_that_are_replaced_without_end_are_given_up(
    tmp_path: Path, ca: FakeCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, secret(ca.issue()))
    monkeypatch.setattr(identity_files, "pinned_version", turning(-1, ca))
    assert "is no regular file, or a link to none" in refused(tmp_path)


def test_a_file_that_refuses_to_be_read_is_named(tmp_path: Path, ca: FakeCa) -> None:
    put(tmp_path, ca.issue())
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.crt").symlink_to("/proc/self/mem")
    assert refused(tmp_path) == "DIR/ca.crt cannot be read: Input/output error"


def test_further_bundles_are_of_the_trust_domains_in_their_names(
    tmp_path: Path, ca: FakeCa
) -> None:
    put(tmp_path, ca.issue())
    partner = FakeCa.new("partner", now=NOW)
    (tmp_path / "ca.partner.example.crt").write_bytes(partner.bundle)
    bundles = IdentityFiles(tmp_path).load(NOW).bundles
    assert bundles["partner.example"] == (partner.certificate,)


def test_an_empty_directory_is_told_what_belongs_there(tmp_path: Path) -> None:
    assert refused(tmp_path) == (
        "DIR holds no certificate: put there tls.crt, tls.key, ca.crt;"
        " cert-chain.pem, key.pem, root-cert.pem; svid.pem, svid_key.pem, svid_bundle.pem"
    )


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == "DIR cannot be read: No such file or directory"


def test_a_missing_file_is_named(tmp_path: Path, ca: FakeCa) -> None:
    put(tmp_path, ca.issue())
    (tmp_path / "tls.key").unlink()
    assert refused(tmp_path) == "DIR lacks tls.key of tls.crt, tls.key, ca.crt"


def test_two_layouts_in_one_directory_are_refused(tmp_path: Path, ca: FakeCa) -> None:
    put(tmp_path, ca.issue())
    (tmp_path / "key.pem").write_bytes(b"")
    assert refused(tmp_path) == (
        "DIR holds files of several layouts (ca.crt, key.pem, tls.crt, tls.key): leave those of one"
    )


@pytest.mark.parametrize("name", [*KUBERNETES, "ca.partner.example.crt"])
def test_a_bad_document_is_named_by_its_file(tmp_path: Path, ca: FakeCa, name: str) -> None:
    put(tmp_path, ca.issue())
    (tmp_path / name).write_bytes(b"no PEM")
    assert refused(tmp_path).startswith(f"DIR/{name}: the ")


def test_what_cannot_be_opened_is_named(tmp_path: Path, ca: FakeCa) -> None:
    put(tmp_path, ca.issue())
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.crt").mkdir()
    assert refused(tmp_path) == "DIR/ca.crt is no regular file, or a link to none"


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path, ca: FakeCa) -> None:
    put(tmp_path, ca.issue())
    with (tmp_path / "ca.crt").open("wb") as file:
        file.truncate(1 << 40)
    assert f"is larger than {MAX_BYTES} bytes" in refused(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_may_read_is_warned_of(
    tmp_path: Path, ca: FakeCa, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(tmp_path, ca.issue())
    (tmp_path / "tls.key").chmod(mode)
    IdentityFiles(tmp_path).load(NOW)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"tls.key is open to its group or to others (mode {mode:04o})" in record.getMessage()
