poll="${GENREC_POLL_SECONDS:-30}"
scratch="$(mktemp -d)"

say() {
  echo "$(date -u '+%F %T') $name: $*" >&2
}

# --- Functions that run on the hosts, where they are sent as text, with the variables that they read.

# Sends SIGTERM to the command and waits until it has saved a checkpoint. It still runs after a lost connection, and only
# one process can use the TPU.
stop_here() {
  local pid
  pid="$(cat ~/genrec.pid 2>/dev/null || true)"
  if [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; then
    for _ in $(seq 120); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 1
    done
    kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f ~/genrec.pid
}

# shellcheck disable=SC2329 # called by its name on the hosts
install_here() {
  set -euo pipefail
  apt() { sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }
  mkdir -p ~/genrec
  cd ~/genrec
  # The virtual environment is kept when a host is set up again.
  find . -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
  tar -xzf ~/genrec.tar.gz
  if ! command -v python3.12 >/dev/null; then
    sudo add-apt-repository -y ppa:deadsnakes/ppa
    apt install -y python3.12 python3.12-venv
  fi
  # shellcheck disable=SC1091
  source launch/environment.sh
  PYTHON=python3.12 environment tpu,gcs
  if [ -z "$bucket" ] || mountpoint -q "$mount"; then
    return
  fi
  if ! command -v gcsfuse >/dev/null; then
    local key=/usr/share/keyrings/cloud.google.asc
    curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" >/dev/null
    echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    apt update
    apt install -y gcsfuse
  fi
  sudo mkdir -p "$mount"
  sudo chown "$(id -u)" "$mount"
  # No metadata cache: each host sees at once what the others write.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 "$bucket" "$mount"
}

# shellcheck disable=SC2329 # called by its name on the hosts
run_here() {
  local code=0
  stop_here
  cd ~/genrec || return
  # shellcheck disable=SC1091
  source .venv/bin/activate
  export PYTHONUNBUFFERED=1
  "${command[@]}" &
  echo $! >~/genrec.pid
  wait $! || code=$?
  rm -f ~/genrec.pid
  # Through the output: the exit code of ssh to several hosts does not tell that of each host.
  echo "genrec-exit-code: $code"
}

# --- Functions that run here.

queued() {
  gcloud compute tpus queued-resources "$1" "$name" "${where[@]}" "${@:2}"
}

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all \
    --command="$(declare -p bucket mount command); $(declare -f stop_here install_here run_here); $1"
}

request_state() {
  queued describe --format='value(state.state)' 2>/dev/null || echo ABSENT
}

slice_state() {
  gcloud compute tpus tpu-vm describe "$name" "${where[@]}" --format='value(state)' 2>/dev/null || echo ABSENT
}

ready() {
  [ "$(request_state) $(slice_state)" = "ACTIVE READY" ]
}

pack_checkout() {
  if [ ! -f launch/environment.sh ] || [ ! -f setup.py ]; then
    say "$PWD is not a checkout of genrec. Start this script in one."
    exit "$failed"
  fi
  # All files that git tracks or would add, with uncommitted changes.
  git ls-files -z --cached --others --exclude-standard |
    tar --create --gzip --null --files-from=- --file="$scratch/genrec.tar.gz"
}

get_slice() {
  until ready; do
    case "$(request_state) $(slice_state)" in
      ABSENT*)
        say "requesting a slice"
        queued create --node-id="$name" "${create[@]}"
        ;;
      FAILED*)
        queued describe >&2 || true
        say "the request failed, see above. Quota and capacity are per zone, generation and kind (spot or not)."
        exit "$failed"
        ;;
      SUSPEND* | "ACTIVE PREEMPTED" | "ACTIVE TERMINATED" | "ACTIVE ABSENT")
        say "the slice was preempted"
        queued delete --force --quiet
        continue
        ;;
    esac
    sleep "$poll"
  done
}

install_checkout() {
  say "installing on $hosts host(s)"
  gcloud compute tpus tpu-vm scp "$scratch/genrec.tar.gz" "$name:genrec.tar.gz" "${where[@]}" --worker=all &&
    on_all_hosts install_here
}

# Runs the command on all hosts; sets `codes` to the exit codes of the hosts that reported one, one per line.
run_everywhere() {
  say "running on $hosts host(s)"
  on_all_hosts run_here 2>&1 | tee "$scratch/log" || true
  codes="$(sed -n 's/.*genrec-exit-code: \([0-9][0-9]*\).*/\1/p' "$scratch/log")"
}

finished() {
  [ "$(grep -cx 0 <<<"$codes")" = "$hosts" ]
}

leave() {
  local code=$?
  trap - EXIT INT TERM
  rm -rf "$scratch"
  say "deleting the slice"
  if [ "$(request_state)" != ABSENT ] && ! queued delete --force --quiet; then
    say "the slice is still there and costs money: gcloud compute tpus queued-resources delete $name ${where[*]} --force"
  fi
  exit "$code"
}

# Lets the command save a checkpoint before the slice is deleted.
interrupted() {
  trap - INT TERM
  say "stopping the command"
  on_all_hosts stop_here || true
  exit "$restart"
}

pack_checkout
trap leave EXIT
trap interrupted INT TERM
crashes=0
installed=""
while true; do
  codes=""
  if ! ready; then
    installed=""
    get_slice
  fi
  if [ -n "$installed" ] || install_checkout; then
    installed=1
    run_everywhere
  fi
  if finished; then
    say "finished"
    exit 0
  fi
  sleep "$poll"
  if ! ready; then
    continue # a preemption, whatever the exit codes
  fi
  if grep -qx "$failed" <<<"$codes"; then
    say "failed: the message is above"
    exit "$failed"
  fi
  if [ -n "$codes" ] && ! grep -qvx "$restart" <<<"$codes"; then
    continue
  fi
  crashes=$((crashes + 1))
  codes="${codes//$'\n'/ }"
  say "crash number $crashes (exit codes: ${codes:-none: no host could be reached})"
  if [ "$crashes" -gt "$restarts" ]; then
    say "not restarted (--restarts=$restarts)"
    exit "$failed"
  fi
done
