#!/usr/bin/env bash
# Meta-train a method's models.
USAGE='usage: bash script/run_meta_train.sh [GPU] [METHOD] [flags]

dass: meta-trains the predictor on the database that comes with the repository, or on another one (--database DIR).
metad2a: meta-trains the generator and then the predictor, or one of them (--model), on the database of the default
sources, which is collected first where it is not there, or on another one (--database FILE).

  GPU     cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  METHOD  dass (default) or metad2a
  flags   all that begins with --, or stands behind a --, goes to the step: python -m METHOD meta-train --help lists
          them. The preset is configs/METHOD/cpu.yaml; --config configs/METHOD/paper.yaml takes the published settings'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
take_method meta_train
no_more_words
find_python
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
