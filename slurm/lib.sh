# shellcheck shell=bash
# What the batch scripts share; docs/slurm.md tells how to use them.
#
# Variables a user may export before sbatch:
#   AUDIO_TRAIN_HOME    the project's folder, when sbatch is called from another one
#   AUDIO_TRAIN_ENV     the hook: a file to source on the node instead of .venv/bin/activate. It may load modules,
#                       activate conda, and for containers set one of these arrays:
#                         run_with=(apptainer exec --nv image.sif)       words before each program
#                         srun_flags=(--container-image=image.sqsh)      flags for srun (pyxis, or --mpi=none ...)
#   AUDIO_TRAIN_PROCS   training processes a node; otherwise one a GPU, or one where there is none
#   AUDIO_TRAIN_LAUNCH  more flags for `accelerate launch`: "--mixed_precision bf16", "--use_deepspeed --zero_stage 2"
#   AUDIO_TRAIN_AGAIN   requeue, submit or no: how a job goes on; see again.sh
# Where the cluster sets SLURM_TMPDIR, shards are copied there while they are read (--data.scratch overrides it).
#
# No NCCL_* or OMP_* is set: NCCL finds interfaces by itself, and the program shares out the CPUs of its task. What a
# cluster does need (NCCL_SOCKET_IFNAME) belongs into the hook.

set -u
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run_with=()
srun_flags=()
# shellcheck source=slurm/again.sh
. "$home/slurm/again.sh"
# shellcheck source=slurm/dry_run.sh
. "$home/slurm/dry_run.sh"

say() { printf '%(%F %T)T slurm: %s\n' -1 "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Puts the project's Python on PATH.
load_environment() {
    local file=${AUDIO_TRAIN_ENV:-}
    [ -n "$file" ] || [ ! -e "$home/.venv" ] || file=$home/.venv/bin/activate
    if [ -n "$file" ]; then
        [ -r "$file" ] || die "$file: cannot be read; make .venv again or let AUDIO_TRAIN_ENV name another file"
        set +u # conda and modules read variables that are not set
        # shellcheck source=/dev/null
        . "$file"
        set -u
    fi
    [ -n "${run_with[*]}${srun_flags[*]}" ] || command -v accelerate > /dev/null ||
        die "no Python environment: make $home/.venv, or let AUDIO_TRAIN_ENV name a file that loads one"
    # The job's folder stays where sbatch was called, as the user's relative paths begin there.
    export PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONUNBUFFERED=1 # the log shows a line when it is written
    # Python on this node alone, in the container if there is one.
    python=("${run_with[@]}" python)
    [ -z "${srun_flags[*]}" ] || python=(srun --nodes=1 --ntasks=1 --overlap "${srun_flags[@]}" "${python[@]}")
}

# The value of --run-dir among training's arguments, spelled as the program allows it; the last one counts.
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

# Whether a flag is among the arguments, as --NAME VALUE or --NAME=VALUE.
has_flag() {
    local flag=$1 word
    shift
    for word; do
        case $word in "$flag" | "$flag="*) return 0 ;; esac
    done
    return 1
}

# How many training processes each node runs.
procs_per_node() {
    local procs=${AUDIO_TRAIN_PROCS:-${SLURM_GPUS_ON_NODE:-1}}
    ((procs > 0)) || procs=1
    printf '%s\n' "$procs"
}

# The port at which several nodes meet: by the job's id, so that two jobs on one node do not; another one in each life of
# the job, should something else hold it. Below the range from which systems take ports for outgoing connections.
meeting_port() { printf '%s\n' $((20000 + (SLURM_JOB_ID + 101 * ${SLURM_RESTART_COUNT:-0}) % 10000)); }

# Sets `command` to what starts one launcher on each node.
make_command() {
    local nodes=$SLURM_JOB_NUM_NODES procs more first
    procs=$(procs_per_node)
    read -ra more <<< "${AUDIO_TRAIN_LAUNCH:-}"
    local flags=(--config_file "$home/accelerate_config.yaml"
        --num_machines "$nodes" --num_processes $((nodes * procs)))
    # One node needs no name in the network and takes any free port.
    if ((nodes > 1)); then
        first=$(scontrol show hostnames "$SLURM_JOB_NODELIST") || return
        flags+=(--main_process_ip "${first%%$'\n'*}" --main_process_port "$(meeting_port)" --rdzv_backend static)
        # DeepSpeed's own launcher would go to the other nodes by ssh; srun is there already.
        [[ " ${more[*]} " != *" --use_deepspeed "* ]] || flags+=(--deepspeed_multinode_launcher standard)
    fi
    # --wait instead of --kill-on-bad-exit: where one node ends by an error, the others have two minutes to say theirs
    # and to finish what they write. It ends nodes that hang after a crash.
    # shellcheck disable=SC2016 # SLURM_NODEID is each node's own
    command=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}"
        --kill-on-bad-exit=0 --wait=120 "${srun_flags[@]}" "${run_with[@]}"
        bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' launch
        "${flags[@]}" "${more[@]}" -m train "$@")
}

