#!/usr/bin/env bash
# Every benchmark, one after the other, within nine minutes on a machine with one GPU; all tables last.
#
#   bash benchmarks/gpu_all.sh [FOLDER]
#
# FOLDER (else $OUT, else build/benchmarks) gets a table and a log of each part, and all tables together as tables.md.
# A part that fails or takes longer than it may leaves the others alone; the exit code is then 1 and the last line names
# it. Nothing is fetched. Read from the environment:
#
#   PYTHON    the interpreter, with torch and torchvision for the machine's GPU (python3)
#   WHEELS    a folder of wheels of what that interpreter lacks; they are put into a folder of their own, it stays as it is
#   SPLIT     a folder with SYSU-MM01's rand_perm_cam.mat and test_id.mat; without one a split of that size is drawn
#   SCRATCH   where 8 GB may be written for a while ($TMPDIR or /tmp)
#   PARTS     which of them: input step epoch epoch-gpu memory retrieval (all)
#   SMOKE=1   only shows that everything runs, in seconds on a CPU; the figures mean nothing
set -uo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

folder=${1:-${OUT:-build/benchmarks}}
[[ $folder == /* || $# -eq 0 ]] || folder=$here/$folder
mkdir -p "$folder" && scratch=$(mktemp -d -p "${SCRATCH:-${TMPDIR:-/tmp}}") || exit 2
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

python=$(command -v "${PYTHON:-python3}") || { echo "error: ${PYTHON:-python3}: no such interpreter; set PYTHON" >&2; exit 2; }
export PYTHONUNBUFFERED=1 # what a part printed before its time was up is kept
if [[ -n ${WHEELS:-} ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$scratch/site" "$WHEELS"/*.whl || exit 2
    export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi
needed=(ignite numba numpy PIL scipy tensorboard torch torchvision tqdm yacs yaml)
missing=$("$python" -c 'import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if not u.find_spec(n)))' "${needed[@]}")
if [[ -n $missing ]]; then
    echo "error: $python lacks $missing; put their wheels into a folder and set WHEELS to it" >&2
    exit 2
fi

chosen=" ${PARTS:-input step epoch epoch-gpu memory retrieval} "
parts=()
failed=()

# part NAME SECONDS MODULE [ARGUMENT ...]
part() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    [[ $chosen == *" $name "* ]] || return
    parts+=("$name")
    timeout --signal=INT --kill-after=10 "$limit" "$python" -m "$@" >"$folder/$name.md" 2>"$folder/$name.log"
    status=$?
    case $status in
        0) ;;
        124 | 137) failed+=("$name (longer than $limit s)") ;;
        *) failed+=("$name (exit code $status)") ;;
    esac
    echo "$name: exit code $status, $((SECONDS - start)) s"
}

split=${SPLIT:-$scratch/split/exp}
if [[ ${SMOKE:-0} == 1 ]]; then
    export OMP_NUM_THREADS=1
    small=(backbone resnet18 image_size "(64, 32)" mda_layers "[0, 0, 1, 0]" num_workers 0)
    people=(--test-ids 2 --images 2)
    input=(--pictures 4 --size 64 32 --batch 4 --rounds 1 --device cpu)
    step=(--device cpu --backbone resnet34 --batch 8 --size 64 32 --runs 1)
    epoch=(--device cpu --pictures 800 --batches 2 p_size 2 k_size 4 "${small[@]}")
    memory=(--batches 8 --device cpu "${small[@]}")
    retrieval=(--parts growth --growth 1 --no-plain --width 16 --runs 1)
else
    people=(--test-ids 96 --images 20)
    input=()
    step=(--batch 128 --runs 10 --compile)
    epoch=()
    memory=()
    retrieval=(--parts growth --growth 5 20 --runs 1)
fi

part input 45 benchmarks.input "${input[@]}"
part step 120 benchmarks.step "${step[@]}"
part epoch 110 benchmarks.epoch --folder "$scratch/epoch" "${epoch[@]}"
part epoch-gpu 45 benchmarks.epoch --folder "$scratch/epoch" "${epoch[@]}" cache gpu
part memory 60 benchmarks.memory "${memory[@]}"
if [[ -z ${SPLIT:-} && $chosen == *" retrieval "* ]]; then
    chosen+="split "
    part split 30 tools.make_synthetic "$scratch/split" --train-ids 1 --val-ids 1 "${people[@]}" --size 32 16
fi
part retrieval 120 benchmarks.retrieval "$split" "${retrieval[@]}"

for name in "${parts[@]}"; do
    printf '\n## %s\n\n' "$name"
    cat "$folder/$name.md"
    if [[ " ${failed[*]} " == *" $name ("* ]]; then
        printf '\n%s: the end of its log\n\n' "$name"
        tail -n 5 "$folder/$name.log"
    fi
done | tee "$folder/tables.md"
if ((${#failed[@]})); then
    printf '\nfailed:'
    printf ' %s;' "${failed[@]}"
    echo
    exit 1
fi
printf '\nall parts passed in %s s; their tables are in %s\n' "$SECONDS" "$folder"
