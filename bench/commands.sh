#!/bin/bash
# What the commands cost on this machine: times by hyperfine (median of at least 100 runs), memory as the kernel counts it.
#
#   commands.sh PROGRAM           as root
set -euo pipefail

. "$(dirname "$0")/surroundings.sh"

# A link that leads out, as a host has one; nobody is at its other end.
mkdir -p /run/netns
mount -t tmpfs none /run/netns
ip link set lo up
ip link add eth0 type veth peer name far
ip addr add 10.99.0.1/24 dev eth0
ip link set eth0 up
ip link set far up
ip route add default via 10.99.0.2

# pss PID: proportional set size in KiB.
pss() {
    awk '$1 == "Pss:" { print $2 }' "/proc/$1/smaps_rollup"
}

heading
measure 'cocker -s containers, none' '1 ms' 'cocker -s containers'
cocker -a install_test >/dev/null
cocker -a create -m test -c bench >/dev/null
measure 'boot to ready, HOST' '5 ms' \
    --prepare "sh -c 'cocker -a shutdown -c bench >/dev/null 2>&1 || true'" 'cocker -a boot -c bench'
measure 'shutdown of a willing container' '5 ms' \
    --prepare "sh -c 'cocker -a boot -c bench >/dev/null 2>&1 || true'" 'cocker -a shutdown -c bench'
cocker -a create -m test -c bridged --net BRIDGE --port-mapping 8080:80 >/dev/null
measure 'boot to ready, BRIDGE with a port mapping' '8 ms' \
    --prepare "sh -c 'cocker -a shutdown -c bridged >/dev/null 2>&1 || true'" 'cocker -a boot -c bridged'
measure 'shutdown of a willing container, BRIDGE' '5 ms' \
    --prepare "sh -c 'cocker -a boot -c bridged >/dev/null 2>&1 || true'" 'cocker -a shutdown -c bridged'
life='cocker create -m test -c life --net BRIDGE --port-mapping 8081:80 && cocker boot life && cocker run life -- true &&'
measure 'create, boot, run true, shutdown, destroy, BRIDGE' '25 ms' --prepare true \
    "sh -c '$life cocker shutdown life && cocker destroy life'"
cocker -a boot -c bench >/dev/null 2>&1 || true
measure 'run true in a booted container' '2 ms' 'cocker run bench -- true'
measure 'run --cmd true, through the shell' '' 'cocker -a run -c bench --cmd true'

init=$(cocker -s containers | sed -n 's/.*RUNNING(\([0-9]*\)).*/\1/p')
supervisor=$(awk '$1 == "PPid:" { print $2 }' "/proc/$init/status")
printf '%-50s %9d KiB %26s\n' 'memory of a booted idle container (Pss)' "$(($(pss "$init") + $(pss "$supervisor")))" '128 KiB'
cocker -a shutdown -c bench >/dev/null
measure 'create and destroy' '' --prepare true "sh -c 'cocker -a create -m test -c second && cocker -a destroy -c second'"
for n in $(seq 1000); do
    cocker -a create -m test -c "many-$n" >/dev/null
done
measure 'cocker -s containers, 1,000' '15 ms' 'cocker -s containers'

# So many images as records alone: listing does not look at layers.
many=$place/many
mkdir -m 700 "$many"
record=$(cat "$COCKER_HOME/images/test/_/image.json")
seq -f "$many/images/image-%.0f/1.0" 10000 | xargs mkdir -p
for folder in "$many"/images/*/1.0; do
    printf '%s\n' "$record" >"$folder/image.json"
done
# What has just been written is read anew each time; a moment later it is known.
sleep 3
(
    export COCKER_HOME=$many
    measure 'cocker images, 10,000' '50 ms' 'cocker images'
    measure 'the same, every record read' '' --prepare "rm -f $many/images.cache" 'cocker images'
)
