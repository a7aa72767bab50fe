"""How tests run: asserts in `fakes` explain themselves, the gate tries the same examples every time, a developer's machine new ones."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("fakes")

settings.register_profile("gate", derandomize=True, deadline=None, max_examples=20)
settings.register_profile("develop", deadline=None)
settings.load_profile("gate" if os.environ.get("CI") else "develop")
