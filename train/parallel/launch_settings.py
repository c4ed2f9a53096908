"""From the flags of `accelerate launch --use_deepspeed` to DeepSpeed's configuration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.errors import TrainError

# Keys of DeepSpeed's configuration that this program sets, and the setting or flag to use instead. A file with
# another value is an error: it would have no effect.
SET_BY_PROGRAM = {
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
    """How the training state is sharded over the processes (Rajbhandari et al. 2020, "ZeRO").

    Attributes:
        stage: 1 shards the optimizer's moments, 2 also the gradients, 3 also the weights.
        offload_optimizer: Keep moments in host memory, and update them on the CPU.
        offload_parameters: Keep weights that are not in use in host memory; stage 3 only.
        more: Other settings of DeepSpeed, from --deepspeed_config_file.
    """

    stage: int
    offload_optimizer: bool = False
    offload_parameters: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_launch(cls, environment: Mapping[str, str]) -> "ZeROSettings | None":
        """Reads the environment variables that the launcher sets; None without --use_deepspeed.

        Raises:
            TrainError: for settings that this program does not support.
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
                f"ZeRO stage {given['stage']}: choose --zero_stage 1, 2 or 3, or leave out --use_deepspeed"
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
            clip: The largest gradient norm.
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
            # torch's fused AdamW also runs on the CPU, and needs no compiler.
            "zero_force_ds_cpu_optimizer": False,
            "gradient_clipping": clip,
            # The training loop accumulates micro-batches; these numbers only feed DeepSpeed's statistics.
            "train_batch_size": world,
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # Gradients are accumulated in float32, as with DDP.
            "torch_autocast": {
                "enabled": precision == "bf16",
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],
            },
            "steps_per_print": 1 << 60,
        }


def _read(path: Path) -> dict[str, Any]:
    """Reads a DeepSpeed configuration file, without the keys that this program sets."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise TypeError("not an object")
    except OSError as error:
        raise TrainError(
            f"{path}: cannot be read ({error.strerror}); pass a JSON file to --deepspeed_config_file"
        ) from None
    except (ValueError, TypeError) as error:
        raise TrainError(f"{path}: not a DeepSpeed configuration ({error}); it must be a JSON object") from None
    for key in content.keys() & SET_BY_PROGRAM.keys():
        if content[key] != "auto":
            setting = SET_BY_PROGRAM[key]
            raise TrainError(f"{path}: '{key}' is set by {setting}; remove it from the file, or set it to \"auto\"")
    return _without_auto({key: value for key, value in content.items() if key not in SET_BY_PROGRAM})


def _without_auto(content: dict[str, Any]) -> dict[str, Any]:
    """The settings without those that are "auto", for which DeepSpeed's defaults hold."""
    return {k: _without_auto(v) if isinstance(v, dict) else v for k, v in content.items() if v != "auto"}
