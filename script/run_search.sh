#!/usr/bin/env bash
# Search on unseen datasets.
USAGE='usage: bash script/run_search.sh [GPU] [METHOD] [DATASET ...] [flags]

dass: ranks students of each dataset with a meta-trained predictor; a missing teacher is trained first.
metad2a: generates NAS-Bench-201 cells, or with --space mobilenetv3 networks, for each dataset and ranks them.
tans: retrieves trained networks from the zoo that was built here, else from the shipped one. None of these trains a
candidate.
mfkd: trains a few MobileNetV2 networks cheaply, distilled from a teacher, and fewer of them fully, as a Gaussian process
proposes them; a missing teacher is trained first.
dna: rates the blocks of the supernet of each dataset, which is trained first where there is none, and finds the best
network within --budget.macs, --budget.num-params, ...

  GPU      cpu, auto (the first GPU, the CPU where there is none; the default) or the number of a GPU
  METHOD   dass (default), dna, metad2a, mfkd or tans
  DATASET  names (digits, cub, ...) or folders of class folders; none: those of the published ones (dass: cub, dtd,
           quickdraw, stanford_cars; dna: that of the preset, CIFAR-10; metad2a: cifar10, cifar100, mnist, svhn,
           aircraft, pets; mfkd: cifar10, cifar100; tans: cifar10, mnist, dtd) that are in the data root (--data-root,
           NAS_DATA or ./dataset), or digits where none is
  flags    all that begins with --, or stands behind a --, goes to the step: python -m METHOD search --help lists them.
           The preset is configs/METHOD/cpu.yaml; --config configs/METHOD/paper.yaml takes the published settings, and
           needs models that were meta-trained with them (dass: --predictor FILE, metad2a: --pair DIR, tans: --zoo DIR)'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

split_arguments "$@"
take_optional_gpu
METHOD=dass
if [[ ${WORDS[0]:-} != */* ]]; then take_method search; fi # a path in its place is a dataset
find_python
if ((${#WORDS[@]} == 0)) && [[ $METHOD == dna ]]; then WORDS=(cifar10); fi
if ((${#WORDS[@]} == 0)); then
    present=$(lookup present "$METHOD")
    for dataset in ${present:-digits}; do WORDS+=("$dataset"); done
    say "datasets: ${WORDS[*]}"
fi
if ((${#WORDS[@]} > 1)) && has_flag out; then
    misuse "--out is the folder of one search, and these are ${#WORDS[@]}: ${WORDS[*]}"
fi
for dataset in "${WORDS[@]}"; do
    if [[ $METHOD == dna ]] && ! has_flag ratings; then need_supernet "$dataset"; fi
    run_step search --data "$dataset" ${FLAGS[@]+"${FLAGS[@]}"}
done
