# shellcheck shell=bash
# What the batch scripts share.
#
# Variables a user may export before sbatch:
#   AUDIO_TRAIN_HOME    the project's folder, when sbatch is called from another one
#   AUDIO_TRAIN_ENV     a file to source on the node instead of .venv: module load ..., conda activate ...
#   AUDIO_TRAIN_PROCS   training processes a node; otherwise one a GPU, or one where there is none
#   AUDIO_TRAIN_LAUNCH  more flags for `accelerate launch`: "--mixed_precision bf16"

set -u
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

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
    command -v accelerate > /dev/null ||
        die "no Python environment: make $home/.venv, or let AUDIO_TRAIN_ENV name a file that loads one"
    # The job's folder stays where sbatch was called, as the user's relative paths begin there.
    export PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONUNBUFFERED=1 # the log shows a line when it is written
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

# How many training processes each node runs.
procs_per_node() {
    local procs=${AUDIO_TRAIN_PROCS:-${SLURM_GPUS_ON_NODE:-1}}
    ((procs > 0)) || procs=1
    printf '%s\n' "$procs"
}

# This job as scontrol should know it: an array's last task has the array's own id as SLURM_JOB_ID,
# and requeueing that would run all its tasks again.
job_name() {
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        printf '%s_%s\n' "$SLURM_ARRAY_JOB_ID" "$SLURM_ARRAY_TASK_ID"
    else
        printf '%s\n' "$SLURM_JOB_ID"
    fi
}

# Runs one launcher on each node; ends with the worst of their exit codes.
launch() {
    local nodes=$SLURM_JOB_NUM_NODES procs more
    procs=$(procs_per_node)
    read -ra more <<< "${AUDIO_TRAIN_LAUNCH:-}"
    # Ports from the job's id, so that two jobs on one node do not meet.
    local flags=(--config_file "$home/accelerate_config.yaml"
        --num_machines "$nodes" --num_processes $((nodes * procs))
        --main_process_port $((20000 + SLURM_JOB_ID % 10000)))
    if ((nodes > 1)); then
        local names
        names=$(scontrol show hostnames "$SLURM_JOB_NODELIST") || return
        flags+=(--main_process_ip "${names%%$'\n'*}" --rdzv_backend static)
    fi
    # --wait instead of --kill-on-bad-exit: where one node ends by an error, the others have two minutes to say theirs
    # and to finish what they write. It ends nodes that hang after a crash.
    # shellcheck disable=SC2016 # SLURM_NODEID is each node's own
    exec srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        --kill-on-bad-exit=0 --wait=120 \
        bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' launch \
        "${flags[@]}" "${more[@]}" -m train "$@"
}

# Asks the program to save and stop. A folder that is not yet a run must stay empty, or the program refuses it.
ask_to_stop() {
    if [ -e "$run_dir/run.json" ]; then touch "$run_dir/STOP"; fi
}

# train_job FAMILY ARGUMENTS...: trains until the run is finished, requeueing this job where time ran out.
train_job() {
    local launcher code finished_before='' asked=''
    run_dir=$(run_dir_of "$@")
    [ -n "$run_dir" ] || die "--run-dir is missing: sbatch slurm/train_$1.sh --data OUT_DIR --run-dir RUN_DIR [flags]"
    trap 'asked=USR2; ask_to_stop' USR2
    trap 'asked=TERM; ask_to_stop' TERM
    load_environment
    # An attempt that fails early leaves these as they were; then they say nothing about it.
    rm -f "$run_dir/STOPPED"
    [ ! -e "$run_dir/DONE" ] || finished_before=yes

    # bash runs traps between commands only, but a signal does end `wait`.
    launch "$@" &
    launcher=$!
    while kill -0 "$launcher" 2> /dev/null; do
        # Again and again, as the program begins by removing an old STOP, which may have been ours.
        [ -z "$asked" ] || ask_to_stop
        sleep 2 > /dev/null 2>&1 &
        wait -n "$launcher" $!
    done
    wait "$launcher"
    code=$?
    trap '' USR2 TERM # requeueing sends TERM, also to scontrol
    [ -z "$asked" ] || say "$asked came: the program was asked to save and stop"

    if [ -e "$run_dir/DONE" ] && [ -z "$finished_before" ]; then
        exit 0
    elif [ -e "$run_dir/STOPPED" ]; then
        if [ -z "$asked" ] && [[ $(< "$run_dir/STOPPED") == *': STOP' ]]; then
            say "saved; somebody touched $run_dir/STOP, so the job ends here; sbatch with the same arguments goes on"
            exit 0
        fi
        requeue
    elif ((code)); then
        say "failed with exit code $code; the reason stands above, before what the launcher says"
    fi
    exit "$code"
}

# Puts this job back into the queue: the run is saved but not finished.
requeue() {
    local job state
    job=$(job_name)
    state=$(scontrol --oneliner show job "$job")
    if [[ $state == *JobState=* && $state != *"JobState=RUNNING "* ]]; then
        # Ended by scancel or at its time limit, or in the queue already.
        say "saved; job $job was ended from outside and is not requeued"
        exit 0
    fi
    say "saved; requeueing job $job"
    scontrol requeue "$job" ||
        die "job $job could not be requeued; sbatch with the same arguments goes on from the last step"
    exit 0
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

# shard_job AUDIO_DIR OUT_DIR [flags]: builds shards with all CPUs of the task; in an array, this task's share of them.
# The task that finishes last merges: no job has to wait for the others.
shard_job() {
    local share=()
    load_environment
    if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
        share=(--task "$(array_share)") || exit
    fi
    exec python -m shards build --workers "${SLURM_CPUS_PER_TASK:-1}" "${share[@]}" "$@"
}
