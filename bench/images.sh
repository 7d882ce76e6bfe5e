#!/bin/bash
# What images cost on this machine: conversions of a large layer, names, listings, and archives beside tar and podman.
#
#   images.sh PROGRAM           as root
#
# The archives are of a Debian root file system, $COCKER_TEST_CACHE/debian-bookworm (/var/cache/cocker-tests), which the tests
# make; without one they are left out, as is podman where it is not installed. It takes 14 GB of /var/tmp, and some minutes.
set -euo pipefail
. "$(dirname "$0")/surroundings.sh"
ip link set lo up

files=$COCKER_HOME/containers
debian=${COCKER_TEST_CACHE:-/var/cache/cocker-tests}/debian-bookworm

# memory WHAT TARGET COMMAND…: prints the most that was resident, as the kernel counted it.
memory() {
    local what=$1 target=$2
    shift 2
    /usr/bin/time --format %M --output "$place/most" "$@" >/dev/null
    printf '%-50s %9d KiB %26s\n' "$what" "$(tail -n 1 "$place/most")" "$target"
}

large_layer() {
    cocker create -m test -c big >/dev/null
    (
        cd "$files/big/files/upper"
        mkdir -p data/{0..199}
        for folder in data/*; do
            (cd "$folder" && seq 1000 | xargs touch)
        done
        for part in 1 1 3; do
            dd if=/dev/zero of="$(mktemp data/part-XXXX)" bs=1M count=$((part * 1024)) status=none
        done
    )
    printf '%-50s %9d ms\n' 'bringing 200,000 files and 5 GB to disk, apart' "$(milliseconds sync -f "$COCKER_HOME")"
    # So that its size is known.
    cocker boot big >/dev/null
    cocker shutdown big >/dev/null
}

conversions() {
    local there='cocker to-image --from-container big --to-image big' back='cocker to-container --from-image big --to-container big'
    measure 'to-image, 200,000 files, 5 GB' '5 ms' --prepare "sh -c '$back || true'" "$there"
    $back >/dev/null
    measure 'to-container, the same' '5 ms' --prepare "sh -c '$there || true'" "$back"
    $there >/dev/null
}

names() {
    local copy='cocker copy-image --from-image test --to-image copy' remove='cocker rm-image copy'
    measure 'copy-image' '5 ms' --prepare "sh -c '$remove || true'" "$copy"
    measure 'rm-image, the layers stay' '10 ms' --prepare "sh -c '$copy || true'" "$remove"
    local make='cocker create -m test -c small && cocker to-image --from-container small --to-image small'
    measure 'rm-image, a layer goes' '10 ms' --prepare "sh -c '$make'" 'cocker rm-image small'
    measure 'create' '' --prepare "sh -c 'cocker destroy made || true'" 'cocker create -m test -c made'
    measure 'destroy' '' --prepare "sh -c 'cocker create -m test -c made || true'" 'cocker destroy made'
}

stacks() {
    for image in one two; do
        cocker create -m test,big -c $image >/dev/null
        mkdir -p "$files/$image/files/upper/data/7"
        for file in $(seq 100); do
            echo "$image" >"$files/$image/files/upper/data/7/$file"
        done
        cocker to-image --from-container $image --to-image $image >/dev/null
    done
    measure 'history' '' 'cocker history one'
    measure 'diff of two images on one base of 200,000 files' '' 'cocker diff one two'
    measure 'whence' '' 'cocker whence one /data/7/77'
}

# beside ROUNDS SIZE NAME COMMAND [NAME COMMAND]…: the least time of each and its MB/s, in alternating rounds. A command finds an
# empty folder as the current one.
beside() {
    local rounds=$1 size=$2 round at took
    shift 2
    local -a what=("$@") least=()
    for round in $(seq "$rounds"); do
        for ((at = 0; at < ${#what[@]}; at += 2)); do
            mkdir "$place/here"
            cd "$place/here"
            took=$(milliseconds sh -c "${what[at + 1]}")
            cd /
            rm -rf "$place/here"
            least[at]=$((round == 1 || took < ${least[at]:-0} ? took : least[at]))
        done
        # Each import finds its name free.
        for image in $(cocker images -q); do
            case $image in debian-*) cocker rm-image "$image" >/dev/null ;; esac
        done
    done
    for ((at = 0; at < ${#what[@]}; at += 2)); do
        printf '%-50s %9d ms %7d MB/s\n' "${what[at]}" "${least[at]}" $((size / 1000 / (least[at] ? least[at] : 1)))
    done
}

archives() {
    local tars=$place/tars size form
    mkdir "$tars"
    tar -cf "$tars/debian.tar" -C "$debian" .
    size=$(stat -c %s "$tars/debian.tar")
    cocker import --allow-devices -m debian "$tars/debian.tar" >/dev/null
    # Once, since the layer's digest is counted with the first export.
    printf '%-50s %9d ms\n' 'the first export, with the digest' \
        "$(milliseconds cocker export debian --compress zstd --image-file "$tars/debian.zst.cockerimage")"
    cocker export debian --compress gzip --image-file "$tars/debian.gz.cockerimage" >/dev/null
    cocker export debian --compress none --image-file "$tars/debian.none.cockerimage" >/dev/null
    local tree
    tree=$(echo "$COCKER_HOME"/layers/"$(cocker history debian -q | head -n 1)"*/tree)
    # tar leaves what it writes to the kernel, while an image is on disk when it is said to be there.
    beside 3 "$size" \
        'export, gzip' 'cocker export debian --compress gzip --image-file out' \
        'tar -czf, sync' "tar -czf out -C $tree . && sync out" \
        'export, zstd' 'cocker export debian --compress zstd --image-file out' \
        'tar --zstd -cf, sync' "tar --zstd -cf out -C $tree . && sync out" \
        'export, plain' 'cocker export debian --compress none --image-file out' \
        'tar -cf, sync' "tar -cf out -C $tree . && sync out" \
        'import, gzip' "cocker import --allow-devices -m debian-gz $tars/debian.gz.cockerimage" \
        'tar -xzf, sync' "tar -xzf $tars/debian.gz.cockerimage && sync -f ." \
        'import, zstd' "cocker import --allow-devices -m debian-zst $tars/debian.zst.cockerimage" \
        'tar --zstd -xf, sync' "tar --zstd -xf $tars/debian.zst.cockerimage && sync -f ." \
        'import, plain' "cocker import --allow-devices -m debian-none $tars/debian.none.cockerimage" \
        'tar -xf, sync' "tar -xf $tars/debian.none.cockerimage && sync -f ." \
        'tar -xf' "tar -xf $tars/debian.none.cockerimage"
    if command -v podman >/dev/null; then
        local podman="podman --root $place/podman --runroot $place/podman-run --storage-driver vfs"
        beside 1 "$size" \
            'podman import' "$podman import -q $tars/debian.tar debian" \
            'podman save' "$podman save -q -o $tars/saved.tar debian" \
            'podman load, of what it has' "$podman load -q -i $tars/saved.tar" \
            'podman load' "$podman rmi -af && $podman load -q -i $tars/saved.tar"
    fi
    for form in gzip zstd; do
        memory "memory of an export, $form" '65536 KiB' cocker export debian --compress $form --image-file "$tars/$form"
        memory "memory of an import, $form" '65536 KiB' cocker import --allow-devices -m debian-$form "$tars/$form"
    done
}

one_large_file() {
    cocker create -m test -c large >/dev/null
    dd if=/dev/zero of="$files/large/files/upper/file" bs=1M count=3072 status=none
    cocker to-image --from-container large --to-image large >/dev/null
    memory 'memory of an export of a file of 3 GB' '65536 KiB' cocker export large --compress zstd --image-file "$place/large"
    memory 'memory of its import' '65536 KiB' cocker import --no-base -m large-too "$place/large"
}

cocker install-test >/dev/null
heading
names
large_layer
conversions
stacks
cocker rm-image one >/dev/null
cocker rm-image two >/dev/null
cocker rm-image big >/dev/null
if [ -d "$debian" ]; then
    archives
else
    echo "no archives: there is no $debian"
fi
one_large_file
