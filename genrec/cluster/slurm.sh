# Submitted from the checkout, which is on the shared file system, as is the work directory.
cd "$SLURM_SUBMIT_DIR"
set_up
if [ ! -f .venv/bin/activate ]; then
  echo "$name: $PWD has no .venv. Submit from the checkout, after: bash -c 'source launch/environment.sh; environment cuda'" >&2
  exit "$failed"
fi
# shellcheck disable=SC1091
source .venv/bin/activate
export PYTHONUNBUFFERED=1

# The time limit signals the processes only. A signal to this script, too, ends the job: scancel, or a preemption, after
# which Slurm itself requeues the job.
ended=""
trap 'ended=1' TERM

# The exit of one process must not kill the others, which may still be writing the checkpoint.
code=0
srun --kill-on-bad-exit=0 ${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"} "${command[@]}" || code=$?

crashes_file="$name-$SLURM_JOB_ID.crashes"
if [ "$code" = 0 ] || [ "$code" = "$failed" ] || [ -n "$ended" ]; then
  rm -f "$crashes_file"
  echo "$name: ended with exit code $code" >&2
  exit "$code"
fi
if [ "$code" != "$restart" ]; then
  crashes=$(($(cat "$crashes_file" 2>/dev/null || echo 0) + 1))
  echo "$crashes" >"$crashes_file"
  if [ "$crashes" -gt "$restarts" ]; then
    echo "$name: crash number $crashes, with exit code $code; not restarted (--restarts=$restarts)" >&2
    rm -f "$crashes_file"
    exit "$code"
  fi
fi
echo "$name: ended with exit code $code; requeued" >&2
scontrol requeue "$SLURM_JOB_ID"