# For the program's forecast; newer Slurms set them themselves.
note_limits() {
    local facts=
    [ -z "${SLURM_JOB_END_TIME:-}" ] || return 0
    facts=$(job_facts) || return 0
    SLURM_JOB_START_TIME=$(date -d "$(fact StartTime "$facts")" +%s 2> /dev/null) &&
        SLURM_JOB_END_TIME=$(date -d "$(fact EndTime "$facts")" +%s 2> /dev/null) &&
        export SLURM_JOB_START_TIME SLURM_JOB_END_TIME
}

# Asks the program to save and stop. A folder that is not yet a run must stay empty, or the program refuses it.
ask_to_stop() {
    if [ -e "$run_dir/run.json" ]; then touch "$run_dir/STOP"; fi
}

# Sets `arguments` to those of the program: %a is the task of an array, and shards go to the node's own disk if it has one.
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

# How many attempts of the run have begun.
attempts_begun() { grep -cs '"event": "started"' "$run_dir/attempts.jsonl" || true; }

# decide CODE ASKED OUTSIDE: sets `why` and `again` by train/runs/requeue.py.
decide() {
    why=$("${python[@]}" -m train.runs.requeue "$run_dir" --code "$1" --asked "$2" --outside "$3" --refusal "$refusal" \
        --before "${before:-0}" --restarts "${SLURM_RESTART_COUNT:-0}" --job "$(job_name)")
    case $? in
        0) again=yes ;;
        3) again= ;;
        *) # Python, or what starts it, has failed: there is still what is known here
            why="the program ended with exit code $1${2:+ after $2}" again=
            [ -z "$2" ] || [ -e "$run_dir/DONE" ] || again=yes
            ;;
    esac
}

# When TERM comes because time is up, this script and the program have half a minute (Slurm's KillWait) until both are
# killed: another job is submitted first, while the program may still save.
when_time_is_up() {
    late=yes
    decide 143 "the time limit" ""
    if [ -n "$again" ]; then
        submit_instead "$why" "$@" || true # the program may still save
    else
        say "$why"
    fi
}

# expect_a_job FAMILY ARGUMENTS...: outside of a job there is nothing to do but --dry-run.
expect_a_job() {
    case ${2:-} in
        --dry-run | --dry-run=*)
            load_environment
            local word=${2#--dry-run}
            dry_run "${word#=}" "$1" "${@:3}"
            exit
            ;;
    esac
    [ -n "${SLURM_JOB_ID:-}" ] ||
        die "this is a batch script: sbatch $0 ${*:2}; or, to see what it would do: bash $0 --dry-run ..."
}

# train_job FAMILY ARGUMENTS...: trains until the run is finished, in as many lives of this job as that takes.
train_job() {
    local launcher code asked='' termed='' late='' before arguments command refusal why again outside=''
    [ -n "$(run_dir_of "$@")" ] ||
        die "--run-dir is missing: sbatch slurm/train_$1.sh --data OUT_DIR --run-dir RUN_DIR [flags]"
    expect_a_job "$@"
    make_arguments "$@"
    run_dir=$(run_dir_of "${arguments[@]}")
    # Handlers only take notes: bash may lose its way in one that starts programs when another signal comes.
    trap 'asked=USR2' USR2
    trap 'termed=yes' TERM
    load_environment
    note_limits
    make_command "${arguments[@]}" || die "scontrol cannot name the nodes of this job"
    before=$(attempts_begun)
    # The first node's program and this script share its /tmp.
    refusal=$(mktemp) && export AUDIO_TRAIN_REFUSAL=$refusal

    # bash runs traps between commands only, but a signal does end `wait`.
    "${command[@]}" &
    launcher=$!
    while kill -0 "$launcher" 2> /dev/null; do
        if [ -n "$termed" ]; then
            termed='' asked=TERM
            ask_to_stop
            [ -n "$late" ] || [[ $(ended_from_outside) != *TimeLimit* ]] || when_time_is_up "${@:2}"
        fi
        # Again and again, as the program begins by removing an old STOP, which may have been ours.
        [ -z "$asked" ] || ask_to_stop
        sleep 2 > /dev/null 2>&1 &
        wait -n "$launcher" $!
    done
    wait "$launcher"
    code=$?
    [ -z "$asked" ] || rm -f "$run_dir/STOP" # ours, which may have come after the program's end
    trap '' USR2 TERM # what is decided from here on must not be cut short
    [ -z "$termed" ] || [ -n "$asked" ] || asked=TERM
    [ -n "$late" ] || outside=$(ended_from_outside)
    if [[ $outside == *TimeLimit* ]]; then
        when_time_is_up "${@:2}"
    elif [ -z "$late" ]; then
        decide "$code" "$asked" "$outside"
        [ -z "$again" ] || go_on "$why" "$outside" "${@:2}"
        say "$why"
    fi
    rm -f "$refusal"
    exit "$code"
}

