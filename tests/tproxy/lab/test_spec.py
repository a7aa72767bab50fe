"""What may be asked of a pod, and what is refused with a reason."""

import pytest

from tproxy.lab.namespaces import Identity
from tproxy.lab.spec import LabError, PodSpec, Publish, User


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "8080:80", Publish("127.0.0.1", 8080, 80), id="loopback unless said otherwise"
        ),
        pytest.param("0.0.0.0:8080:80", Publish("0.0.0.0", 8080, 80), id="an address"),
        pytest.param("[::1]:8080:80", Publish("::1", 8080, 80), id="a bracketed v6 address"),
        pytest.param("localhost:0:80", Publish("localhost", 0, 80), id="a name, and any free port"),
    ],
)
def test_a_publication_names_a_host_port_and_a_pod_port(text: str, expected: Publish) -> None:
    assert Publish.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("80", id="no pod port"),
        pytest.param("::1:8080:80", id="v6 without brackets"),
        pytest.param("8080:http", id="a service name"),
        pytest.param("8080:70000", id="a port beyond 65535"),
        pytest.param("8080:0", id="pod port zero"),
    ],
)
def test_a_publication_that_cannot_be_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(LabError, match=f"--publish {text}"):
        Publish.parse(text)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        pytest.param("4242", Identity(4242, 4242), id="a uid without an account"),
        pytest.param("4242:77", Identity(4242, 77), id="uid and gid"),
        pytest.param("root", Identity(0, 0, (0,)), id="an account's name"),
        pytest.param("0:77", Identity(0, 77), id="an account in another group"),
    ],
)
def test_a_user_is_numbers_or_an_account(text: str, identity: Identity) -> None:
    assert User.parse(text).identity == identity


def test_an_unknown_account_is_refused_by_name() -> None:
    with pytest.raises(LabError, match="no such user: 'nobody-here'"):
        User.parse("nobody-here")


def test_applications_run_as_whoever_called_sudo() -> None:
    assert User.default({"SUDO_UID": "4242", "SUDO_GID": "77"}).identity == Identity(4242, 77)


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="without sudo"),
        pytest.param({"SUDO_UID": "0", "SUDO_GID": "0"}, id="root by sudo"),
    ],
)
def test_applications_are_never_root_unasked(environ: dict[str, str]) -> None:
    assert User.default(environ) == User.parse("nobody")


def test_the_sidecars_own_uid_is_refused_for_applications() -> None:
    with pytest.raises(LabError, match="not captured"):
        PodSpec("web", user=User.parse("1337"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("Web", id="a capital"),
        pytest.param("-web", id="a dash in front"),
        pytest.param("web/..", id="a path"),
        pytest.param("w" * 64, id="too long"),
    ],
)
def test_a_pod_name_is_a_dns_label(name: str) -> None:
    with pytest.raises(LabError, match="pod name"):
        PodSpec(name)
