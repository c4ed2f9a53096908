#!/bin/bash
# Builds shards: sbatch slurm/shard.sh AUDIO_DIR OUT_DIR [flags of python -m shards build]
# On many nodes: sbatch --array=1-16 slurm/shard.sh AUDIO_DIR OUT_DIR [flags]. Run the same command again to resume.
# --dry-run shows what would run; see docs/slurm.md.
#SBATCH --job-name=shard
#SBATCH --nodes=1
#SBATCH --ntasks=1
# One worker per CPU.
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
# Slurm signals this script a minute before the time limit; the build stops in seconds and the job is requeued.
#SBATCH --signal=B:USR2@60
#SBATCH --requeue
# One log for all starts of the job.
#SBATCH --output=slurm-%x-%j.log
#SBATCH --open-mode=append

# Slurm runs a copy of this file in its own folder, so $0 is not in the project's folder.
home=${AUDIO_TRAIN_HOME:-${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}}
if [ ! -r "$home/slurm/lib.sh" ]; then
    echo "error: no slurm/lib.sh in $home: run sbatch in the project's folder, or with --export=ALL,AUDIO_TRAIN_HOME=/path/to/project" >&2
    exit 1
fi
# shellcheck source=slurm/lib.sh
. "$home/slurm/lib.sh"
shard_job "$@"
