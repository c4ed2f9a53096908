# shellcheck shell=bash
# How a job goes on after its end: requeued, or where that is refused, by a job that waits for its end.
#
#   AUDIO_TRAIN_AGAIN   requeue (the default), submit (clusters that forbid requeueing), or no (a chain of jobs that were
#                       submitted beforehand)

# This job as scontrol should know it: an array's last task has the array's own id as SLURM_JOB_ID,
# and requeueing that would run all its tasks again.
job_name() {
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        printf '%s_%s\n' "$SLURM_ARRAY_JOB_ID" "$SLURM_ARRAY_TASK_ID"
    else
        printf '%s\n' "$SLURM_JOB_ID"
    fi
}

# What Slurm says of this job, on one line.
job_facts() { scontrol --oneliner show job "$(job_name)"; }

# fact NAME FACTS: one of them.
fact() {
    local word
    for word in $2; do
        case $word in "$1="*) printf '%s\n' "${word#*=}" && return ;; esac
    done
}

# What Slurm does to this job when it ends it: "requeued" where another life follows, else its state; nothing while it runs.
ended_from_outside() {
    local facts state
    facts=$(job_facts) || return 0
    state=$(fact JobState "$facts")
    case $state in RUNNING | '') return ;; esac
    # A node that failed, or a preemption: told by the count alone, the state is COMPLETING in all cases.
    if (($(fact Restarts "$facts") > ${SLURM_RESTART_COUNT:-0})); then
        echo requeued
    else
        printf '%s, reason %s\n' "$state" "$(fact Reason "$facts")"
    fi
}

# Flags of sbatch for a job like this one, one a line: those of the script are in the script, these may have been given on
# sbatch's command line.
flags_of_this_job() {
    local facts=$1 value
    printf '%s\n' --job-name="$SLURM_JOB_NAME" --nodes="$SLURM_JOB_NUM_NODES" --partition="$SLURM_JOB_PARTITION" \
        --time="$(fact TimeLimit "$facts")" --output="$(fact StdOut "$facts")" --open-mode=append
    [ -z "${SLURM_GPUS_PER_NODE:-}" ] || printf '%s\n' --gpus-per-node="$SLURM_GPUS_PER_NODE"
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || printf '%s\n' --cpus-per-task="$SLURM_CPUS_PER_TASK"
    [ -z "${SLURM_MEM_PER_NODE:-}" ] || printf '%s\n' --mem="$SLURM_MEM_PER_NODE"
    for value in Account QOS Features Reservation; do
        case $(fact "$value" "$facts") in
            '' | '(null)') ;;
            *) printf '%s\n' "--$(flag_of "$value")=$(fact "$value" "$facts")" ;;
        esac
    done
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || printf '%s\n' --array="$SLURM_ARRAY_TASK_ID"
}

# sbatch's name for a fact of scontrol.
flag_of() {
    case $1 in
        Features) echo constraint ;;
        *) echo "${1,,}" ;;
    esac
}

# Submits this script with the arguments given once more, to begin when this job has ended.
# shellcheck disable=SC2154 # home is lib.sh's
submit_again() {
    local flags clean=() name
    mapfile -t flags < <(flags_of_this_job "$(job_facts)")
    # Slurm's variables of this job contradict those of the next one; SBATCH_* are the user's, but for bindings.
    for name in "${!SLURM_@}" "${!SBATCH_CPU_BIND@}" "${!SBATCH_MEM_BIND@}"; do
        case $name in SLURM_CONF) ;; *) clean+=(-u "$name") ;; esac
    done
    # $0 is the node's copy of the script as it was submitted.
    (cd "$SLURM_SUBMIT_DIR" && AUDIO_TRAIN_HOME=$home env "${clean[@]}" \
        sbatch --parsable --dependency="afterany:$(job_name)" "${flags[@]}" "$0" "$@")
}

# submit_instead WHY ARGUMENTS...: another job goes on when this one has ended.
submit_instead() {
    local why=$1 next
    shift
    if [ "${AUDIO_TRAIN_AGAIN:-}" = no ]; then
        say "$why; the next job of the chain goes on"
    elif next=$(submit_again "$@"); then
        say "$why; job $next goes on when this one has ended"
    else
        say "error: $why; but nothing more can be submitted: sbatch with the same arguments goes on"
        return 1
    fi
}

# go_on WHY OUTSIDE ARGUMENTS...: ends this script; another life of this job, or another job, goes on.
go_on() {
    local why=$1 outside=$2 job
    shift 2
    job=$(job_name)
    if [ "$outside" = requeued ]; then
        say "$why"
        exit 0
    fi
    if [[ $(job_facts) == *BatchFlag=0* ]]; then # salloc: somebody sits there
        say "$why; the same command goes on"
        exit 0
    fi
    case ${AUDIO_TRAIN_AGAIN:-requeue} in
        no | submit) ;;
        *)
            say "$why; requeueing job $job"
            ! scontrol requeue "$job" || exit 0
            say "job $job may not be requeued; submitting another one instead"
            ;;
    esac
    submit_instead "$why" "$@"
    exit
}
