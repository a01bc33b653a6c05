"""The fast ways are what these tests compare in 64 bits, where a convolution would otherwise go the plain one of
`reference`, which has its own tests."""

import pytest

from others.nn import choice


@pytest.fixture(autouse=True, scope="module")
def fast_ways(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] != "test_reference":
            patch.setattr(choice, "PLAIN", False)
        yield