# This task's share of an array as I/N. Arrays may begin anywhere and have a step, but must be whole.
array_share() {
    # shellcheck disable=SC2153 # these are names of Slurm
    local id=$SLURM_ARRAY_TASK_ID min=$SLURM_ARRAY_TASK_MIN max=$SLURM_ARRAY_TASK_MAX
    local step=${SLURM_ARRAY_TASK_STEP:-1} count=$SLURM_ARRAY_TASK_COUNT
    if (((max - min) / step + 1 != count || (id - min) % step)); then
        die "the array's tasks are no plain range: use --array=1-N; tasks that are done end at once"
    fi
    printf '%s/%s\n' $(((id - min) / step + 1)) "$count"
}

# Sets `share` and `command` for these arguments of a build.
make_build() {
    share=()
    # --task is there where an array's task goes on as a job of its own.
    if [ -n "${SLURM_ARRAY_TASK_ID:-}" ] && ! has_flag --task "$@"; then
        share=(--task "$(array_share)") || exit
    fi
    command=("${python[@]}" -m shards build --workers "${SLURM_CPUS_PER_TASK:-1}" "${share[@]}" "$@")
}

# OUT_DIR among a build's arguments: the second that is neither a flag nor the value of one.
out_dir_of() {
    local places=()
    while (($#)); do
        case $1 in
            --strict | --*=*) ;;
            --*) (($# == 1)) || shift ;;
            *) places+=("$1") ;;
        esac
        shift
    done
    printf '%s\n' "${places[1]:-}"
}

# What a build has finished, a line each, sorted: plans, parts and data sets with their times; recordings and shards by
# the journals of parts in work. These are copied from life to life, and leases are rewritten all the time, so that new
# files alone mean nothing.
finished_in() {
    {
        find "$1" -maxdepth 2 -name '*.json' -printf '%f %T@\n'
        find "$1/.build" -name journal -exec grep -oh -e '^{"piece": {"row": [0-9]*' -e '"file": "[^"]*"' {} +
    } 2> /dev/null | LC_ALL=C sort -u
}

# shard_job AUDIO_DIR OUT_DIR [flags]: builds shards with all CPUs of the task; in an array, this task's share of them.
# The task that finishes last merges: no job has to wait for the others.
shard_job() {
    local share command out before build code asked='' told='' outside why
    expect_a_job build "$@"
    # As in train_job, handlers only take notes.
    trap 'asked=USR2' USR2
    trap 'asked=TERM' TERM
    load_environment
    make_build "$@"
    out=$(out_dir_of "$@")
    before=$(finished_in "$out")
    "${command[@]}" &
    build=$!
    while kill -0 "$build" 2> /dev/null; do
        # Once: it ends its workers at once, and what they have finished stays. A second TERM could meet its cleaning up.
        [ -z "$asked" ] || [ -n "$told" ] || { told=yes && kill -TERM "$build"; }
        sleep 2 > /dev/null 2>&1 &
        wait -n "$build" $!
    done
    wait "$build"
    code=$?
    trap '' USR2 TERM # what is decided from here on must not be cut short
    # Finished in time, or failed for a reason of its own; what a signal has ended has a code above 128.
    [ -n "$asked" ] && ((code > 128)) || exit "$code"
    outside=$(ended_from_outside)
    why="the build was stopped by $asked"
    if [[ -n $outside && $outside != requeued && $outside != *TimeLimit* ]]; then
        say "$why: the job was ended from outside ($outside); sbatch again to go on"
    elif [ "$outside" != requeued ] && [ -z "$(LC_ALL=C comm -13 <(echo "$before") <(finished_in "$out"))" ]; then
        say "$why, and this life of the job has finished nothing, nor would another one: give it more time (sbatch --time)"
    elif [[ $outside == *TimeLimit* ]]; then # too late for requeueing
        submit_instead "$why" "$@" "${share[@]}"
    else
        # In a shell of its own, as it exits by 0: a job that waits for this one by afterok must not take the build for done.
        (go_on "$why" "$outside" "$@" "${share[@]}")
    fi
    exit "$code"
}
