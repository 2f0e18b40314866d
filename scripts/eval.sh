#!/usr/bin/env bash
# Evaluate a checkpoint and print one score: scripts/eval.sh METRIC [finetune.py options]
#
#   scripts/eval.sh CIDEr --conf conf/flickrstyle_small.json --split test
#
# The table goes to stderr; stdout holds the number alone.
set -euo pipefail
case "${1:-}" in
  "" | -h | --help)
    sed -n 's/^# \{0,1\}//p' "$0" | sed '/^!/d'
    exit 0
    ;;
esac
metric=$1
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
"$python" finetune.py eval "$@" | tail -n 1 | jq --arg metric "$metric" '.[$metric]'
