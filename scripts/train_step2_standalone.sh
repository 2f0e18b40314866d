#!/usr/bin/env bash
# Train step 2 (SCST) on this machine from the best run of step 1, then evaluate it.
#
#   scripts/train_step2_standalone.sh GPUS [--] [finetune.py options]
#
# GPUS is a list such as 0,2,3, or cpu. Without --conf, the evaluated run of step 1 under work_dir (or $WORK_DIR) that
# has the highest CIDEr and a checkpoint is taken, with the recipe in conf/ that goes on from it; where there is none,
# with the run's own configuration, a tenth of its learning rate and no dropout, in the folder RUN_scst. Options go to
# training and evaluation, and override. A run that was interrupted goes on. The output is kept in train.log and
# eval.log of the run, the scores also in results.jsonl beside its folder, and are the last line of stdout.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh" "$@"
shift
if [ "${1:-}" = -- ]; then shift; fi

best_of_step1() {
  local run
  "$python" finetune.py results ${WORK_DIR:+"$WORK_DIR"} --jq '
    map(select(.conf.train.objective == "cross-entropy" and .CIDEr != null)) | sort_by(-.CIDEr) | .[].run' |
    while read -r run; do
      if [ -d "$run/checkpoints/best" ]; then echo "$run"; fi
    done
}

recipe_after() {
  local conf
  for conf in conf/*_scst.json; do
    if [ "$("$python" finetune.py --conf "$conf" conf --jq .model.checkpoint)" = "$1/checkpoints/best" ]; then
      echo "$conf"
    fi
  done
}

if [[ " $* " != *" --conf"[\ =]* ]]; then
  best=$(best_of_step1 | sed -n 1p)
  [ -n "$best" ] || fail "no evaluated run of step 1 under ${WORK_DIR:-work_dir}: train one, or name --conf"
  conf=$(recipe_after "$best" | sed -n 1p)
  if [ -z "$conf" ]; then
    conf=${best}_scst/step2.json
    mkdir -p "$(dirname "$conf")"
    "$python" finetune.py results "$best" --jq '.[] | .conf * {
      work_dir: (.run + "_scst"),
      model: {checkpoint: (.run + "/checkpoints/best"), preset: null, vocabulary: null, resnet_weights: null},
      train: {objective: "scst", lr: (.conf.train.lr / 10), lr_end: (.conf.train.lr_end / 10), dropout: 0, drop_path: 0}
    }' >"$conf"
  fi
  echo "step 2 from $best by $conf" >&2
  set -- --conf "$conf" "$@"
fi
train_and_evaluate "$@"
