#!/usr/bin/env bash
# Train step 1 (cross-entropy) on this machine, then evaluate the best checkpoint.
#
#   scripts/train_step1_standalone.sh GPUS [--] [finetune.py options]
#
# GPUS is a list such as 0,2,3, or cpu. Options, such as --conf FILE or --set train.lr=2e-5, go to training and to
# evaluation; every default is the configuration's. A run that was interrupted goes on. The output is kept in train.log
# and eval.log of the run, the scores also in results.jsonl beside its folder, and are the last line of stdout.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh" "$@"
shift
if [ "${1:-}" = -- ]; then shift; fi
train_and_evaluate "$@"
