"""Does it sound right? Every claim about quality, measured anew: models, baselines and seeds in one run."""
