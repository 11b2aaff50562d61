"""The one switch for fast forms."""

import pytest

import foveal
from foveal.ops.fast_path import fast_path_enabled


def test_contexts_in_two_threads_may_end_in_any_order():
    first, second = foveal.no_fast_path(), foveal.no_fast_path()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not fast_path_enabled()
    second.__exit__(None, None, None)
    assert fast_path_enabled()


def test_plain_is_a_context_that_nests_and_ends_with_an_exception():
    assert fast_path_enabled()
    with foveal.no_fast_path():
        with foveal.no_fast_path():
            assert not fast_path_enabled()
        assert not fast_path_enabled()
    with pytest.raises(KeyError), foveal.no_fast_path():
        raise KeyError
    assert fast_path_enabled()
