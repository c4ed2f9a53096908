#!/bin/bash
# Trains a hierarchical VAE: sbatch slurm/train_hvae.sh --data OUT_DIR --run-dir RUN_DIR [flags of python -m train hvae]
# More nodes or GPUs: sbatch --nodes 2 --gpus-per-node 4 slurm/train_hvae.sh ...; --dry-run shows it; see docs/slurm.md.
#SBATCH --job-name=train_hvae
#SBATCH --nodes=1
# One launcher a node; it starts one process a GPU.
#SBATCH --ntasks-per-node=1
# A GPU unless told otherwise, as without one training is slow and nothing says so. Where there are none:
# sbatch --gpus-per-node 0, or SBATCH_GPUS_PER_NODE=0 in the environment.
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Two minutes before the time is up this script is told, and the run is saved and goes back into the queue.
#SBATCH --signal=B:USR2@120
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
train_job hvae "$@"
