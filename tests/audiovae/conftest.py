import pytest
import torch
from tiny_models import awake

import audiovae


@pytest.fixture(autouse=True)
def _one_thread_and_a_known_seed():
    """Small tensors are fastest on one thread, and no test depends on which ran before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """The folder of a tiny VAE that does something."""
    folder = tmp_path_factory.mktemp("models") / "vae"
    audiovae.save(awake("vae"), folder)
    return folder
