#!/usr/bin/env bash
# What CI cannot check, on a machine with CUDA, in under 9 minutes: parity in float32, bf16 and fp16, both steps plain,
# as DDP of one and as FSDP of one, resumption, generation, waits and memory. Prints a table.
#
#   benchmarks/gpu.sh [--device cuda|cpu] [--only NAME ...] [--seconds 500]
#
# Python 3.12, torch 2.11, transformers 5, tokenizers, safetensors, numpy, pillow and tqdm are enough; $PYTHON names the
# interpreter (default: that of .venv, else python3). --device cpu tries the script itself, with a nano model.
# Exit status: 0 all passed, 1 a check failed, 2 there is nothing to run on.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  -h | --help)
    sed -n '/^[^#]/q; s/^# \{0,1\}//; 2,$p' "$0"
    exit 0
    ;;
esac
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
needed='torch transformers safetensors tokenizers numpy PIL tqdm'
if ! "$python" -c "from importlib.util import find_spec as f; assert all(map(f, '$needed'.split()))" 2>/dev/null; then
  echo "$0: $python has not all of $needed: install them, or set PYTHON" >&2
  exit 2
fi
# A check that hangs must not outlast the machine's time.
exec timeout --kill-after=5 530 "$python" -m benchmarks.gpu "$@"
