#!/usr/bin/env bash
# Train step 2 (SCST) on this machine from the best run of step 1, then evaluate it and append its scores to
# work_dir/results.jsonl.
#
#   scripts/train_step2_standalone.sh GPUS [finetune.py options]
#
# GPUS is a list such as 0,2,3, or cpu. Without --conf, the evaluated run of step 1 under work_dir (or $WORK_DIR) that
# has the highest CIDEr is taken, with the recipe in conf/ that goes on from it. Options go to both commands; every
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
runs=${WORK_DIR:-work_dir}
fail() {
  echo "$0: $1" >&2
  exit 2
}

case " $* " in
  *" --conf "*) ;;
  *)
    best=$(find "$runs" -name metrics.json | while read -r metrics; do
      run=$(dirname "$metrics")
      jq -r --arg run "$run" --slurpfile conf "$run/conf.json" \
        'select($conf[0].train.objective == "cross-entropy") | [.CIDEr, $run] | @tsv' "$metrics"
    done | sort -gr | sed -n '1s/.*\t//p')
    [ -n "$best" ] || fail "no evaluated run of step 1 under $runs: train and evaluate one, or name --conf"
    conf=$(jq -r --arg from "$best/checkpoints/best" 'select(.model.checkpoint == $from) | input_filename' conf/*.json)
    [ -n "$conf" ] || fail "no recipe in conf/ has model.checkpoint $best/checkpoints/best: name one with --conf"
    echo "step 2 from $best by $conf" >&2
    set -- --conf "$conf" "$@"
    ;;
esac

if [ "$gpus" = cpu ]; then
  export CUDA_VISIBLE_DEVICES=""
  launch=("$python")
else
  export CUDA_VISIBLE_DEVICES=$gpus
  # --standalone finds a free port by itself.
  launch=("$python" -m torch.distributed.run --standalone --nproc_per_node "$(awk -F, '{print NF}' <<<"$gpus")")
fi
"${launch[@]}" finetune.py train "$@" >&2
"$python" finetune.py eval "$@" | tail -n 1 | tee -a "$runs/results.jsonl"
