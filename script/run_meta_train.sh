#!/usr/bin/env bash
# Meta-train a method's predictor.
USAGE='usage: bash script/run_meta_train.sh [GPU] [METHOD] [flags]

Meta-trains the predictor on the database that comes with the repository, or on another one (--database DIR).

  GPU     cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  METHOD  dass (default)
  flags   all that begins with --, or stands behind a --, goes to the step: python -m dass meta-train --help lists
          them. The preset is configs/dass/cpu.yaml; --config configs/dass/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
take_method meta_train
no_more_words
find_python
run_step meta-train ${FLAGS[@]+"${FLAGS[@]}"}
