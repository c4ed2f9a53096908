#!/bin/bash
# Builds shards: sbatch slurm/shard.sh AUDIO_DIR OUT_DIR [flags of python -m shards build]
# On many nodes: sbatch --array=1-16 slurm/shard.sh AUDIO_DIR OUT_DIR [flags]. The same command again continues.
# --dry-run shows what would run; see docs/slurm.md.
#SBATCH --job-name=shard
#SBATCH --nodes=1
#SBATCH --ntasks=1
# One worker a CPU.
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
# A minute before the time is up this script is told; the build ends in seconds, and the job goes back into the queue.
#SBATCH --signal=B:USR2@60
#SBATCH --requeue
# All attempts in one log.
#SBATCH --output=slurm-%x-%j.log
#SBATCH --open-mode=append

# Slurm runs a copy of this file from its own folder, so $0 does not lead to the project.
home=${AUDIO_TRAIN_HOME:-${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}}
if [ ! -r "$home/slurm/lib.sh" ]; then
    echo "error: no slurm/lib.sh in $home: call sbatch in the project's folder or export AUDIO_TRAIN_HOME" >&2
    exit 1
fi
# shellcheck source=slurm/lib.sh
. "$home/slurm/lib.sh"
shard_job "$@"
