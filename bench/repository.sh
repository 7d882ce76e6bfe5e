#!/bin/bash
# What it costs to push an image and to pull it, beside sftp(1) with the same file, over an sshd of its own on loopback.
#
#   repository.sh PROGRAM           as root
#
# Two images of 200 MB: one that cannot be compressed, and a Debian root file system, $COCKER_TEST_CACHE/debian-bookworm
# (/var/cache/cocker-tests), which the tests make; without that the first alone.
set -euo pipefail
. "$(dirname "$0")/surroundings.sh"
ip link set lo up
rounds=${COCKER_BENCH_ROUNDS:-7}

serve() {
    mkdir -p "$place/account" "$place/ssh" /run/sshd
    for key in hostkey id; do
        ssh-keygen -q -t ed25519 -N '' -f "$place/ssh/$key"
    done
    cat >"$place/ssh/sshd_config" <<END
Port 2222
ListenAddress 127.0.0.1
HostKey $place/ssh/hostkey
AuthorizedKeysFile $place/ssh/id.pub
StrictModes no
PidFile none
UsePAM no
Subsystem sftp internal-sftp -d $place/account
END
    cat >"$place/ssh/config" <<END
Host images
 HostName 127.0.0.1
 Port 2222
 User root
 IdentityFile $place/ssh/id
 UserKnownHostsFile $place/ssh/known_hosts
END
    echo "[127.0.0.1]:2222 $(cut -d' ' -f1,2 "$place/ssh/hostkey.pub")" >"$place/ssh/known_hosts"
    printf '#!/bin/sh\nexec /usr/bin/ssh -F %s/ssh/config "$@"\n' "$place" >"$place/bin/ssh"
    chmod 755 "$place/bin/ssh"
    /usr/sbin/sshd -D -f "$place/ssh/sshd_config" -E "$place/ssh/log" &
    server=$!
    trap 'kill $server; clear_away' EXIT
    until (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null; do
        kill -0 $server
    done
}

sftp_does() {
    echo "$1" | sftp -q -b - -S "$place/bin/ssh" images
}

# The two parts of a push at the same time, as two programs that share the machine.
at_once() {
    cocker export "$1" --compress "$2" -f --image-file "$place/again.cockerimage" &
    sftp_does "put $3 put.file"
    wait $!
}

# Of the times in milliseconds: median and least.
tell() {
    local what=$1
    shift
    printf '%s\n' "$@" | sort -n | awk -v what="$what" \
        '{ times[NR] = $1 } END { printf "%-50s %9d ms %9d ms\n", what, times[int((NR + 1) / 2)], times[1] }'
}

beside() {
    local image=$1 form=$2 file=$place/file.cockerimage round
    local -a export=() put=() kept=() both=() push=() get=() pull=() import=()
    # Once, since the layer's digest is counted with the first export.
    cocker export "$image" --compress "$form" --image-file "$file"  >/dev/null
    for round in $(seq "$rounds"); do
        rm -rf "$place"/account/* "$place/copy"
        export+=("$(milliseconds cocker export "$image" --compress "$form" -f --image-file "$place/again.cockerimage")")
        put+=("$(milliseconds sftp_does "put $file put.file")")
        kept+=("$(milliseconds sftp_does "put -f $file put.file")")
        both+=("$(milliseconds at_once "$image" "$form" "$file")")
        push+=("$(milliseconds cocker spush "$image" --compress "$form" --srepo images)")
        get+=("$(milliseconds sftp_does "get put.file $place/copy")")
        cocker copy-image --from-image "$image" --to-image kept >/dev/null
        cocker rm-image "$image" >/dev/null
        import+=("$(milliseconds cocker import --allow-devices -m imported "$file")")
        pull+=("$(milliseconds cocker spull --allow-devices "$image")")
        cocker rm-image imported >/dev/null
        cocker rm-image kept >/dev/null
    done
    printf '%s, %s, %d MB in the file\n' "$image" "$form" $(($(stat -c %s "$file") / 1000000))
    tell '  cocker export' "${export[@]}"
    tell '  sftp put of that file' "${put[@]}"
    tell '  the same, brought to the disk (put -f)' "${kept[@]}"
    tell '  export and put at once' "${both[@]}"
    tell '  spush' "${push[@]}"
    tell '  cocker import of that file' "${import[@]}"
    tell '  sftp get of that file' "${get[@]}"
    tell '  spull' "${pull[@]}"
    rm -f "$file" "$place/again.cockerimage"
}

serve
debian=${COCKER_TEST_CACHE:-/var/cache/cocker-tests}/debian-bookworm
mkdir "$place/noise"
head -c 200M /dev/urandom >"$place/noise/noise"
tar -cf "$place/noise.tar" -C "$place/noise" noise
cocker import -m noise "$place/noise.tar" >/dev/null
rm -r "$place/noise" "$place/noise.tar"
printf '%-50s %12s %12s\n' 'what' 'median' 'least'
beside noise none
beside noise gzip
if [ -d "$debian" ]; then
    tar -cf "$place/debian.tar" -C "$debian" .
    cocker import --allow-devices -m debian "$place/debian.tar" >/dev/null
    rm "$place/debian.tar"
    beside debian gzip
    beside debian zstd
fi
