#!/usr/bin/env bash
# Train step 1 (cross-entropy) on this machine, then evaluate the best checkpoint.
#
#   scripts/train_step1_standalone.sh GPUS [finetune.py options]
#
# GPUS is a list such as 0,2,3, or cpu. Options, such as --conf FILE or --set train.lr=2e-5, go to both commands; every
# default is the configuration's. The last line of stdout is the scores as one line of JSON.
set -euo pipefail
case "${1:-}" in
  "" | -h | --help)
    sed -n 's/^# \{0,1\}//p' "$0" | sed '/^!/d'
    exit 0
    ;;
esac
gpus=$1
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

if [ "$gpus" = cpu ]; then
  CUDA_VISIBLE_DEVICES="" "$python" finetune.py train "$@" >&2
  CUDA_VISIBLE_DEVICES="" "$python" finetune.py eval "$@"
else
  export CUDA_VISIBLE_DEVICES=$gpus
  count=$(awk -F, '{print NF}' <<<"$gpus")
  # --standalone finds a free port by itself.
  "$python" -m torch.distributed.run --standalone --nproc_per_node "$count" finetune.py train "$@" >&2
  "$python" finetune.py eval "$@"
fi
