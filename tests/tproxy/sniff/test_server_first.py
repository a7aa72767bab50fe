from tproxy.sniff.server_first import SERVER_FIRST_PORTS

ISTIO = {25, 53, 3306, 27017}
LINKERD = {25, 587, 3306, 4444, 5432, 6379, 9300, 11211}


def test_both_meshes_lists_are_taken_and_every_port_says_why() -> None:
    assert set(SERVER_FIRST_PORTS) == ISTIO | LINKERD
    assert all(SERVER_FIRST_PORTS.values())
