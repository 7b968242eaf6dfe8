#!/usr/bin/env bash
# Grade a class on a Slurm cluster, a part of it on each of several machines, into one folder that all of them see:
#
#   sbatch --array=1-8 classroom/grade-array.sh submissions report
#
# and when all have ended, the grades of all, in seconds (what a lost part left out is graded here):
#
#   gptlib grade submissions --out report
#
# A part that failed can be run again alone: sbatch --array=3 --export=ALL,PARTS=8 classroom/grade-array.sh submissions report
# Without Slurm, PART and PARTS say the same: PART=1 PARTS=2 classroom/grade-array.sh submissions report
#SBATCH --job-name=inside-gpt-grade
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=02:00:00
set -euo pipefail

if (($# < 2)); then
    echo "usage: grade-array.sh SUBMISSIONS REPORT [further options of gptlib grade]" >&2
    exit 2
fi
part=${PART:-${SLURM_ARRAY_TASK_ID:?no part is named; give PART and PARTS, or start it with sbatch --array=1-N}}
parts=${PARTS:-${SLURM_ARRAY_TASK_COUNT:?no number of parts; give PARTS, or start it with sbatch --array=1-N}}
exec gptlib grade "$1" --out "$2" --part "$part/$parts" --jobs "${SLURM_CPUS_PER_TASK:-$(nproc)}" "${@:3}"
