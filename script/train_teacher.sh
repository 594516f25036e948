#!/usr/bin/env bash
# Train the teacher of a dataset for dass.
USAGE='usage: bash script/train_teacher.sh GPU DATASET [flags]

Trains the network that the students of a dataset learn from.

  GPU      cpu, auto (the first GPU, the CPU where there is none) or the number of a GPU
  DATASET  a name (digits, cub, tiny_imagenet/3, ...) or a folder of class folders
  flags    all that begins with --, or stands behind a --, goes to the step: python -m dass train-teacher --help lists
           them. The preset is configs/dass/cpu.yaml; --config configs/dass/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_gpu
need_dataset
DATASET=$WORD
no_more_words
METHOD=dass
find_python
run_step train-teacher --data "$DATASET" ${FLAGS[@]+"${FLAGS[@]}"}
