# shellcheck shell=bash
# Continues an unfinished job: requeues it, or submits another job that waits for its end.
#
#   AUDIO_TRAIN_AGAIN   requeue (the default), submit (for clusters that forbid requeueing), or no (for a chain of jobs
#                       submitted in advance)

# Prints this job's name for scontrol. The last task of an array has the array's id as its SLURM_JOB_ID, and requeueing
# that id would run all tasks again.
job_name() {
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        printf '%s_%s\n' "$SLURM_ARRAY_JOB_ID" "$SLURM_ARRAY_TASK_ID"
    else
        printf '%s\n' "$SLURM_JOB_ID"
    fi
}

# Prints what scontrol knows about this job. Not on one line: there, the words of a job's name look like other fields.
job_facts() { scontrol show job "$(job_name)"; }

# fact NAME FACTS: prints one field of job_facts. Text that the user chose, in which anything may stand, ends its line: the
# job's name ends the first line, and paths and comments have lines of their own.
fact() {
    local line word words
    while IFS= read -r line; do
        line=${line#"${line%%[! ]*}"}
        case $line in
            JobId=*) continue ;;
            WorkDir=* | StdOut=* | Reservation=*)
                [ "${line%%=*}" != "$1" ] || { printf '%s\n' "${line#*=}" && return; }
                continue
                ;;
            Command=* | *Comment=* | StdErr=* | StdIn=*) continue ;;
        esac
        read -ra words <<< "$line"
        for word in "${words[@]}"; do
            case $word in "$1="*) printf '%s\n' "${word#*=}" && return ;; esac
        done
    done <<< "$2"
}

# log_of DESCRIPTOR: prints the file to which this script writes its output (1) or its errors (2); nothing if it is no file.
# It is asked of the kernel, as scontrol expands the signs behind "%" in the names of folders too.
log_of() {
    local file
    file=$(readlink "/proc/$$/fd/$1") && [ -f "$file" ] && printf '%s\n' "$file"
}

# Prints "requeued" when Slurm itself has requeued this job, "preempted" when Slurm is ending it for a more urgent job,
# else the state and reason when Slurm is ending it; nothing while the job is running.
slurm_state_of_job() {
    local facts state preempted
    facts=$(job_facts) || return 0
    state=$(fact JobState "$facts")
    case $state in RUNNING | '') return ;; esac
    # After a node failure or a preemption only the count of restarts differs; the state is COMPLETING in all cases.
    if (($(fact Restarts "$facts") > ${SLURM_RESTART_COUNT:-0})); then
        echo requeued
        return
    fi
    # With PreemptMode=CANCEL only this time differs from a scancel. An earlier life of the job may have left one.
    preempted=$(fact PreemptTime "$facts")
    if [[ $preempted == [0-9]* && ! $preempted < $(fact StartTime "$facts") ]]; then
        echo preempted
    else
        printf '%s, reason %s\n' "$state" "$(fact Reason "$facts")"
    fi
}

# flags_of_this_job FACTS: sets `flags` to the sbatch flags of this job that may have been passed on sbatch's command line.
# The script holds its own flags.
flags_of_this_job() {
    local facts=$1 value log errors
    log=$(log_of 1) || log=$(fact StdOut "$facts")
    errors=$(log_of 2) || errors=$log
    flags=(--job-name="$SLURM_JOB_NAME" --nodes="$SLURM_JOB_NUM_NODES" --partition="$SLURM_JOB_PARTITION"
        --time="$(fact TimeLimit "$facts")" --output="${log//%/%%}" --open-mode=append)
    [ "$errors" = "$log" ] || flags+=(--error="${errors//%/%%}")
    value=$(fact WorkDir "$facts")
    [ -z "$value" ] || flags+=(--chdir="$value")
    [ -z "${SLURM_GPUS_PER_NODE:-}" ] || flags+=(--gpus-per-node="$SLURM_GPUS_PER_NODE")
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || flags+=(--cpus-per-task="$SLURM_CPUS_PER_TASK")
    [ -z "${SLURM_MEM_PER_NODE:-}" ] || flags+=(--mem="$SLURM_MEM_PER_NODE")
    for value in Account QOS Features Reservation; do
        case $(fact "$value" "$facts") in
            '' | '(null)') ;;
            *) flags+=("--$(flag_of "$value")=$(fact "$value" "$facts")") ;;
        esac
    done
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || flags+=(--array="$SLURM_ARRAY_TASK_ID")
}

# Prints the name of sbatch's flag for a field of scontrol.
flag_of() {
    case $1 in
        Features) echo constraint ;;
        *) echo "${1,,}" ;;
    esac
}

# submit_again ARGUMENTS...: submits this script again, to start when this job has ended.
# shellcheck disable=SC2154 # home is lib.sh's
submit_again() {
    local flags=() clean=() name
    flags_of_this_job "$(job_facts)"
    # Slurm's variables for this job contradict those of the next one. SBATCH_* are the user's, except for bindings.
    for name in "${!SLURM_@}" "${!SBATCH_CPU_BIND@}" "${!SBATCH_MEM_BIND@}"; do
        case $name in SLURM_CONF) ;; *) clean+=(-u "$name") ;; esac
    done
    # $0 is the node's copy of the script.
    (cd "$SLURM_SUBMIT_DIR" && AUDIO_TRAIN_HOME=$home env "${clean[@]}" \
        sbatch --parsable --dependency="afterany:$(job_name)" "${flags[@]}" "$0" "$@")
}

# why_time_is_up SLURM_STATE: prints why Slurm kills this script within half a minute (KillWait), too soon for
# requeueing; nothing if it does not, or if the user ended the job.
why_time_is_up() {
    case $1 in
        *TimeLimit*) echo "the time limit" ;;
        preempted) echo "a preemption" ;;
    esac
}

# submit_successor REASON ARGUMENTS...: submits another job that continues when this one has ended.
submit_successor() {
    local reason=$1 next
    shift
    if [ "${AUDIO_TRAIN_AGAIN:-}" = no ]; then
        log_line "$reason; the next job of the chain continues"
    elif next=$(submit_again "$@"); then
        log_line "$reason; job $next continues when this one has ended"
    else
        log_line "error: $reason, but sbatch failed; run sbatch again with the same arguments to resume"
        return 1
    fi
}

# requeue_job REASON SLURM_STATE ARGUMENTS...: requeues this job, or submits another one, and exits.
requeue_job() {
    local reason=$1 slurm_state=$2 job
    shift 2
    job=$(job_name)
    if [ "$slurm_state" = requeued ]; then
        log_line "$reason"
        exit 0
    fi
    if [ "$(fact BatchFlag "$(job_facts)")" = 0 ]; then # salloc: an interactive job
        log_line "$reason; run the same command to resume"
        exit 0
    fi
    case ${AUDIO_TRAIN_AGAIN:-requeue} in
        no | submit) ;;
        *)
            log_line "$reason; requeueing job $job"
            ! scontrol requeue "$job" || exit 0
            log_line "job $job cannot be requeued; submitting another one"
            ;;
    esac
    submit_successor "$reason" "$@"
    exit
}
