"""Training: config, engine, loop, checkpoints, tracking, evaluation."""
