#!/usr/bin/env bash
# Make the meta-training database of a method.
USAGE='usage: bash script/run_collect.sh [GPU] [METHOD] [flags]

Makes the meta-training database. dass: for each task a teacher, students distilled from it, and their embeddings;
metad2a: tasks of some classes of the source sets, and labelled cells on each, or with --space mobilenetv3 networks.

  GPU     cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  METHOD  dass (default) or metad2a
  flags   all that begins with --, or stands behind a --, goes to the step: python -m METHOD collect --help lists them.
          The preset is configs/METHOD/cpu.yaml; --config configs/METHOD/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
take_method collect
no_more_words
find_python
run_step collect ${FLAGS[@]+"${FLAGS[@]}"}
