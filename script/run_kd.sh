#!/usr/bin/env bash
# Train the network that the search chose.
USAGE='usage: bash script/run_kd.sh GPU DATASET [METHOD] [flags]

dass: distils the best student of the search on the dataset from its teacher; metad2a: trains the best cell, or with
--space mobilenetv3 fine-tunes the best network; mfkd: distils the network that was found; dna: trains it anew; tans:
fine-tunes the retrieved network, and distils it with --teacher timm:NAME@FILE. From several seeds. Searches first where
no search was done yet and no --arch (tans: --networks) is given.

  GPU      cpu, auto (the first GPU, the CPU where there is none) or the number of a GPU
  DATASET  a name (digits, cub, ...) or a folder of class folders
  METHOD   dass (default), dna, metad2a, mfkd or tans
  flags    all that begins with --, or stands behind a --, goes to the step, which is distill, train, retrain or
           finetune, whichever the method has: python -m METHOD STEP --help lists them. The preset is
           configs/METHOD/cpu.yaml; --config configs/METHOD/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_gpu
need_dataset
DATASET=$WORD
take_method distill train retrain finetune
no_more_words
find_python
for STEP in distill train retrain finetune; do
    if [[ -f $ROOT/$METHOD/$STEP.py ]]; then break; fi
done
if ! has_flag arch && ! has_flag networks; then
    folder=$(lookup folder "$METHOD" search "$DATASET" "$(space_of ${FLAGS[@]+"${FLAGS[@]}"})")
    if [[ ! -f $folder/result.json ]]; then
        say "no search on $DATASET yet ($folder): searching first"
        shared_flags
        if [[ $METHOD == dna ]]; then need_supernet "$DATASET"; fi
        run_step search --data "$DATASET" ${SHARED[@]+"${SHARED[@]}"}
    fi
fi
run_step "$STEP" --data "$DATASET" ${FLAGS[@]+"${FLAGS[@]}"}
