# shellcheck shell=bash
# Functions shared by the batch scripts; docs/slurm.md explains their use.
#
# Variables a user may export before sbatch:
#   AUDIO_TRAIN_HOME    the project's folder; needed when sbatch is called from another folder
#   AUDIO_TRAIN_ENV     a file to source on the node instead of .venv/bin/activate. It may load modules, activate
#                       conda, and set one of these arrays for containers:
#                         run_with=(apptainer exec --nv image.sif)       words in front of each program
#                         srun_flags=(--container-image=image.sqsh)      flags for srun (pyxis, or --mpi=none ...)
#   AUDIO_TRAIN_PROCS   training processes per node; the default is one per GPU, or one on a node without GPUs
#   AUDIO_TRAIN_LAUNCH  more flags for `accelerate launch`: "--mixed_precision bf16", "--use_deepspeed --zero_stage 2"
#   AUDIO_TRAIN_AGAIN   requeue, submit or no: how an unfinished job continues; see requeue.sh
# If the cluster sets SLURM_TMPDIR, shards are copied there while they are read (--data.scratch overrides it).
#
# The scripts set no NCCL_* or OMP_* variable: NCCL finds the network interfaces, and the program divides the CPUs of its
# task among its processes. Set what your cluster needs (NCCL_SOCKET_IFNAME) in the file of AUDIO_TRAIN_ENV.

set -u
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run_with=()
srun_flags=()
# shellcheck source=slurm/requeue.sh
. "$home/slurm/requeue.sh"
# shellcheck source=slurm/work.sh
. "$home/slurm/work.sh"
# shellcheck source=slurm/dry_run.sh
. "$home/slurm/dry_run.sh"

log_line() { printf '%(%F %T)T slurm: %s\n' -1 "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Whether programs can be started: in a container, or by a Python environment on PATH.
has_python() { [ -n "${run_with[*]}${srun_flags[*]}" ] || command -v accelerate > /dev/null; }

# Puts the project's Python on PATH. With `optional` as its argument, it does not fail when there is no environment.
load_environment() {
    local file=${AUDIO_TRAIN_ENV:-}
    [ -n "$file" ] || [ ! -e "$home/.venv" ] || file=$home/.venv/bin/activate
    if [ -n "$file" ]; then
        [ -r "$file" ] || die "$file: cannot be read; make .venv again, or name another file: sbatch --export=ALL,AUDIO_TRAIN_ENV=/path/to/file"
        set +u # conda and modules read variables that are not set
        # shellcheck source=/dev/null
        . "$file"
        set -u
    fi
    # srun starts programs in the environment of this script, whatever part of the user's `sbatch --export` handed on.
    export PATH SLURM_EXPORT_ENV=ALL
    has_python || [ "${1:-}" = optional ] ||
        die "no Python environment: make $home/.venv, or name a file that loads one: sbatch --export=ALL,AUDIO_TRAIN_ENV=/path/to/file"
    # The working folder stays the one where sbatch was called, as the user's paths are relative to it.
    export PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONUNBUFFERED=1 # each line appears in the log at once
    # Python on this node only; in the container if there is one.
    python=("${run_with[@]}" python)
    [ -z "${srun_flags[*]}" ] || python=(srun --nodes=1 --ntasks=1 --overlap "${srun_flags[@]}" "${python[@]}")
}

# Prints the value of --run-dir or --run_dir among the arguments of a training; the last one counts.
run_dir_of() {
    local value=
    while (($#)); do
        case $1 in
            --run-dir=* | --run_dir=*) value=${1#*=} ;;
            --run-dir | --run_dir) value=${2:-} ;;
        esac
        shift
    done
    printf '%s\n' "$value"
}

# has_flag FLAG ARGUMENTS...: whether FLAG is among them, as --NAME VALUE or --NAME=VALUE.
has_flag() {
    local flag=$1 word
    shift
    for word; do
        case $word in "$flag" | "$flag="*) return 0 ;; esac
    done
    return 1
}

# words_of NAME TEXT: sets `words` to the words of a text. Quotes keep blanks: --config_file "/my folder/file.yaml".
words_of() {
    local lines
    case $2 in
        *[\"\'\\]*)
            lines=$(xargs printf '%s\n' <<< "$2" 2> /dev/null) || die "$1: a quote is missing in: $2"
            mapfile -t words <<< "$lines"
            ;;
        *) read -ra words <<< "$2" ;;
    esac
}

# Prints the number of training processes per node.
procs_per_node() {
    local procs=${AUDIO_TRAIN_PROCS:-${SLURM_GPUS_ON_NODE:-1}}
    ((procs > 0)) || procs=1
    printf '%s\n' "$procs"
}

# Prints the port for the rendezvous of several nodes. It depends on the job's id, so that two jobs on one node differ, and
# on the restart count, in case another program uses it. It is below the range of ephemeral ports.
rendezvous_port() { printf '%s\n' $((20000 + (SLURM_JOB_ID + 101 * ${SLURM_RESTART_COUNT:-0}) % 10000)); }

# Slurm sends TERM to every process of a step. The processes of the run save and end; the launcher only has to wait for
# them. Else it would print a traceback for the signal. torchrun reads its options from PET_*.
# shellcheck disable=SC2016 # each node expands SLURM_NODEID itself
launcher_on_a_node='trap "" TERM
export PET_SIGNALS_TO_HANDLE=SIGINT,SIGHUP,SIGQUIT
exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"'

# make_command ARGUMENTS...: sets `command` to the command that starts one launcher on each node.
make_command() {
    local nodes=$SLURM_JOB_NUM_NODES procs words more first
    procs=$(procs_per_node)
    words_of AUDIO_TRAIN_LAUNCH "${AUDIO_TRAIN_LAUNCH:-}"
    more=("${words[@]}")
    local flags=(--config_file "$home/accelerate_config.yaml"
        --num_machines "$nodes" --num_processes $((nodes * procs)))
    # A single node needs no host name and uses any free port.
    if ((nodes > 1)); then
        first=$(scontrol show hostnames "$SLURM_JOB_NODELIST") || return
        flags+=(--main_process_ip "${first%%$'\n'*}" --main_process_port "$(rendezvous_port)" --rdzv_backend static)
        # DeepSpeed's own launcher would connect to the other nodes by ssh, but srun has started them already.
        [[ " ${more[*]} " != *" --use_deepspeed "* ]] || flags+=(--deepspeed_multinode_launcher standard)
    fi
    # --wait instead of --kill-on-bad-exit: when one node fails, the others have two minutes to print their errors and
    # to finish writing. After that, srun ends nodes that hang.
    command=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}"
        --kill-on-bad-exit=0 --wait=120 "${srun_flags[@]}" "${run_with[@]}"
        bash -c "$launcher_on_a_node" launch
        "${flags[@]}" "${more[@]}" -m train "$@")
}

