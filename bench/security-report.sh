#!/bin/bash
# What is open to root inside: in containers of ours beside those of docker, podman and systemd-nspawn, as they are made where
# nothing is said. Prints one table, as Markdown.
#
#   security-report.sh PROGRAM SCANNER TABLE        as root
#
# SCANNER is the attacking program of the isolation tests, which scans from inside; TABLE, examples/security-table.rs, compares.
# Every engine gets the same root file system, in which there is nothing else. Engines have their own data folders and
# namespaces; none has a network, and nothing is left. One that cannot run here says so itself in its column.
set -euo pipefail

# Handed on through the new namespaces, which know only the program.
export SCANNER=${SCANNER:-$(realpath "${2:?usage: $0 PROGRAM SCANNER TABLE}")}
export TABLE=${TABLE:-$(realpath "${3:?usage: $0 PROGRAM SCANNER TABLE}")}
. "$(dirname "$0")/surroundings.sh"
ip link set lo up
for folder in /tmp /var/log /var/cache; do
    mount -t tmpfs none $folder
done

scans=$place/scans
root=$place/root
tar=$place/root.tar
daemon=
unified=/sys/fs/cgroup/unified

clear_away_engines() {
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [ -d $unified ] && ! mountpoint -q $unified; then
        mount -t cgroup2 none $unified 2>/dev/null || true
    fi
    # What an engine has mounted is gone with the namespace; folders below a mount point are not removed through it.
    awk -v place="$place/" 'index($5, place) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do
        umount -l "$mount" 2>/dev/null || true
    done
    clear_away
    for folder in /sys/fs/cgroup/"$COCKER_CGROUP" /sys/fs/cgroup/*/"$COCKER_CGROUP"; do
        if [ -d "$folder" ]; then
            find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
        fi
    done
}
trap clear_away_engines EXIT

# scan NAME HEADING VERSION COMMAND…: what the command prints is a scan; else the last thing that it complained of is kept.
scan() {
    local name=$1 heading=$2 version=$3
    shift 3
    printf '%s\n%s\n' "$heading" "$version" >"$scans/$name.head"
    echo "scanning in $heading" >&2
    if ! timeout -k 5 90 "$@" >"$scans/$name.scan" 2>"$scans/$name.complaints" </dev/null; then
        grep -v '^$' "$scans/$name.complaints" | tail -n 1 >"$scans/$name.why"
        [ -s "$scans/$name.why" ] || echo 'ended without a word' >"$scans/$name.why"
    fi
}

minimal_root() {
    mkdir -p "$scans" "$root"/{proc,sys,dev,run,tmp,root,usr/lib,etc}
    cp "$SCANNER" "$root/scanner"
    printf 'ID=none\n' >"$root/etc/os-release"
    printf 'root:x:0:0::/root:/scanner\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    tar -C "$root" -cf "$tar" .
}

ours() {
    local version
    version=$(cocker -v | cut -d ' ' -f 2)
    cocker import --no-base -m scanned "$tar" >/dev/null
    local number=1 options
    for options in '' --hardened --privileged; do
        # shellcheck disable=SC2086
        cocker create -m scanned -c "c$number" $options -b >/dev/null
        scan "$number-cocker" "cocker${options:+ $options}" "$version" cocker run "c$number" -- /scanner scan
        cocker destroy --shutdown -f "c$number" >/dev/null
        number=$((number + 1))
    done
}

docker_scan() {
    local docker="docker --host unix://$place/docker.sock" socket=$place/docker.sock
    if ! command -v dockerd >/dev/null; then
        return
    fi
    printf '{}' >"$place/docker.json"
    dockerd --config-file "$place/docker.json" --host "unix://$socket" --data-root "$place/docker" --exec-root "$place/docker-run" \
        --pidfile "$place/docker.pid" --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
        --cgroup-parent "/$COCKER_CGROUP" --exec-opt native.cgroupdriver=cgroupfs >"$place/docker.log" 2>&1 &
    daemon=$!
    # It says nothing when it listens, so it is asked.
    local tries=0
    until $docker version >/dev/null 2>&1 || [ $tries -eq 150 ] || ! kill -0 $daemon 2>/dev/null; do
        sleep 0.2
        tries=$((tries + 1))
    done
    $docker import "$tar" scanned >/dev/null 2>"$place/complaints" || cp "$place/docker.log" "$place/complaints"
    # shellcheck disable=SC2086
    scan 4-docker docker "$($docker version --format '{{.Server.Version}}' 2>/dev/null || docker --version)" \
        $docker run --rm --network none scanned /scanner scan
    kill $daemon
    wait $daemon || true
    daemon=
}

podman_scan() {
    if ! command -v podman >/dev/null; then
        return
    fi
    local podman="podman --root $place/podman --runroot $place/podman-run --storage-driver vfs --cgroup-manager cgroupfs"
    local version
    version=$(podman --version)
    # No limit is raised, since not every root may do that, and for a user no cgroup is made, since where v1 is mounted crun makes
    # none. Nothing of that is scanned.
    local options='--rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024'
    $podman import -q "$tar" scanned >/dev/null 2>"$place/complaints" || true
    # shellcheck disable=SC2086
    scan 5-podman podman "${version##* }" \
        $podman run $options --cgroup-parent "/$COCKER_CGROUP" scanned /scanner scan

    # For somebody who is made up, in this namespace only.
    local home=$place/somebody user=54321
    mkdir -p "$home/run"
    for file in passwd group subuid subgid; do
        cp "/etc/$file" "$place/$file"
        case $file in
            passwd) echo "somebody:x:$user:$user::$home:/bin/sh" ;;
            group) echo "somebody:x:$user:" ;;
            *) echo 'somebody:3000000000:65536' ;;
        esac >>"$place/$file"
        mount --bind "$place/$file" "/etc/$file"
    done
    chmod 711 "$place"
    chown -R $user:$user "$home"
    local as="setpriv --reuid $user --regid $user --clear-groups env -i PATH=$PATH HOME=$home XDG_RUNTIME_DIR=$home/run"
    podman="podman --root $home/images --runroot $home/run/podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend none"
    (cd "$home" && $as $podman import -q - scanned <"$tar" >/dev/null 2>"$place/complaints") || true
    # shellcheck disable=SC2086
    scan 6-podman 'podman, rootless' "${version##* }" \
        env -C "$home" $as $podman run $options --cgroups disabled scanned /scanner scan
    # The process that keeps its namespaces.
    if [ -s "$home/run/libpod/tmp/pause.pid" ]; then
        kill "$(cat "$home/run/libpod/tmp/pause.pid")" 2>/dev/null || true
    fi
}

nspawn_scan() {
    if ! command -v systemd-nspawn >/dev/null; then
        return
    fi
    local version
    version=$(systemd-nspawn --version | head -n 1 | cut -d ' ' -f 2)
    # It makes cgroups below the one that it finds itself in, and leaves them.
    local folder=$unified
    mountpoint -q $unified || folder=/sys/fs/cgroup
    folder=$folder/$COCKER_CGROUP/nspawn
    mkdir -p "$folder"
    # No systemd need run here to register with; that changes nothing inside.
    # shellcheck disable=SC2016
    scan 7-nspawn 'systemd-nspawn' "$version" \
        bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$folder" \
        systemd-nspawn --quiet --register=no --keep-unit --pipe -D "$root" /scanner scan
}

# crun knows cgroup v1 and v2, not both at a time.
without_unified() {
    if ! mountpoint -q $unified; then
        "$@"
        return
    fi
    umount $unified
    "$@"
    mount -t cgroup2 none $unified
}

minimal_root
ours
docker_scan
without_unified podman_scan
nspawn_scan
if [ -n "${COCKER_REPORT_KEEP:-}" ]; then
    cp -r "$scans" "$COCKER_REPORT_KEEP"
fi
cat <<EOF
# What is open to root inside

A program in a container made without a word, of each engine on the same root file system, opens for writing all files of /proc and
/sys that can be written, makes every system call with arguments that are none, tries what only the machine's root may do, and opens and
makes devices. \`make security-report\` does it again and prints this, and ends with an error where cocker leaves more open than the strictest
of the others and no reason is written down. Linux $(uname -r). A row with a letter is one in which cocker is not the strictest;
why a virtual host needs that stands below. \`cocker --privileged\` is what the scan finds where nothing keeps it off.

The engines are as Debian packages them. docker and podman are given \`--network none\`, podman limits of users that are no higher than the
caller's and, rootless, \`--cgroups disabled\`; systemd-nspawn \`--register=no --keep-unit\`. Calls are counted for x86_64 and i386.

EOF
"$TABLE" "$scans"
