#!/bin/bash
# The quick start, before your eyes: from nothing to a shell in a booted container, and back to nothing.
#
#   quick-start.sh PROGRAM        as root
#
# It works on a store and a cgroup folder of its own, in mount and network namespaces of its own, and leaves nothing.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "Error: containers are booted by root: run this with sudo" >&2
    exit 1
fi
program=$(realpath "${1:?usage: quick-start.sh PROGRAM}")
if [ -z "${COCKER_DEMO_INSIDE:-}" ]; then
    COCKER_DEMO_INSIDE=1 exec unshare --mount --net --propagation private -- "$0" "$program"
fi

place=$(mktemp -d /var/tmp/cocker-demo-XXXXXX)
export COCKER_HOME=$place/home COCKER_CGROUP=${place##*/}
mkdir -m 700 "$COCKER_HOME"
mkdir "$place/bin"
ln -s "$program" "$place/bin/cocker"
PATH=$place/bin:$PATH

clear_away() {
    # Only where something went wrong is a container left here.
    for container in $(cocker -s containers -q 2>/dev/null); do
        cocker -a destroy -h -f -c "$container" >/dev/null 2>&1 || true
    done
    for folder in /sys/fs/cgroup/"$COCKER_CGROUP" /sys/fs/cgroup/unified/"$COCKER_CGROUP"; do
        rmdir "$folder" 2>/dev/null || true
    done
    rm -rf "$place"
}
trap clear_away EXIT

# Shows a command as if it was typed, then runs it.
show() {
    local word line='#'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=-]*) line+=" '$word'" ;;
            *) line+=" $word" ;;
        esac
    done
    printf '\n\033[1m%s\033[0m\n' "$line"
    "$@"
}

# Types each of its lines when the container's shell has shown its prompt, as a user would.
type_into_session() {
    local line seen=0 now
    while read -r line; do
        until now=$(grep -aoF '@test /root] ' "$place/screen" | wc -l) && [ "$now" -gt "$seen" ]; do
            sleep 0.05
        done
        seen=$now
        printf '%s\n' "$line"
    done
}

printf 'A container engine for virtual hosts: %s\n' "$(cocker -v)"
show cocker -a install_test
show cocker -s images
show cocker -a create -m test -c test
show cocker -a boot -c test
show cocker -s containers
show cocker -a run -c test --cmd 'hostname; cat /proc/1/comm; cat /proc/self/uid_map'

printf '\n\033[1m# %s\033[0m\n' 'cocker -a attach -c test'
: > "$place/screen"
# A session wants a terminal; script gives it one, whatever this runs on.
printf '%s\n' 'tty' 'echo changed by hand > /root/note' 'ls -l /root' 'exit' | type_into_session |
    TERM=dumb script --quiet --flush --return --command 'cocker -a attach -c test' "$place/screen"

show cocker -a shutdown -c test
show cocker -a boot -c test
show cocker -a run -c test --cmd 'cat /root/note'
show cocker -a shutdown -c test
show cocker -s containers
show cocker -a destroy -c test
printf '\nNothing is left: no process, no mount, no file.\n'