# Exports the job's start and end time for the program's forecast; newer versions of Slurm export them themselves.
export_time_limits() {
    local facts=
    [ -z "${SLURM_JOB_END_TIME:-}" ] || return 0
    facts=$(job_facts) || return 0
    SLURM_JOB_START_TIME=$(date -d "$(fact StartTime "$facts")" +%s 2> /dev/null) &&
        SLURM_JOB_END_TIME=$(date -d "$(fact EndTime "$facts")" +%s 2> /dev/null) &&
        export SLURM_JOB_START_TIME SLURM_JOB_END_TIME
}

# Asks the program to save and stop. A folder that is not a run yet must stay empty, or the program rejects it.
ask_to_stop() {
    if [ -e "$run_dir/run.json" ]; then touch "$run_dir/STOP"; fi
}

# make_arguments ARGUMENTS...: sets `arguments` to those of the program. %a becomes the number of the array task, and
# shards are copied to the node's local disk if there is one.
make_arguments() {
    arguments=("$@")
    if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
        [[ $(run_dir_of "$@") == *%a* ]] ||
            die "the tasks of this array would share one run: put %a into --run-dir, as in --run-dir runs/seed-%a --seed %a"
        arguments=("${arguments[@]//%a/$SLURM_ARRAY_TASK_ID}")
    fi
    if [ -d "${SLURM_TMPDIR:-}" ] && ! has_flag --data.scratch "$@"; then
        arguments+=(--data.scratch "$SLURM_TMPDIR/shards")
    fi
}

# Prints the number of attempts of the run that have started.
count_attempts() { grep -cs '"event": "started"' "$run_dir/attempts.jsonl" || true; }

