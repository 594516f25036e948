#!/usr/bin/env bash
# From a fresh clone to a small network of one's own.
USAGE='usage: bash script/quickstart.sh [GPU] [DATASET]

Installs into .venv what is missing (not where the variable PYTHON names a Python that has the packages), then trains
a teacher, ranks students with the shipped predictor and distils the best one. Done again it goes on where it stopped.

  GPU      cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  DATASET  digits (default; nothing to download), another name, or a folder of class folders'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
DATASET=digits
if next_word; then DATASET=$WORD; fi
no_more_words
((${#FLAGS[@]} == 0)) || misuse "no flags here, and there is '${FLAGS[0]}': the scripts of the steps take them"
METHOD=dass
make_environment
find_python
steps=(train-teacher search distill)
for step in "${steps[@]}"; do
    run_step "$step" --data "$DATASET"
done
printf '\nreports, for a browser:\n'
for step in "${steps[@]}"; do
    folder=$(lookup folder "$METHOD" "$step" "$DATASET")
    printf '  %-14s %s\n' "$step" "$PWD/$folder/report.html"
done
