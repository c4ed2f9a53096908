"""What the flags of `accelerate launch --use_deepspeed` ask for, and DeepSpeed's configuration for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.errors import TrainError

# What the training loop decides itself: a file that says otherwise would be contradicted in silence.
OURS = {
    "optimizer": "optim.* settings",
    "scheduler": "optim.* settings",
    "gradient_clipping": "optim.clip",
    "gradient_accumulation_steps": "data.microbatch",
    "train_batch_size": "data.batch",
    "train_micro_batch_size_per_gpu": "data.microbatch",
    "fp16": "--mixed_precision",
    "bf16": "--mixed_precision",
    "torch_autocast": "--mixed_precision",
}


@dataclass(frozen=True)
class ZeROSettings:
    """How much of a training state each process holds alone (Rajbhandari et al. 2020, "ZeRO").

    Attributes:
        stage: 1 parts the optimizer's moments, 2 the gradients as well, 3 also the weights.
        offload_optimizer: Moments live in the memory of the host, and are updated by its CPUs.
        offload_parameters: So do weights that are not in use; stage 3 only.
        more: DeepSpeed's own settings, from --deepspeed_config_file.
    """

    stage: int
    offload_optimizer: bool = False
    offload_parameters: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_launch(cls, environment: Mapping[str, str]) -> "ZeROSettings | None":
        """What the launcher was asked for; None without --use_deepspeed.

        Raises:
            TrainError: for what this program does not do.
        """
        if environment.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
            return None
        given = {
            "stage": environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"),
            "offload_optimizer": environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none"),
            "offload_param": environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none"),
        }
        more: dict[str, Any] = {}
        if (file := environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")) not in ("none", ""):
            more = _read(Path(file))
            zero = more.get("zero_optimization") or {}
            given["stage"] = zero.get("stage", given["stage"])
            for part in ("offload_optimizer", "offload_param"):
                given[part] = (zero.get(part) or {}).get("device", given[part])
        if str(given["stage"]) not in ("1", "2", "3"):
            raise TrainError(
                f"ZeRO stage {given['stage']}: choose --zero_stage 1, 2 or 3, or leave --use_deepspeed out"
            )
        for part in ("offload_optimizer", "offload_param"):
            if given[part] not in ("none", "cpu"):
                raise TrainError(f"--{part}_device {given[part]} is not supported: choose cpu or none")
        stage, parameters = int(given["stage"]), given["offload_param"] == "cpu"
        if parameters and stage < 3:
            raise TrainError(f"--offload_param_device cpu needs --zero_stage 3, not {stage}")
        return cls(stage, given["offload_optimizer"] == "cpu", parameters, more)

    def config(self, clip: float, precision: str, world: int) -> dict[str, Any]:
        """DeepSpeed's configuration.

        Args:
            clip: The longest gradient.
            precision: "no" or "bf16": passes under autocast, as with DDP; weights stay float32.
            world: Number of processes.
        """
        given = self.more.get("zero_optimization") or {}
        zero = {**given, "stage": self.stage}
        wanted = {"offload_optimizer": self.offload_optimizer}
        if self.stage == 3:
            wanted["offload_param"] = self.offload_parameters
        for part, offloaded in wanted.items():
            zero[part] = {**(given.get(part) or {}), "device": "cpu" if offloaded else "none"}
        return {
            **self.more,
            "zero_optimization": zero,
            # torch's fused AdamW updates moments on the host as well, and needs no compiler.
            "zero_force_ds_cpu_optimizer": False,
            "gradient_clipping": clip,
            # The loop counts micro-batches; these numbers only feed DeepSpeed's own statistics.
            "train_batch_size": world,
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # Gradients are added up in float32, as with DDP.
            "torch_autocast": {
                "enabled": precision == "bf16",
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],
            },
            "steps_per_print": 1 << 60,
        }


def _read(path: Path) -> dict[str, Any]:
    """A DeepSpeed configuration file without what this program decides."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise TypeError("not an object")
    except OSError as error:
        raise TrainError(
            f"{path}: cannot be read ({error.strerror}); give --deepspeed_config_file a JSON file"
        ) from None
    except (ValueError, TypeError) as error:
        raise TrainError(f"{path}: not a DeepSpeed configuration ({error}); it must be a JSON object") from None
    for key in content.keys() & OURS.keys():
        if content[key] != "auto":
            raise TrainError(f"{path}: '{key}' is decided by {OURS[key]}; remove it from the file, or write \"auto\"")
    return _settled({key: value for key, value in content.items() if key not in OURS})


def _settled(content: dict[str, Any]) -> dict[str, Any]:
    """Without "auto": DeepSpeed's own defaults take its place."""
    return {k: _settled(v) if isinstance(v, dict) else v for k, v in content.items() if v != "auto"}
