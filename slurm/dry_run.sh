# shellcheck shell=bash
# --dry-run: prints what would be submitted and what the job would run, and checks the program's arguments.

# option LONG SHORT FLAGS...: prints the value of a flag of sbatch in any of its spellings; the last one counts.
option() {
    local long=$1 short=$2 value=
    shift 2
    while (($#)); do
        case $1 in
            "$long="*) value=${1#*=} ;;
            "$long" | "$short") value=${2:-} ;;
            "$short"?*) [ "$short" = none ] || value=${1#"$short"} ;;
        esac
        shift
    done
    printf '%s\n' "$value"
}

# quoted WORDS...: prints them quoted for the shell.
quoted() { printf '%q ' "$@" && echo; }

# Checks the arguments of a command that has no flag for that.
parse_only='import sys
from train.cli.parser import parse
from train.errors import TrainError
try:
    parse(sys.argv[1:])
except TrainError as error:
    sys.exit(f"error: {error}")'

# dry_run SBATCH_FLAGS FAMILY ARGUMENTS...; the family `build` stands for a build of shards, `encode` for an encoding.
# shellcheck disable=SC2034,SC2154,SC2317 # lib.sh reads these variables, sets `python` and calls these functions
dry_run() {
    local flags words given arguments command share resources check home_given=()
    words_of --dry-run "$1"
    given=("${words[@]}")
    shift
    # Flags of the command line come last, as they override those of the script.
    mapfile -t flags < <(sed -n 's/^#SBATCH *//p' "$0")
    flags+=("${given[@]}")
    SLURM_JOB_NUM_NODES=$(option --nodes -N "${flags[@]}")
    SLURM_CPUS_PER_TASK=$(option --cpus-per-task -c "${flags[@]}")
    SLURM_GPUS_ON_NODE=$(option --gpus-per-node none "${flags[@]}")
    SLURM_GPUS_ON_NODE=${SLURM_GPUS_ON_NODE##*:}
    SLURM_JOB_NODELIST=
    # Stand-ins for what only a job knows.
    scontrol() { echo FIRST_NODE; }
    rendezvous_port() { echo PORT; }
    array_share() { echo TASK/TASKS; }
    [ -z "$(option --array -a "${flags[@]}")" ] || SLURM_ARRAY_TASK_ID=TASK
    # `check` makes the program exit before it writes anything.
    if [ "$1" = build ]; then
        make_build "${@:2}"
        resources="$SLURM_CPUS_PER_TASK worker(s)"
        check=(-m shards build "${@:2}" --dry_run)
    elif [ "$1" = encode ]; then
        make_encoding "${@:2}"
        make_command encode "${arguments[@]}"
        resources="$(procs_per_node) process(es) on each of $SLURM_JOB_NUM_NODES node(s)"
        check=(-c "$parse_only" encode "${arguments[@]}")
    else
        make_arguments "$@"
        make_command "${arguments[@]}"
        resources="$(procs_per_node) process(es) on each of $SLURM_JOB_NUM_NODES node(s)"
        check=(-m train "${arguments[@]}" --print_config)
    fi
    printf 'would submit:\n  '
    [ -r slurm/lib.sh ] || home_given=("AUDIO_TRAIN_HOME=$home")
    quoted "${home_given[@]}" sbatch "${given[@]}" "$0" "${@:2}"
    printf 'with these flags from the script, unless overridden:\n'
    sed -n 's/^#SBATCH */  /p' "$0"
    printf 'the job would run, with %s:\n  ' "$resources"
    quoted "${command[@]}"
    [ -z "${srun_flags[*]}" ] || return 0 # only a job can start this container
    if ! has_python; then
        echo "the arguments were not checked: no Python environment here (make $home/.venv, or set AUDIO_TRAIN_ENV)"
        return 0
    fi
    "${python[@]}" "${check[@]}" > /dev/null || exit
    echo "the program accepts these arguments"
}