# decide CODE STOP_SIGNAL SLURM_STATE: sets `reason` and `requeue` by train/runs/requeue.py.
decide() {
    reason=$("${python[@]}" -m train.runs.requeue "$run_dir" --code "$1" --stop-signal "$2" --slurm-state "$3" \
        --error-file "$error_file" --attempts-before "${attempts_before:-0}" \
        --restarts "${SLURM_RESTART_COUNT:-0}" --job "$(job_name)")
    case $? in
        0) requeue=yes ;;
        3) requeue= ;;
        *) # Python or its container failed: decide by what this script knows
            reason="the program ended with exit code $1${2:+ after $2}" requeue=
            [ -z "$2" ] || [ -e "$run_dir/DONE" ] || requeue=yes
            ;;
    esac
}

# Slurm sends TERM when the time limit is reached, or the job is cancelled for a more urgent one, and kills this script and
# the program half a minute later (KillWait). Another job is submitted at once, while the program may still save.
on_last_term() {
    decide 143 "$time_is_up" ""
    if [ -n "$requeue" ]; then
        submit_successor "$reason" "$@" || true # the program may still save
    else
        log_line "$reason"
    fi
}

# require_job FAMILY ARGUMENTS...: outside of a job the scripts can only do --dry-run.
require_job() {
    case ${2:-} in
        --dry-run | --dry-run=*)
            load_environment optional
            local word=${2#--dry-run}
            dry_run "${word#=}" "$1" "${@:3}"
            exit
            ;;
    esac
    [ -n "${SLURM_JOB_ID:-}" ] ||
        die "this is a batch script; submit it: sbatch $0 ${*:2}; or show what it would do: bash $0 --dry-run ..."
}

# train_job FAMILY ARGUMENTS...: trains until the run is finished; the job is requeued as often as that takes.
train_job() {
    local launcher code stop_signal='' got_term='' time_is_up='' attempts_before arguments command error_file reason
    local requeue slurm_state=''
    [ -n "$(run_dir_of "$@")" ] ||
        die "--run-dir is missing: sbatch slurm/train_$1.sh --data OUT_DIR --run-dir RUN_DIR [flags]"
    require_job "$@"
    make_arguments "$@"
    run_dir=$(run_dir_of "${arguments[@]}")
    # Handlers only set variables: bash is not safe when a signal interrupts a handler that starts programs.
    trap 'stop_signal=USR2' USR2
    trap 'got_term=yes' TERM
    load_environment
    export_time_limits
    make_command "${arguments[@]}" || die "scontrol cannot list the nodes of this job"
    attempts_before=$(count_attempts)
    # This script runs on the first node and shares /tmp with rank 0 of the program.
    error_file=$(mktemp) && export AUDIO_TRAIN_REFUSAL=$error_file

    # bash runs traps between commands only, but a signal ends `wait`.
    "${command[@]}" &
    launcher=$!
    while kill -0 "$launcher" 2> /dev/null; do
        if [ -n "$got_term" ]; then
            got_term='' stop_signal=TERM
            ask_to_stop
            if [ -z "$time_is_up" ]; then
                time_is_up=$(why_time_is_up "$(slurm_state_of_job)")
                [ -z "$time_is_up" ] || on_last_term "${@:2}"
            fi
        fi
        # Repeated, as the program removes an old STOP when it starts, and that may have been this one.
        [ -z "$stop_signal" ] || ask_to_stop
        sleep 2 > /dev/null 2>&1 &
        wait -n "$launcher" $!
    done
    wait "$launcher"
    code=$?
    [ -z "$stop_signal" ] || rm -f "$run_dir/STOP" # may have been created after the program's end
    trap '' USR2 TERM # a signal must not interrupt the decision
    [ -z "$got_term" ] || [ -n "$stop_signal" ] || stop_signal=TERM
    if [ -z "$time_is_up" ]; then
        slurm_state=$(slurm_state_of_job)
        time_is_up=$(why_time_is_up "$slurm_state")
        if [ -n "$time_is_up" ]; then
            on_last_term "${@:2}"
        else
            decide "$code" "$stop_signal" "$slurm_state"
            [ -z "$requeue" ] || requeue_job "$reason" "$slurm_state" "${@:2}"
            log_line "$reason"
        fi
    fi
    rm -f "$error_file"
    exit "$code"
}
