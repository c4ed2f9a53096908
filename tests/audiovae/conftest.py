import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_and_a_known_seed():
    """Small tensors are fastest on one thread, and no test depends on which ran before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
