#!/usr/bin/env bash
# Train and evaluate every run of a sweep, one on each GPU at a time, and keep the best model.
#
#   scripts/sweep.sh GPUS FILE [--] [finetune.py options]
#   scripts/sweep.sh 0,1 conf/sweeps/demo.json --conf train_conf.json
#
# GPUS is a list such as 0,2,3, or cpu for one run after the other. FILE says what varies, over the configuration that
# the options name. The same command again goes on where the sweep stopped. Each run's output is in train.log and
# eval.log of its folder; results.jsonl, leaderboard.csv and best.json are in work_dir/sweeps/NAME.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh" "$@"
gpus=$1 file=${2:-}
[ -f "$file" ] || fail "name the sweep's file after the GPUS, relative to the root of the checkout"
shift 2
if [ "${1:-}" = -- ]; then shift; fi
# The sweep gives each run a GPU of its own.
unset CUDA_VISIBLE_DEVICES
exec "$python" finetune.py sweep --sweep "$file" --gpus "$gpus" "$@"
