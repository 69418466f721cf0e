#!/bin/sh
# Build the optional torchsort extension with the given Python; one line says why where that fails. Always exits 0.
# It compiles against the installed torch, hence --no-build-isolation. Its setup takes an nvcc in sight for a wish to
# build CUDA kernels, which fails where there is no GPU: there, folders that hold nvcc are left out of PATH.
python=${1:?usage: install_torchsort.sh PYTHON}
"$python" -c "import torchsort" 2>/dev/null && exit 0
log=$(mktemp)
if ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    clean=
    IFS=:
    for folder in $PATH; do
        [ -x "$folder/nvcc" ] || clean=${clean:+$clean:}$folder
    done
    unset IFS
    PATH=$clean
    unset CUDA_HOME CUDA_PATH
    export PATH
fi
if "$python" -m pip install --quiet setuptools wheel >"$log" 2>&1 &&
    "$python" -m pip install --quiet --no-build-isolation --no-deps torchsort >>"$log" 2>&1 &&
    "$python" -c "import torch, torchsort; torchsort.soft_rank(torch.rand(1, 4))" >>"$log" 2>&1; then
    echo "torchsort: installed (optional; soft_rank: torchsort uses it)"
else
    reason=$(grep -iE "error|not found" "$log" | grep -v "^ *File" | tail -n 1 | cut -c1-150)
    echo "torchsort: could not be built, the native soft rank is used (${reason:-see pip})"
fi
rm -f "$log"
exit 0
