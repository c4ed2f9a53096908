"""Whether W&B's server answers; if not, the attempt is offline, as W&B's own attempt to connect takes minutes."""

from shards.reading.remote.failures import cleaned
from train.config import RunConfig
from train.tracking.wandb_settings import server_answers, server_url, wandb_mode


def reachable_mode(config: RunConfig) -> tuple[str, str]:
    """The W&B mode of this attempt: as set, but offline if the server does not answer; and a line to print, or ""."""
    mode = wandb_mode(config.tracking.wandb)
    if mode != "online":
        return mode, ""
    server = server_url()
    if server_answers():
        return mode, f"W&B at {cleaned(server)} answers"
    sync = f"python -m train sync {config.run_dir}"
    return "offline", f"W&B at {cleaned(server)} does not answer: offline; to upload later, where it does: {sync}"
