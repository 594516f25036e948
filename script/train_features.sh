#!/usr/bin/env bash
# Train the compact feature network that comes with the repository.
USAGE='usage: bash script/train_features.sh [GPU] [flags]

Trains the small network that describes images of 32 x 32 pixels: from the features of an ImageNet SqueezeNet and the
labels of the packed sets. python -m download.features --name squeezenet1_0 brings the teacher.

  GPU    cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  flags  all that begins with --, or stands behind a --, goes to the step: python -m common.features train-compact --help
         lists them'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
no_more_words
find_python
set -- train-compact --gpu "$GPU" ${FLAGS[@]+"${FLAGS[@]}"}
say "${CUDA_VISIBLE_DEVICES+CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES }$PY -m common.features $*"
"$PY" -m common.features "$@"
