#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# 200 epochs of SimCLR on CIFAR-10 on a GPU, with MSR and without, and what linear probe and 5-nn say.
#
#     sh benchmarks/cifar10_200_epochs.sh CIFAR10 OUT [further options of iclmsr pretrain]
#
# CIFAR10 has the official files or archive. A run that was stopped goes on.
set -eu
[ $# -ge 2 ] || { echo "usage: sh $0 CIFAR10 OUT [options of iclmsr pretrain]" >&2; exit 2; }
root=$1 out=$2
shift 2
for recipe in simclr-cifar10 simclr-msr-cifar10; do
  run=$out/$recipe
  if [ -e "$run" ]; then
    iclmsr pretrain --resume "$run"
  else
    iclmsr pretrain "$recipe" --data.root "$root" --out "$run" --epochs 200 --batch-size 512 \
      --precision bf16 --compile --device cuda "$@"
  fi
  iclmsr evaluate "$run"
done
