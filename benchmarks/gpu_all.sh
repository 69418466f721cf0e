#!/usr/bin/env bash
# The tests that need a GPU, then every benchmark, the most important figures first: 330 seconds at most on a machine with
# one GPU. The table of each part is printed as soon as it is there.
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
#   SCRATCH   where 4 GB may be written for a while ($TMPDIR or /tmp)
#   PARTS     which of them (tests step retrieval input epoch memory); beyond the 330 seconds there are
#             ladder (every improvement of the step, compiled too: 300 s) and growth (large galleries: 120 s)
#   SMOKE=1   only shows that everything runs, in a minute on a CPU; the figures mean nothing
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

chosen=" ${PARTS:-tests step retrieval input epoch memory} "
failed=()

# part NAME SECONDS MODULE [ARGUMENT ...]
part() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    [[ $chosen == *" $name "* ]] || return
    [[ ${SMOKE:-0} == 1 ]] && limit=600 # on a machine that does other work too
    timeout --signal=INT --kill-after=10 "$limit" "$python" -m "$@" >"$folder/$name.md" 2>"$folder/$name.log"
    status=$?
    case $status in
        0) ;;
        124 | 137) failed+=("$name (longer than $limit s)") ;;
        *) failed+=("$name (exit code $status)") ;;
    esac
    {
        printf '## %s\n\n' "$name"
        cat "$folder/$name.md"
        ((status == 0)) || { printf '\nthe end of its log:\n\n' && tail -n 20 "$folder/$name.log"; }
        printf '\n%s: exit code %s, %s s\n\n' "$name" "$status" "$((SECONDS - start))"
    } | tee -a "$folder/tables.md"
}

split=${SPLIT:-$scratch/split/exp}
tests=(-q -p no:cacheprovider -k "gpu and not simulated" tests/test_on_gpu.py tests/test_prefetch.py tests/test_cache.py)
tests+=(tests/test_retrieval_memory.py)
if [[ ${SMOKE:-0} == 1 ]]; then
    export OMP_NUM_THREADS=1
    small=(backbone resnet18 image_size "(64, 32)" mda_layers "[0, 0, 1, 0]" num_workers 0)
    people=(--test-ids 2 --images 2)
    input=(--images 4 --size 64 32 --batch 4 --rounds 1 --device cpu)
    step=(--device cpu --batch 8 --runs 1 backbone resnet34 image_size "(64, 32)")
    epoch=(--device cpu --images 800 --batches 2 p_size 2 k_size 4 "${small[@]}")
    memory=(--batches 8 --device cpu "${small[@]}")
    retrieval=(--width 16 --identities 3 --runs 1)
    growth=(--growth 1)
else
    people=(--test-ids 96 --images 20)
    input=(--images 256 --rounds 2)
    step=(--batch 128 --runs 10)
    epoch=(--images 8000 --batches 40)
    memory=(--batches 128)
    retrieval=(--runs 1)
    growth=(--growth 5 20)
fi

rm -f "$folder/tables.md"
part tests 75 pytest "${tests[@]}"
part step 55 benchmarks.step "${step[@]}" --quick
if [[ -z ${SPLIT:-} && $chosen == *" retrieval "* ]]; then
    chosen+="split "
    part split 25 tools.make_synthetic "$scratch/split" --train-ids 1 --val-ids 1 "${people[@]}" --size 32 16
fi
part retrieval 55 benchmarks.retrieval "$split" --parts together "${retrieval[@]}"
part input 25 benchmarks.input "${input[@]}"
part epoch 45 benchmarks.epoch --folder "$scratch/epoch" "${epoch[@]}"
part memory 50 benchmarks.memory "${memory[@]}"
part ladder 300 benchmarks.step "${step[@]}" --compile
part growth 120 benchmarks.retrieval "$split" --parts growth --no-plain "${retrieval[@]}" "${growth[@]}"

if ((${#failed[@]})); then
    printf '\nfailed:'
    printf ' %s;' "${failed[@]}"
    echo
    exit 1
fi
printf '\nall parts passed in %s s; their tables are in %s\n' "$SECONDS" "$folder"
