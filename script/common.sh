# shellcheck shell=bash
# What the scripts in this folder share. They set USAGE, whose first line is the usage line, and source this file.
set -euo pipefail

NAME=$(basename "$0" .sh)
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
OLDEST_PYTHON=3.11

say() { printf '%s: %s\n' "$NAME" "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

misuse() {
    say "error: $*"
    printf '%s\n' "${USAGE%%$'\n'*}" >&2
    exit 2
}

# ---- arguments ------------------------------------------------------------------------------------------------------

# WORDS: what stands before the first flag; FLAGS: that flag and all behind it, a leading `--` left out.
split_arguments() {
    WORDS=()
    FLAGS=()
    while (($#)); do
        case $1 in
            -h | --help)
                printf '%s\n' "$USAGE"
                exit 0
                ;;
            --)
                shift
                FLAGS=("$@")
                return
                ;;
            -*)
                FLAGS=("$@")
                return
                ;;
            *) WORDS+=("$1") ;;
        esac
        shift
    done
}

# Takes the first of WORDS into WORD; false where there is none.
next_word() {
    ((${#WORDS[@]})) || return 1
    WORD=${WORDS[0]}
    WORDS=("${WORDS[@]:1}")
}

no_more_words() {
    ((${#WORDS[@]} == 0)) || misuse "unexpected '${WORDS[0]}'"
}

is_gpu() { [[ $1 =~ ^(cpu|auto|[0-9]+)$ ]]; }

# GPU: what the steps get as --gpu. A numbered GPU is the only one they see, and so their number 0.
choose_gpu() {
    GPU=$1
    if [[ $GPU =~ ^[0-9]+$ ]]; then
        export CUDA_VISIBLE_DEVICES=$GPU
        GPU=0
    fi
}

# `[GPU]`: the first GPU, and the CPU where there is none, unless the first of WORDS says another.
take_optional_gpu() {
    if ((${#WORDS[@]})) && is_gpu "${WORDS[0]}"; then
        next_word
        choose_gpu "$WORD"
    else
        choose_gpu auto
    fi
}

take_gpu() {
    next_word || misuse "which GPU? Give cpu, auto or the number of a GPU"
    is_gpu "$WORD" || misuse "GPU is '$WORD': give cpu, auto or the number of a GPU"
    choose_gpu "$WORD"
}

need_dataset() {
    next_word || misuse "which dataset? Give a name such as digits or cub, or a folder of class folders"
}

# `[METHOD]`: dass unless the next of WORDS says another of those that have one of the steps (given as names of modules).
take_method() {
    local known=() folder step
    for folder in "$ROOT"/*/; do
        folder=${folder%/}
        for step in "$@"; do
            if [[ -f $folder/__main__.py && -f $folder/$step.py ]]; then
                known+=("${folder##*/}")
                break
            fi
        done
    done
    METHOD=dass
    if next_word; then METHOD=$WORD; fi
    [[ " ${known[*]} " == *" $METHOD "* ]] || misuse "unknown method '$METHOD': known are ${known[*]}"
}

# Whether FLAGS hold --NAME or --NAME=VALUE.
has_flag() {
    local flag
    for flag in ${FLAGS[@]+"${FLAGS[@]}"}; do
        [[ ${flag//_/-} != "--$1" && ${flag//_/-} != "--$1="* ]] || return 0
    done
    return 1
}

# Of FLAGS, with their values, those that all steps on one dataset understand alike: into SHARED.
shared_flags() {
    local flag keep=
    SHARED=()
    for flag in ${FLAGS[@]+"${FLAGS[@]}"}; do
        case ${flag//_/-} in
            --config | --data-root | --seed | --threads | --resolution | --zoo) keep=yes ;;
            --config=* | --data-root=* | --seed=* | --threads=* | --resolution=* | --zoo=*) keep=yes ;;
            --debug | --deterministic | --space | --space=* | --space.* | --teacher.*) keep=yes ;;
            --*) keep= ;;
        esac
        if [[ $keep ]]; then SHARED+=("$flag"); fi
    done
}

# ---- Python ---------------------------------------------------------------------------------------------------------

# PY: $PYTHON, else .venv/bin/python, else python3, with the packages in it.
find_python() {
    local missing
    if [[ ${PYTHON:-} ]]; then
        PY=$PYTHON
        command -v "$PY" >/dev/null || fail "the variable PYTHON is '$PY', and there is no such command"
    elif [[ -x $ROOT/.venv/bin/python ]]; then
        PY=$ROOT/.venv/bin/python
    else
        PY=python3
    fi
    command -v "$PY" >/dev/null ||
        fail "there is neither $ROOT/.venv/bin/python nor $PY: bash script/quickstart.sh makes .venv once Python" \
            "$OLDEST_PYTHON or newer is installed"
    missing=$("$PY" -c 'import importlib.util as u
print(*[m for m in ("torch", "torchvision", "timm", "tyro", "safetensors", "yaml") if not u.find_spec(m)])')
    [[ -z $missing ]] || fail "$PY lacks $missing: run bash script/quickstart.sh, or pip install -e $ROOT in it"
    export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} # runs stay in the caller's folder
}

# BASE: a Python that can make .venv.
find_base_python() {
    local candidate seen=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        command -v "$candidate" >/dev/null || continue
        if "$candidate" -c "import sys; sys.exit(sys.version_info < (${OLDEST_PYTHON/./, }))" 2>/dev/null; then
            BASE=$candidate
            return
        fi
        seen+="${seen:+, }$("$candidate" --version 2>&1 || true)"
    done
    fail "Python $OLDEST_PYTHON or newer is missing (found: ${seen:-none}): install it, on Debian and Ubuntu with" \
        "sudo apt-get install python3 python3-venv"
}

# .venv with this repository and the extras given (such as dev) in it, unless $PYTHON says which Python to take.
make_environment() {
    local extras=${1:-} python=$ROOT/.venv/bin/python stamp=$ROOT/.venv/installed
    [[ -z ${PYTHON:-} ]] || return 0
    if [[ ! -x $python ]]; then
        find_base_python
        "$BASE" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$BASE cannot make virtual environments: the package python3-venv is missing, on Debian and Ubuntu" \
                "install it with sudo apt-get install python3-venv"
        say "making .venv with $("$BASE" --version)"
        "$BASE" -m venv "$ROOT/.venv" || fail "$BASE -m venv $ROOT/.venv failed"
    fi
    # Each set of extras leaves the pyproject.toml that it was installed from.
    if cmp -s "$ROOT/pyproject.toml" "$stamp-$extras"; then return; fi
    "$python" -m pip --version >/dev/null 2>&1 || fail ".venv has no pip: delete $ROOT/.venv and run this again"
    say "installing the packages into .venv (PyTorch is large: minutes the first time)"
    "$python" -m pip install -qq --disable-pip-version-check -e "$ROOT${extras:+[$extras]}" ||
        fail "pip could not install the packages; run this again when the reason above is gone"
    cp "$ROOT/pyproject.toml" "$stamp-$extras"
}

# ---- steps ----------------------------------------------------------------------------------------------------------

# The space that flags name, where it has presets and run folders of its own.
space_of() {
    case " $* " in
        *" --space mobilenetv3 "* | *" --space=mobilenetv3 "*) echo mobilenetv3 ;;
    esac
}

# One step of METHOD with the cpu preset (that of the space, where --space says one with presets of its own), unless the
# flags name another file.
run_step() {
    local step=$1 name=cpu preset
    shift
    if [[ $(space_of "$@") ]]; then name=$(space_of "$@")_cpu; fi
    preset=(--config "$ROOT/configs/$METHOD/$name.yaml")
    if has_flag config; then preset=(); fi
    set -- "$step" ${preset[@]+"${preset[@]}"} --gpu "$GPU" "$@"
    say "${CUDA_VISIBLE_DEVICES+CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES }$PY -m $METHOD $*"
    "$PY" -m "$METHOD" "$@"
}

# The supernet of dna on a dataset, with FLAGS; with our preset its teacher first where there is none.
train_supernet() {
    local data=$1 folder
    if ! has_flag config && ! has_flag teacher.file && ! has_flag teacher.model; then
        folder=$(lookup folder dna train-teacher "$data")
        if [[ ! -f $folder/result.json ]]; then
            say "no teacher of $data yet ($folder): training it first"
            shared_flags
            run_step train-teacher --data "$data" ${SHARED[@]+"${SHARED[@]}"}
        fi
    fi
    run_step meta-train --data "$data" ${FLAGS[@]+"${FLAGS[@]}"}
}

# The same before a step that needs it, with those flags of that step that all steps share.
need_supernet() {
    local folder
    folder=$(lookup folder dna meta-train "$1")
    if [[ ! -f $folder/result.json ]]; then
        say "no supernet of $1 yet ($folder): training it first"
        shared_flags
        local FLAGS=(${SHARED[@]+"${SHARED[@]}"})
        train_supernet "$1"
    fi
}

# What lookup.py knows of datasets, in the data root that FLAGS name.
lookup() {
    local flag root=() next=
    for flag in ${FLAGS[@]+"${FLAGS[@]}"}; do
        case $next${flag//_/-} in
            --data-root) next=value: ;;
            --data-root=*) root=(--data-root "${flag#*=}") ;;
            value:*) root=(--data-root "$flag") next= ;;
        esac
    done
    "$PY" "$ROOT/script/lookup.py" --program "$NAME" ${root[@]+"${root[@]}"} "$@"
}
