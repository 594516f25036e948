#!/usr/bin/env bash
# Rank students for unseen datasets.
USAGE='usage: bash script/run_search.sh [GPU] [METHOD] [DATASET ...] [flags]

Ranks students of each dataset with a meta-trained predictor, without training any; a missing teacher is trained first.

  GPU      cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  METHOD   dass (default)
  DATASET  names (digits, cub, ...) or folders of class folders; none: those of cub, dtd, quickdraw and stanford_cars
           that are in the data root (--data-root, NAS_DATA or ./dataset), or digits where none is
  flags    all that begins with --, or stands behind a --, goes to the step: python -m dass search --help lists them.
           The preset is configs/dass/cpu.yaml; --config configs/dass/paper.yaml takes the published settings, and
           needs a predictor that was meta-trained with them (--predictor FILE)'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
take_method search
find_python
if ((${#WORDS[@]} == 0)); then
    present=$(lookup present)
    for dataset in ${present:-digits}; do WORDS+=("$dataset"); done
    say "datasets: ${WORDS[*]}"
fi
if ((${#WORDS[@]} > 1)) && has_flag out; then
    misuse "--out is the folder of one search, and these are ${#WORDS[@]}: ${WORDS[*]}"
fi
for dataset in "${WORDS[@]}"; do
    run_step search --data "$dataset" ${FLAGS[@]+"${FLAGS[@]}"}
done
