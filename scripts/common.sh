#!/usr/bin/env bash
# What the other scripts share, sourced by each with its own arguments: . scripts/common.sh GPUS [options]
#
# For --help, or without arguments, it prints the header of the script and ends it. Then it goes to the root of the
# checkout, reads GPUS (a list such as 0,2,3, or cpu), and leaves
#   python    $PYTHON, else that of .venv, else python3
#   launch    the command in front of finetune.py: torchrun over the GPUS, where there are several
# and functions. CUDA_VISIBLE_DEVICES is set for everything that follows.
set -euo pipefail
case "${1:-}" in
  "" | -h | --help)
    sed -n '/^[^#]/q; s/^# \{0,1\}//; 2,$p' "$0"
    exit 0
    ;;
esac
fail() {
  echo "$0: $1" >&2
  exit 2
}
[[ $1 =~ ^(cpu|[0-9]+(,[0-9]+)*)$ ]] || fail "GPUS is a list such as 0,2,3, or cpu, and not $1"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
launch=("$python")
export CUDA_VISIBLE_DEVICES=${1#cpu}
if [[ $1 == *,* ]]; then
  # Port 0 is a free one, whatever else trains on this machine.
  launch+=(-m torch.distributed.run --nnodes 1 --nproc_per_node "$(tr -dc , <<<"$1," | wc -c)")
  launch+=(--rdzv-backend c10d --rdzv-endpoint localhost:0)
fi

# Train with these options, or go on where the run stopped, and evaluate. The output is shown on stderr and kept in
# train.log and eval.log of the run; the scores go to stdout and to results.jsonl beside the run's folder.
train_and_evaluate() {
  local run resume=()
  run=$("$python" finetune.py conf --jq .work_dir "$@")
  mkdir -p "$run"
  if [ -e "$run/checkpoints/last" ]; then resume=(--resume); fi
  # tee ignores Ctrl-C (-i): training saves a checkpoint then, and says so.
  "${launch[@]}" finetune.py train "${resume[@]}" "$@" 2>&1 | tee -i -a "$run/train.log" >&2
  "$python" finetune.py eval "$@" 2> >(tee -i -a "$run/eval.log" >&2) | tail -n 1 |
    tee -i -a "$(dirname "$run")/results.jsonl"
}
