#!/usr/bin/env bash
# Meta-train a method's models.
USAGE='usage: bash script/run_meta_train.sh [GPU] [METHOD] [DATASET] [flags]

dass: meta-trains the predictor on the database that comes with the repository, or on another one (--database DIR).
metad2a: meta-trains the generator and then the predictor, or one of them (--model), on the database of the default
sources, which is collected first where it is not there, or on another one (--database FILE).
dna: trains the supernet on a dataset, with the preset its teacher first where there is none.
tans: builds the zoo of the default sources where there is none (exp/tans/zoo), and learns the encoders from it, or from
another one (--zoo DIR).

  GPU     cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  METHOD  dass (default), dna, metad2a or tans
  DATASET dna only: a name or a folder of class folders; CIFAR-10 where none is given
  flags   all that begins with --, or stands behind a --, goes to the step: python -m METHOD meta-train --help lists
          them. The preset is configs/METHOD/cpu.yaml; --config configs/METHOD/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
take_method meta_train
DATASET=cifar10
if [[ $METHOD == dna ]] && next_word; then DATASET=$WORD; fi
no_more_words
find_python
if [[ $METHOD == dna ]]; then
    train_supernet "$DATASET"
    exit
fi
if [[ $METHOD == tans ]] && ! has_flag zoo && ! has_flag model-zoo && [[ ! -f exp/tans/zoo/zoo.db ]]; then
    say "no zoo yet: building that of the default sources first"
    shared_flags
    run_step build-zoo ${SHARED[@]+"${SHARED[@]}"}
fi
if [[ $METHOD != metad2a ]]; then
    run_step meta-train ${FLAGS[@]+"${FLAGS[@]}"}
    exit
fi
case $(space_of ${FLAGS[@]+"${FLAGS[@]}"}) in
    mobilenetv3) default=exp/metad2a/collect/mobilenetv3-tiny_imagenet/database.safetensors ;;
    *) default=exp/metad2a/collect/cifar100-tiny_imagenet/database.safetensors ;;
esac
if ! has_flag database && [[ ! -f $default ]]; then
    say "no database of the default sources yet: collecting first"
    shared_flags
    run_step collect ${SHARED[@]+"${SHARED[@]}"}
fi
if has_flag model || has_flag model-name; then
    run_step meta-train ${FLAGS[@]+"${FLAGS[@]}"}
    exit
fi
if has_flag out; then
    misuse "--out is the folder of one run, and these are two: name one of the models, --model generator or predictor"
fi
for model in generator predictor; do
    run_step meta-train --model "$model" ${FLAGS[@]+"${FLAGS[@]}"}
done
