#!/usr/bin/env bash
# Evaluate a run, or a checkpoint, on this machine.
#
#   scripts/eval.sh GPUS [--] [finetune.py options]
#   scripts/eval.sh cpu --conf conf/flickrstyle_small.json --control wrong-style | jq .CIDEr
#
# GPUS is one GPU, or cpu. The tables go to stderr and work_dir/eval.log; the last line of stdout is the scores as JSON.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh" "$@"
shift
if [ "${1:-}" = -- ]; then shift; fi
"$python" finetune.py eval "$@" 2> >(tee -i -a work_dir/eval.log >&2) | tail -n 1
