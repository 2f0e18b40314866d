#!/usr/bin/env bash
# TRAR with the flags of the public code's run.py, for people who come from there.
#
#   scripts/trar.sh --RUN train --MODEL trar --DATASET vqa --GPU 0,1 --SPLIT train+val --VERSION mine
#   scripts/trar.sh --RUN val --MODEL trar --DATASET vqa --CKPT_PATH epoch13.pkl
#
# The flags are told as a command of finetune.py, which is shown and run; docs/trar_flags.md has the table, and the keys
# for what the public code sets in its YAML files. With --GPU 0,1 there is a process on each GPU; without --GPU the
# CPU computes. Results are in work_dir/trar/VERSION.
set -euo pipefail
case "${1:-}" in
  "" | -h | --help)
    # shellcheck source=scripts/common.sh
    . "$(dirname "$0")/common.sh" --help
    ;;
esac
cd "$(dirname "$0")/.."
told=$("${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}" -m conf.trar_flags "$@")
mapfile -t arguments <<<"$told"
# shellcheck source=scripts/common.sh
. scripts/common.sh "${arguments[0]}"
echo "finetune.py ${arguments[*]:1}" >&2
exec "${launch[@]}" finetune.py "${arguments[@]:1}"
