"""By what they offer, sidecars are told from applications with TLS of their own."""

import pytest

from tproxy.model.alpn import OFFERS, from_mesh


@pytest.mark.parametrize("offer", OFFERS.values(), ids=str)
def test_what_we_offer_says_who_we_are(offer: tuple[str, ...]) -> None:
    assert from_mesh(offer)


@pytest.mark.parametrize(
    ("offer", "mesh"),
    [
        pytest.param(("h2", "http/1.1"), False, id="a browser"),
        pytest.param((), False, id="nothing"),
        pytest.param(("istio-peer-exchange", "istio"), True, id="Istio's sidecar"),
        pytest.param(("istio-peer-exchange",), True, id="what is never agreed on"),
        pytest.param(("h2", "tproxy-tcp"), True, id="one name among others"),
    ],
)
def test_one_of_the_meshs_names_is_enough(offer: tuple[str, ...], mesh: bool) -> None:
    assert from_mesh(offer) is mesh
