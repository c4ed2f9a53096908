# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the files that read this one
# What the pretended machines share.
ROOT=${SLURM_TEST_ROOT:-${TMPDIR:-/tmp}/slurm-$(id -u)}
NODES=8
CPUS=4                 # of each node, whatever the host has
GPUS=2                 # of each node
NET=10.77.0            # lives in the cluster's own network namespace only
export SLURM_CONF=$ROOT/etc/slurm.conf
PATH=$PATH:/usr/sbin:/sbin
