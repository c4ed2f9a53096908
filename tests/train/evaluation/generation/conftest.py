"""The runs of priors are those of the tests of training."""

from tests.train.training.test_prior_run import latents, straight_prior

__all__ = ["latents", "straight_prior"]
