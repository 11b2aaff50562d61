"""The one switch for fast forms."""

import pytest

import foveal
from foveal.switching import fast


def test_contexts_in_two_threads_may_end_in_any_order():
    first, second = foveal.plain(), foveal.plain()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not fast()
    second.__exit__(None, None, None)
    assert fast()


def test_plain_is_a_context_that_nests_and_ends_with_an_exception():
    assert fast()
    with foveal.plain():
        with foveal.plain():
            assert not fast()
        assert not fast()
    with pytest.raises(KeyError), foveal.plain():
        raise KeyError
    assert fast()
