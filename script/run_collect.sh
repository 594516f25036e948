#!/usr/bin/env bash
# Make the meta-training database of dass.
USAGE='usage: bash script/run_collect.sh [GPU] [flags]

Makes the meta-training database: for each task a teacher, students distilled from it, and their embeddings.

  GPU    cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  flags  all that begins with --, or stands behind a --, goes to the step: python -m dass collect --help lists them.
         The preset is configs/dass/cpu.yaml; --config configs/dass/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
no_more_words
METHOD=dass
find_python
run_step collect ${FLAGS[@]+"${FLAGS[@]}"}
