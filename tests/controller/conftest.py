import pytest


@pytest.fixture(scope="module")
def one_thread():
    """Tiny models lose more by sharing their work among threads than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
