# shellcheck shell=bash
# Jobs whose work can be killed at any moment and goes on with what is finished: builds of shards, and encodings.

# Prints this array task's share as I/N. An array may start at any number and have a step, but no gaps.
array_share() {
    # shellcheck disable=SC2153 # Slurm sets these variables
    local id=$SLURM_ARRAY_TASK_ID min=$SLURM_ARRAY_TASK_MIN max=$SLURM_ARRAY_TASK_MAX
    local step=${SLURM_ARRAY_TASK_STEP:-1} count=$SLURM_ARRAY_TASK_COUNT
    if (((max - min) / step + 1 != count || (id - min) % step)); then
        die "the task numbers of this array have gaps: use --array=1-N; finished tasks end at once"
    fi
    printf '%s/%s\n' $(((id - min) / step + 1)) "$count"
}

# make_build ARGUMENTS...: sets `share` and `command` for a build with these arguments.
make_build() {
    share=()
    # --task is present when a task of an array continues as a separate job.
    if [ -n "${SLURM_ARRAY_TASK_ID:-}" ] && ! has_flag --task "$@"; then
        share=(--task "$(array_share)") || exit
    fi
    local workers=()
    has_flag --workers "$@" || workers=(--workers "${SLURM_CPUS_PER_TASK:-1}")
    command=("${python[@]}" -m shards build "${workers[@]}" "${share[@]}" "$@")
}

# place_of N ARGUMENTS...: prints the Nth argument that is neither a flag nor the value of a flag.
place_of() {
    local number=$1 places=()
    shift
    while (($#)); do
        case $1 in
            --strict | --reread | --join?short | --valid?within | --split?by?folder | --*=*) ;;
            --*) (($# == 1)) || shift ;;
            *) places+=("$1") ;;
        esac
        shift
    done
    printf '%s\n' "${places[number - 1]:-}"
}

# Prints what a build or an encoding has finished, one line each, sorted: plans, parts and data sets with their times,
# encoded recordings, and recordings and shards from the journals of unfinished parts. A new file alone is no progress:
# each start copies the journals, and leases are rewritten all the time.
finished_in() {
    {
        find "$1" -maxdepth 2 -name '*.json' -printf '%f %T@\n'
        find "$1/.encode" -maxdepth 1 -name '*.latents' -printf '%f %T@\n'
        find "$1/.build" -name journal -exec grep -oh -e '^{"piece": {"row": [0-9]*' -e '"file": "[^"]*"' {} +
    } 2> /dev/null | LC_ALL=C sort -u
}

# shard_job AUDIO_DIR OUT_DIR [flags]: builds shards with all CPUs of the task; in an array, only this task's share. The
# task that finishes last merges the shares.
shard_job() {
    local share command stop_signal=''
    require_job build "$@"
    # As in train_job, handlers only set variables.
    trap 'stop_signal=USR2' USR2
    trap 'stop_signal=TERM' TERM
    load_environment
    make_build "$@"
    work_job build "$(place_of 2 "$@")" "$@" "${share[@]}"
}

# encode_job RUN DATA_DIR OUT_DIR [flags]: encodes with the processes of all nodes.
encode_job() {
    local command arguments stop_signal='' run error_file
    require_job encode "$@"
    [ -n "$(place_of 3 "$@")" ] || die "a folder is missing: sbatch slurm/encode.sh RUN DATA_DIR OUT_DIR [flags]"
    make_encoding "$@"
    trap 'stop_signal=USR2' USR2
    trap 'stop_signal=TERM' TERM
    load_environment
    run=$(place_of 1 "${arguments[@]}")
    # Jobs that wait for a training by afterok also begin when it was stopped, or when another job continues it.
    [ ! -e "$run/run.json" ] || [ -e "$run/DONE" ] ||
        die "$run: this training is not finished; run sbatch again when it is, or name one of its checkpoints"
    make_command encode "${arguments[@]}" || die "scontrol cannot list the nodes of this job"
    error_file=$(mktemp) && export AUDIO_TRAIN_REFUSAL=$error_file
    # shellcheck disable=SC2064 # the name as it is now
    trap "rm -f '$error_file'" EXIT
    work_job encoding "$(place_of 3 "${arguments[@]}")" "$@"
}

# make_encoding ARGUMENTS...: sets `arguments` to those of the program. %a becomes the number of the array task.
make_encoding() {
    arguments=("$@")
    [ -n "${SLURM_ARRAY_TASK_ID:-}" ] || return 0
    [[ $(place_of 3 "$@") == *%a* ]] ||
        die "the tasks of this array would write one folder: put %a into OUT_DIR, as in runs/seed-%a data latents-%a"
    arguments=("${arguments[@]//%a/$SLURM_ARRAY_TASK_ID}")
}

# work_job KIND OUT_DIR ARGUMENTS...: runs `command`, a build or an encoding, and exits with its code. If it was stopped,
# or an encoding crashed, and something new is finished, the job is requeued with the same arguments.
# shellcheck disable=SC2154 # the caller sets command, stop_signal and error_file
work_job() {
    local kind=$1 out=$2 finished_before work code forwarded='' slurm_state reason advice=''
    shift 2
    finished_before=$(finished_in "$out")
    "${command[@]}" &
    work=$!
    while kill -0 "$work" 2> /dev/null; do
        # Only once: the build ends its workers at once and keeps what they have finished. A second TERM could interrupt
        # its cleanup.
        [ -z "$stop_signal" ] || [ -n "$forwarded" ] || { forwarded=yes && kill -TERM "$work"; }
        sleep 2 > /dev/null 2>&1 &
        wait -n "$work" $!
    done
    wait "$work"
    code=$?
    trap '' USR2 TERM # a signal must not interrupt the decision
    may_go_on "$kind" "$code" || exit "$code"
    slurm_state=$(slurm_state_of_job)
    reason="the $kind ended with exit code $code"
    [ -z "$stop_signal" ] || { reason="the $kind was stopped by $stop_signal" advice=": allow more time (sbatch --time)"; }
    if [[ -n $slurm_state && $slurm_state != requeued && -z $(why_time_is_up "$slurm_state") ]]; then
        log_line "$reason: Slurm ended the job ($slurm_state); run sbatch again to resume"
    elif [ "$slurm_state" != requeued ] &&
        [ -z "$(LC_ALL=C comm -13 <(echo "$finished_before") <(finished_in "$out"))" ]; then
        log_line "$reason before it had finished anything, and a restart would not get further$advice"
    elif [ -n "$(why_time_is_up "$slurm_state")" ]; then # too late for requeueing
        submit_successor "$reason" "$@"
    else
        # In a subshell, as requeue_job exits with 0: a job that depends on this one by afterok must not start yet.
        (requeue_job "$reason" "$slurm_state" "$@")
    fi
    exit "$code"
}

# may_go_on KIND CODE: whether another start may get further. Exit codes of a build up to 128: it finished, or failed for
# another reason than the signal. An encoding notes an error that another start would only repeat.
may_go_on() {
    if [ "$1" = build ]; then
        [ -n "$stop_signal" ] && (($2 > 128))
    else
        (($2)) && [ ! -s "$error_file" ]
    fi
}
