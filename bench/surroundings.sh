# Sourced by what measures commands, with the program as the first argument: an own mount and network namespace, an own
# store below $place, all of it gone afterwards; and how figures are taken and printed.

if [ "$(id -u)" -ne 0 ]; then
    echo "Error: containers are booted by root: run this with sudo" >&2
    exit 1
fi
program=$(realpath "${1:?usage: $0 PROGRAM}")
if [ -z "${COCKER_BENCH_INSIDE:-}" ]; then
    COCKER_BENCH_INSIDE=1 exec unshare --mount --net --propagation private -- "$0" "$program"
fi

# What other programs keep in places that no option moves goes with the namespace.
for folder in /run /dev/shm /var/lib; do
    mount -t tmpfs none $folder
done
place=$(mktemp -d /var/tmp/cocker-bench-XXXXXX)
export COCKER_HOME=$place/home COCKER_CGROUP=${place##*/}
mkdir -m 700 "$COCKER_HOME"
mkdir "$place/bin"
ln -s "$program" "$place/bin/cocker"
PATH=$place/bin:$PATH

clear_away() {
    for container in $(cocker -s containers -q 2>/dev/null); do
        cocker -a destroy -h -f -c "$container" >/dev/null 2>&1 || true
    done
    for folder in /sys/fs/cgroup/"$COCKER_CGROUP" /sys/fs/cgroup/unified/"$COCKER_CGROUP"; do
        rmdir "$folder" 2>/dev/null || true
    done
    rm -rf "$place"
}
trap clear_away EXIT

heading() {
    printf '%-50s %12s %12s   %s\n' 'what' 'median' 'least' 'target'
}

# measure WHAT TARGET [HYPERFINE OPTION…] COMMAND: prints one line of the table.
measure() {
    local what=$1 target=$2
    shift 2
    hyperfine -N --style none --warmup 5 --min-runs 100 --export-csv "$place/figures.csv" "$@" >/dev/null 2>"$place/complaints" || {
        cat "$place/complaints" >&2
        exit 1
    }
    # command,mean,stddev,median,user,system,min,max in seconds; a command may hold commas, so count from the end.
    awk -F, -v what="$what" -v target="$target" \
        'NR == 2 { printf "%-50s %9.2f ms %9.2f ms   %s\n", what, $(NF - 4) * 1000, $(NF - 1) * 1000, target }' "$place/figures.csv"
}

# milliseconds COMMAND…: what it took, by the clock.
milliseconds() {
    local start
    start=$(date +%s%N)
    "$@" >/dev/null 2>"$place/complaints" || {
        cat "$place/complaints" >&2
        exit 1
    }
    echo $((($(date +%s%N) - start) / 1000000))
}
