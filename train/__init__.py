"""Training: config, engine, loop, checkpoints, tracking, evaluation."""

DISTRIBUTION = "audio-autoencoder-training"
