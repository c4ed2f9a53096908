#!/bin/bash
# Encodes a data set into latents: sbatch slurm/encode.sh RUN DATA_DIR OUT_DIR [flags of python -m train encode]
# More nodes or GPUs: sbatch --nodes 2 --gpus-per-node 4 slurm/encode.sh ... Run the same command again to resume.
# Many clusters need --partition and --account as well. --dry-run shows what would run; see docs/slurm.md.
#SBATCH --job-name=encode
#SBATCH --nodes=1
# One launcher per node; it starts one process per GPU.
#SBATCH --ntasks-per-node=1
# One GPU by default. On nodes without GPUs: sbatch --gpus-per-node 0, or SBATCH_GPUS_PER_NODE=0 in the environment.
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
# Slurm signals this script a minute before the time limit; the encoding stops in seconds and the job is requeued.
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
encode_job "$@"
