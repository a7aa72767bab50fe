"""Every request gets a name of its own."""

from tproxy.filters.request_id import ID_BYTES, RANDOM_BYTES, RandomIds


def test_ids_do_not_repeat_when_the_kernel_is_asked_again() -> None:
    ids, many = RandomIds(), 5 * RANDOM_BYTES // ID_BYTES
    assert len({ids.next() for _ in range(many)}) == many
